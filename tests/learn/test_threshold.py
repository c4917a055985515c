"""Another threshold for a model: whatever way it is chosen, its origin is stored, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.metadata import EntryPoints
from pathlib import Path

import drawn_images
import golden
import numpy as np
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st

from padim_edge_artifact import Metadata, PadimEdgeError, read_metadata, read_verified
from padim_edge_artifact.calibration import BEST_F1, BY_HAND, behind
from padim_edge_artifact.metadata import MOST_PAST
from padim_edge_learn import set_threshold
from padim_edge_model.calibration import false_alarm_interval, p_value, threshold
from padim_edge_runtime import Detector
from padim_edge_runtime.worth import worth

SOME = read_metadata(golden.WHOLE)


@pytest.fixture(params=[golden.WHOLE, golden.CROPPED], ids=["single file", "with data file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (folder := tmp_path / "model").mkdir()
    return golden.copy(request.param, folder)


def score(model: Path) -> float:
    detector = Detector.load(model, "cpu")
    return float(detector(detector.prepare(drawn_images.good(3))).score[0])


# Choosing


@given(st.floats(1e-4, 0.999))
def test_a_rate_gives_the_threshold_of_the_models_own_scores(rate: float) -> None:
    after = set_threshold.at_rate(SOME, rate)
    assert after.threshold == threshold(SOME.calibration, rate)
    assert after.false_alarm_rate == rate
    assert after.extrapolated == (rate < SOME.calibration.resolution)
    assert after.threshold_rule == SOME.threshold_rule, "the same scores decide"


@given(st.floats(1e-3, 1e6))
def test_a_number_is_stored_with_the_rate_that_the_scores_give_it(value: float) -> None:
    after = set_threshold.by_hand(SOME, value)
    assert (after.threshold, after.threshold_rule) == (value, BY_HAND)
    assert 0 < after.false_alarm_rate < 1
    if (stated := float(p_value(SOME.calibration, value))) < 1 - SOME.calibration.resolution:
        assert after.false_alarm_rate == stated
    assert after.extrapolated == (value > SOME.calibration.scores[-1])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_score_is_refused(value: float) -> None:
    with pytest.raises(PadimEdgeError, match="expected a number above 0"):
        set_threshold.by_hand(SOME, value)


def test_a_rate_after_a_number_names_the_scores_again() -> None:
    """The words for the calibration scores come back with them, also from behind several numbers."""
    by_hand = set_threshold.by_hand(set_threshold.by_hand(SOME, 5.0), 6.0, f"{BEST_F1}x")
    assert set_threshold.at_rate(by_hand, 0.1).threshold_rule == SOME.threshold_rule


def test_the_evidence_says_no_more_than_the_scores_know() -> None:
    n, scores = SOME.calibration.images, SOME.calibration.scores

    def said(value: float) -> str:
        return worth(set_threshold.by_hand(SOME, value))

    most = false_alarm_interval(SOME.calibration, 10 * scores[-1])[1]
    assert f"at most {100 * most:.2g} % (90 % confidence)" in said(10 * scores[-1])
    assert "is an estimate" in said(10 * scores[-1])
    assert "highest score" not in said(10 * scores[-1])
    assert f"All {n} independent good images" in said(scores[0] / 2)
    finest = worth(set_threshold.at_rate(SOME, 0.001))
    assert "the threshold is their highest score" in finest
    assert finest.startswith(f"About {100 * SOME.calibration.resolution:.2g} % of good images"), "and not 0.1 %"
    middle = float(np.median(scores))
    low, high = false_alarm_interval(SOME.calibration, middle)
    assert said(middle).startswith("About 5")
    assert f"between {100 * low:.2g} % and {100 * high:.2g} %" in said(middle)
    assert "estimate" not in said(middle)


def test_inspect_does_not_call_a_number_the_outcome_of_the_scores(model: Path) -> None:
    run("threshold", model, "17.5")
    n = read_metadata(model).calibration.images
    assert f"{n} good images; but the threshold is another one: set by hand" in run("inspect", model)[0]
    assert behind(SOME.calibration, SOME.threshold_rule) == f"{SOME.calibration.images} {SOME.threshold_rule}"


# The way back


def same(a: Metadata, b: Metadata) -> bool:
    names = ("threshold", "threshold_rule", "false_alarm_rate", "extrapolated", "calibration")
    return all(getattr(a, name) == getattr(b, name) for name in names)


@given(st.lists(st.floats(1, 50), min_size=1, max_size=4))
def test_every_step_can_be_taken_back_to_the_first(values: list[float]) -> None:
    states = [SOME]
    for value in values:
        states.append(set_threshold.by_hand(states[-1], value))
    present = states[-1]
    for before in reversed(states[:-1]):
        present = set_threshold.previous(present)
        assert same(present, before)
        assert len(present.history) <= MOST_PAST
    with pytest.raises(PadimEdgeError, match="no earlier threshold"):
        set_threshold.previous(present)
    assert {past.score for past in present.history} == {each.threshold for each in states}, "nothing is lost"


def test_after_a_step_back_a_new_choice_goes_back_to_where_it_was_made() -> None:
    first = set_threshold.previous(set_threshold.by_hand(SOME, 5.0))
    assert same(set_threshold.previous(set_threshold.by_hand(first, 7.0)), SOME)


def test_a_model_without_history_has_no_way_back() -> None:
    with pytest.raises(PadimEdgeError, match="has had no other threshold"):
        set_threshold.previous(SOME)


# Files


def test_only_the_decision_changes(model: Path) -> None:
    before = score(model)
    chosen = set_threshold.by_hand(read_metadata(model), 17.5)
    set_threshold.store(model, chosen)
    after = read_verified(model)
    assert after.threshold == 17.5
    assert dataclasses.replace(after, digests=chosen.digests) == chosen
    assert score(model) == before


def test_a_copy_is_a_pair_of_its_own(model: Path, tmp_path: Path) -> None:
    """In the same folder, in another one, and over another model; the first may then go."""
    before, content = score(model), model.read_bytes()
    (tmp_path / "other").mkdir()
    targets = [model.with_name("copy.onnx"), tmp_path / "other" / "copy.onnx", tmp_path / "other" / model.name]
    for target in targets:
        set_threshold.store(model, set_threshold.by_hand(read_metadata(model), 17.5), target)
        set_threshold.store(model, set_threshold.by_hand(read_metadata(model), 18.5), target)
    assert model.read_bytes() == content
    assert read_verified(model).threshold != 18.5
    data = read_metadata(model).digests.data_file
    for name in (model.name, *([] if data is None else [data])):
        model.with_name(name).unlink()
    for target in targets:
        assert read_verified(target).threshold == 18.5
        assert score(target) == before
        assert Detector.load(target, "cpu").self_test().passed
    pair = {path.name for path in (tmp_path / "other").iterdir()}
    assert len(pair) == 2 * (1 + (content.count(b".data") > 0))


def test_the_copy_of_a_single_file_leaves_no_data_file_of_another_model(tmp_path: Path) -> None:
    target = tmp_path / "copy.onnx"
    set_threshold.store(golden.CROPPED, set_threshold.by_hand(read_metadata(golden.CROPPED), 9.0), target)
    assert (tmp_path / str(read_metadata(target).digests.data_file)).is_file()
    set_threshold.store(golden.WHOLE, set_threshold.by_hand(SOME, 9.0), target)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.onnx"]
    assert read_verified(target).class_name == SOME.class_name


def test_a_copy_onto_itself_stays_a_pair(model: Path) -> None:
    set_threshold.store(model, set_threshold.by_hand(read_metadata(model), 9.0), model.parent / "." / model.name)
    assert read_verified(model).threshold == 9.0
    assert Detector.load(model, "cpu").self_test().passed


def test_a_damaged_model_or_a_folder_as_output_changes_nothing(model: Path, tmp_path: Path) -> None:
    chosen = set_threshold.by_hand(read_metadata(model), 9.0)
    with pytest.raises(PadimEdgeError, match="is a folder, expected the name of the new model file"):
        set_threshold.store(model, chosen, tmp_path)
    content = model.read_bytes()
    model.write_bytes(golden.flipped(content, len(content) // 2, 4))
    with pytest.raises(PadimEdgeError, match="damaged"):
        set_threshold.store(model, chosen, tmp_path / "copy.onnx")
    assert not (tmp_path / "copy.onnx").exists()


# The command


def test_the_command_shows_stores_and_takes_back(model: Path) -> None:
    first = read_metadata(model)
    shown = run("threshold", model)[0]
    assert f"threshold {first.threshold:.2f}" in shown
    assert first.threshold_rule in shown
    told = run("threshold", model, "17.5")[0]
    assert f"threshold 17.50, before {first.threshold:.2f}; set by hand" in told
    assert f"padim-edge threshold {model} --previous" in told
    assert "nothing was changed" in run("threshold", model, "17.5")[0]
    assert len(read_metadata(model).history) == 1
    shown = run("threshold", model)[0]
    assert "origin: set by hand" in shown
    assert f"{first.threshold:.2f}, {first.threshold_rule}" in shown
    run("threshold", model, "--previous")
    assert same(read_verified(model), first)


def test_the_command_writes_json_and_copies(model: Path, tmp_path: Path) -> None:
    first, copy = read_metadata(model), tmp_path / "copy.onnx"
    told = json.loads(run("threshold", model, "--false-alarm-rate", 0.2, "--output", copy, "--json")[0])
    assert (told["model"], told["threshold_before"]) == (str(copy), first.threshold)
    assert told["threshold"] == read_verified(copy).threshold == threshold(first.calibration, 0.2)
    assert told["history"][0]["rule"] == first.threshold_rule
    assert json.loads(run("threshold", copy, "--json")[0]).items() <= told.items()
    assert read_verified(model) == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("17.5", "--previous"), "two thresholds are asked for"),
        (("--output", "x.onnx"), "--output is given, but no new threshold"),
        (("--class", "bottle"), "--class names the labelled images of --best-f1"),
        (("--false-alarm-rate", "0"), "expected a share between 0 and 1"),
        (("nan",), "expected a number above 0"),
        (("--previous",), "has had no other threshold"),
    ],
)
def test_bad_input_gets_a_sentence_and_changes_nothing(model: Path, words: tuple[str, ...], sentence: str) -> None:
    content = model.read_bytes()
    assert sentence in run("threshold", model, *words, code=1)[1]
    assert model.read_bytes() == content


def test_without_the_toolkit_best_f1_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("padim_edge_learn.cli.threshold.entry_points", lambda group: EntryPoints())  # noqa: ARG005
    assert "install padim-edge" in run("threshold", model, "--best-f1", tmp_path, code=1)[1]


def test_it_needs_neither_onnx_nor_onnxruntime(model: Path) -> None:
    """The device's plain packages suffice, without the extra for updates."""
    code = (
        "import sys\n"
        "for name in ('onnx', 'onnxruntime', 'threadpoolctl', 'torch', 'PIL'): sys.modules[name] = None\n"
        "from padim_edge_learn.cli.threshold import threshold\n"
        "from pathlib import Path\n"
        "threshold(Path(sys.argv[1]), 17.5, device='cpu'); threshold(Path(sys.argv[1]), false_alarm_rate=0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_verified(model).history) == 2


def test_the_threshold_can_still_be_found_without_parsing_json(model: Path) -> None:
    """The programs for C++ and Node read it so, and the format page promises it."""
    run("threshold", model, "17.5")
    assert model.read_bytes().count(b'"threshold":') == 1
