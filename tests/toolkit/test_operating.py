"""Thresholds to choose from: each row says what its own command would do, and the best F1 can be stored."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import golden
import numpy as np
import pytest
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st

import padim_edge
from padim_edge import sample
from padim_edge.datasets import GOOD
from padim_edge.evaluation import operating
from padim_edge.evaluation.metrics import Rate, image_metrics
from padim_edge.evaluation.operating import BEST_F1, RATES, STORED, Origin, operating_points
from padim_edge.evaluation.rows import kind_rows
from padim_edge.model import Model
from padim_edge_artifact import read_metadata
from padim_edge_model.calibration import threshold

SOME = read_metadata(golden.WHOLE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=96, train=24, test_good=5, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    method = padim_edge.preset("edge", backbone="builtin", dims=20, size=64)
    fitted = padim_edge.fit(root, method, class_name="weave", progress=False)
    return fitted.export(root / "weave.onnx", progress=False)


scores_and_labels = st.lists(st.tuples(st.floats(0.5, 50, width=32), st.booleans()), min_size=1, max_size=30)


@settings(deadline=None)  # the first call imports scikit-learn
@given(scores_and_labels)
def test_the_rows_count_what_the_thresholds_of_the_command_would_do(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    best = image_metrics(labels, scores, SOME.threshold).best_f1_threshold
    points = operating_points(SOME, labels, scores, best, Origin())
    names = [STORED, *(f"{100 * each:g} %" for each in RATES), *([] if best is None else [BEST_F1])]
    assert [each.name for each in points] == names
    for point in points:
        false_alarms, misses = (scores > point.threshold)[~labels].sum(), (scores <= point.threshold)[labels].sum()
        assert (point.false_alarm.count if point.false_alarm else 0) == false_alarms
        assert (point.miss.count if point.miss else 0) == misses
    for rate, point in zip(RATES, points[1:], strict=False):
        assert point.threshold == threshold(SOME.calibration, rate)
        assert point.extrapolated == (rate < SOME.calibration.resolution)
    if best is not None:  # without a name for the images the number itself is given, with few digits
        again = float(points[-1].command.split()[-1])
        assert ((scores > again) == (scores > best)).all()


def test_a_command_survives_a_shell() -> None:
    origin = Origin("my models/it's.onnx", ("data set", "--class", "a b"))
    points = operating_points(SOME, np.array([False, True]), np.array([1.0, 2.0]), 1.5, origin)
    assert points[0].command == ""
    assert shlex.split(points[1].command) == [
        "padim-edge", "threshold", "my models/it's.onnx", "--false-alarm-rate", "0.001",
    ]  # fmt: skip
    assert shlex.split(points[-1].command)[3:] == ["--best-f1", "data set", "--class", "a b"]


def test_each_command_of_the_table_stores_its_threshold(
    model: Model, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(run("evaluate", model.path, "--data", root, "--class", "weave", "--json")[0])
    points = told["classes"]["weave"]["operating_points"]
    assert [each["name"] for each in points[1:]] == ["0.1 %", "0.5 %", "1 %", "2 %", "5 %", "10 %", "best F1"]
    shown = run("evaluate", model.path, "--data", root, "--class", "weave")[0]
    for point in points[1:]:
        words = shlex.split(point["command"])
        assert words[:2] == ["padim-edge", "threshold"]
        copy = tmp_path / "copy.onnx"
        run(*words[1:], "--output", copy)
        assert read_metadata(copy).threshold == point["threshold"]
        assert shlex.join(words[3:]) in shown
        again = padim_edge.evaluate(copy, root, class_name="weave", progress=False)
        assert again.kinds[GOOD].count == point["false_alarms"]
        assert sum(each.total - each.count for kind, each in again.kinds.items() if kind != GOOD) == point["misses"]
    rule = read_metadata(tmp_path / "copy.onnx").threshold_rule
    assert rule == f"best F1 on {root.name}, 5 good and {len(sample.DEFECTS['weave'])} anomalous images"


def test_best_f1_without_both_kinds_changes_nothing(model: Model, root: Path, tmp_path: Path) -> None:
    content = model.path.read_bytes()
    folder = tmp_path / "weave" / "test" / "good"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(root / "weave" / "test" / "good")
    (tmp_path / "weave" / "train").symlink_to(root / "weave" / "train")
    told = run("threshold", model.path, "--best-f1", tmp_path, code=1)[1]
    assert "5 good and 0 anomalous test images" in told
    assert "--false-alarm-rate" in told
    assert model.path.read_bytes() == content


def test_in_python_the_points_come_with_the_evaluation(model: Model, root: Path) -> None:
    evaluation = padim_edge.evaluate(model.path, root, class_name="weave", progress=False)
    first, *others = evaluation.operating_points
    assert (first.threshold, first.false_alarm, first.miss) == (
        evaluation.threshold,
        evaluation.image.false_alarm,
        evaluation.image.miss,
    )
    assert others[-1].threshold == evaluation.image.best_f1_threshold
    assert others[-1].command.endswith(f"--best-f1 {shlex.quote(str(root))} --class weave")
    assert "--false-alarm-rate 0.02" in evaluation._repr_html_()
    assert dataclasses.replace(evaluation, detector=None).operating_points == ()


def test_without_data_of_ones_own_the_command_gives_a_number(model: Model) -> None:
    evaluation = padim_edge.evaluate(model, progress=False)
    assert float(evaluation.operating_points[-1].command.split()[-1]) > 0


@pytest.mark.parametrize("count", [3, 24, 300])
def test_many_kinds_are_told_by_those_that_are_missed_most(count: int) -> None:
    kinds = {GOOD: Rate(1, 20, 0.0, 0.3)} | {f"kind {i}": Rate(i % 10, 10, 0.0, 1.0) for i in range(count - 1)}
    rows = list(kind_rows(kinds))
    assert len(rows) <= 25
    assert rows[0][0] == GOOD
    assert sum(int(row[1]) for row in rows) == 20 + 10 * (count - 1), "no image is passed over"
    assert sum(int(row[2].split()[0]) for row in rows) == sum(each.count for each in kinds.values())
    if count == 300:
        assert rows[1][2].startswith("0 ")
        assert rows[-1][0] == "276 more kinds"


def test_no_digit_more_than_needed_is_written() -> None:
    scores = np.array([1.00001, 1.00003, 2.0])
    assert operating._short(1.52345678, scores) == "1.523"
    assert operating._short(1.00002, scores) == "1.00002"
