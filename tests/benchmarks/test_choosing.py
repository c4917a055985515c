"""`python -m benchmarks.presets`: its runs, its file of results, its figures and its tables."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import padim_edge
from benchmarks import presets, report
from benchmarks.choosing import fitting, pages, runs
from benchmarks.choosing.record import Record, Row
from benchmarks.choosing.runs import Model, Run
from padim_edge import sample
from padim_edge.datasets import GOOD, Dataset, from_folder
from padim_edge_artifact import PadimEdgeError

ENVIRONMENT = report.Environment("a cpu", 2, 4.0, "Linux", None, {"numpy": "2"}, "today", "c0ffee", 0.1)
SETTINGS = {"command": "python -m benchmarks.presets", "backbone": "builtin", "size": "64"}
TRAIN, TEST_GOOD = 16, 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    drawn = sample.images("weave", size=64, train=TRAIN, test_good=TEST_GOOD, per_defect=1)
    sample.write(drawn, folder)
    return from_folder(folder, "weave")


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "product_commit", lambda: "abc")


def nothing(_: object) -> list[report.Target]:
    return []


# Runs


def test_every_run_has_a_name_of_its_own_and_the_most_important_come_first() -> None:
    found = runs.all_runs()
    assert len({run.name for run in found}) == len(found)
    first = [(run.class_name, run.images, run.model.name, run.seed) for run in found[:3]]
    assert first == [("screw", None, "free", 0), ("screw", None, "edge", 0), ("bottle", None, "free", 0)]
    assert {run.part for run in found} == {runs.ACCURACY, runs.HALVES, runs.FOOTPRINT}
    for part in (runs.ACCURACY, runs.HALVES):
        assert {run.seed for run in found if run.part == part} == set(runs.SEEDS)


def test_runs_are_chosen_by_patterns() -> None:
    found = runs.matching(runs.all_runs(), ("accuracy screw 20 free*", "footprint*1024*"))
    assert {run.name.rsplit(" seed", 1)[0] for run in found} == {
        "accuracy screw 20 free",
        "accuracy screw 20 free-turned",
        "footprint screw 24 free at 1024",
    }
    assert runs.matching(runs.all_runs(), ()) == runs.all_runs()


def test_methods_are_those_of_the_presets() -> None:
    method = Model("free", "int8", turned=True).method("builtin", 2, 64)
    expected = padim_edge.preset("free", backbone="builtin", seed=2, size=64, precision="int8", turned=True)
    assert method == expected
    assert Model("edge").method("builtin", 0) == padim_edge.preset("edge", backbone="builtin")


# Choice of images


def test_a_choice_depends_on_the_seed_alone_and_larger_ones_hold_smaller_ones(dataset: Dataset) -> None:
    turned = dataclasses.replace(dataset, good=dataset.good[::-1])
    small, same = (fitting.subset(each, 5, 1).good for each in (dataset, turned))
    large, other = fitting.subset(dataset, 9, 1).good, fitting.subset(dataset, 5, 2).good
    assert len(small) == 5
    assert small == same[::-1] == tuple(item for item in dataset.good if item in small)
    assert set(small) < set(large)
    assert set(small) != set(other)
    assert fitting.subset(turned, None, 1) == turned
    with pytest.raises(PadimEdgeError, match="16 good images, expected 17"):
        fitting.subset(dataset, 17, 0)


# Figures


@pytest.mark.slow
def test_figures_are_those_of_a_users_model(dataset: Dataset, tmp_path: Path) -> None:
    method = Model("free").method("builtin", 0, 64)
    found = fitting.accuracy(dataset, method, "auto")
    fitted = padim_edge.fit(dataset, method, progress=False)
    model = fitted.export(tmp_path / "m.onnx", false_alarm_rate=fitting.ASKED, progress=False)
    expected = padim_edge.evaluate(model, dataset, device="cpu", progress=False)
    for key in ("image_auroc", "pixel_auroc", "pro", "miss_rate", "false_alarm_rate"):
        assert found[key] == pytest.approx(getattr(expected, key), abs=1e-6)
    assert found["threshold"] == pytest.approx(model.threshold)
    assert (found["fitted"], found["good"], found["frame"]) == (TRAIN, TEST_GOOD, "64x64")
    assert found["bytes"] == sum(file.stat().st_size for file in tmp_path.glob("m.onnx*"))


@pytest.mark.slow
def test_halves_judge_every_image_that_was_not_fitted(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Dataset] = []
    original = fitting.exported

    def noted(some: Dataset, *others: Any) -> Any:
        seen.append(some)
        return original(some, *others)

    monkeypatch.setattr(fitting, "exported", noted)
    found = [fitting.halves(dataset, Model("free").method("builtin", seed, 64), "auto") for seed in (0, 1)]
    for row in found:
        assert row["fitted"] + row["judged"] == TRAIN + TEST_GOOD
        counts = list(row["alarms"].values())
        assert counts == sorted(counts)
        assert 0 <= counts[0] <= counts[-1] <= row["judged"]
    first, second = ({item.key for item in each.good} for each in seen)
    assert first != second
    assert any("test" in key for key in first)
    assert all(item.kind == GOOD for each in seen for item in each.good)


@pytest.mark.slow
def test_a_footprint_is_that_of_the_files(dataset: Dataset) -> None:
    small, large = (
        fitting.footprint(dataset, Model("free").method("builtin", 0, side), "auto", 1) for side in (64, 96)
    )
    assert small["prototypes"] <= 64 // 8 * 64 // 8 * TRAIN
    assert large["bytes"] > small["bytes"] > 1e5
    if small["private_mb"] is None:
        pytest.skip("memory is measured on Linux only")
    assert small["private_mb"] >= 0


# File of results


@pytest.mark.usefixtures("product")
def test_a_run_that_is_there_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record = Record(path, "presets", ENVIRONMENT, SETTINGS, nothing)
    assert not record.has("a")
    record.add("a", {"value": 1})
    record.add("b", {"value": 2})
    record.add("a", {"value": 3})
    again = Record(path, "presets", ENVIRONMENT, {**SETTINGS, "command": "another"}, nothing)
    assert again.has("a")
    assert [(row["run"], row["value"]) for row in again.rows] == [("b", 2), ("a", 3)]
    assert all((row["commit"], row["product"], row["date"]) == ("c0ffee", "abc", "today") for row in again.rows)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("now", ["def", "abc+"])
def test_a_run_of_another_product_is_repeated(now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    monkeypatch.setattr(report, "product_commit", lambda: now if now.endswith("+") else "abc")
    Record(path, "presets", ENVIRONMENT, SETTINGS, nothing).add("a", {"value": 1})
    monkeypatch.setattr(report, "product_commit", lambda: now)
    record = Record(path, "presets", ENVIRONMENT, SETTINGS, nothing)
    assert not record.has("a")
    record.add("a", {"value": 2})
    assert [(row["product"], row["value"]) for row in record.rows] == [(now, 2)]


@pytest.mark.usefixtures("product")
def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    Record(path, "presets", ENVIRONMENT, SETTINGS, nothing).add("a", {"value": 1})
    with pytest.raises(PadimEdgeError, match="holds results with size 64, expected None"):
        Record(path, "presets", ENVIRONMENT, {**SETTINGS, "size": None}, nothing)


def test_the_commit_of_the_product_is_known_here() -> None:
    assert re.fullmatch(r"[0-9a-f]{12,}\+?|unknown", report.product_commit())


@pytest.mark.slow
@pytest.mark.usefixtures("product")
def test_the_command_measures_once_and_prints_tables(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "presets.json"
    monkeypatch.setattr(presets, "loader", lambda _: lambda _: dataset)
    wanted = ["--only", "accuracy screw all free seed 0,accuracy screw 20*"]
    small = ["--backbone", "builtin", "--weights", "auto", "--size", "64", "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["", *wanted, *small, "--json", str(path)])
    presets.main()
    said = capsys.readouterr()
    assert "**screw**, fitted on 16 images" in said.out
    assert "left out: accuracy screw 20 free seed 0: weave has 16 good images" in said.err
    rows = json.loads(path.read_text())["results"]
    assert [row["run"] for row in rows] == ["accuracy screw all free seed 0"]
    monkeypatch.setattr(presets, "measure", _fails)
    monkeypatch.setattr(sys, "argv", ["", "--only", "accuracy screw all free seed 0", *small, "--json", str(path)])
    presets.main()
    monkeypatch.setattr(sys, "argv", ["", "--table", "--json", str(path)])
    presets.main()
    assert f"{rows[0]['image_auroc']:.3f}" in capsys.readouterr().out


def _fails(*_: object) -> Row:
    raise AssertionError("a run that is there was measured again")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "nothing"], "no run matches nothing"),
        (["--table"], "name it with --json"),
        (["--data", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_usage_errors(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["", *options])
    with pytest.raises(SystemExit):
        presets.main()
    assert said in capsys.readouterr().err


# Tables


def row(run: Run, **fields: Any) -> Row:
    figures = {
        "image_auroc": 0.98,
        "pixel_auroc": 0.99,
        "pro": 0.97,
        "miss_rate": 0.2,
        "false_alarm_rate": 0.05,
        "threshold": 3.0,
        "fitted": 320,
        "good": 41,
        "anomalous": 119,
        "frame": "224x224",
        "bytes": 6_200_000,
        "fit_seconds": 55.0,
        "product": "abc",
    }
    return {**dataclasses.asdict(run), "model": run.model.name, "run": run.name, **(figures | fields)}


SCREW = partial(Run, runs.ACCURACY, "screw", None, Model("free"))


def test_means_and_ranges() -> None:
    assert pages.mean_and_range([0.9, 0.92, 0.97]) == "0.930 (0.900 to 0.970)"
    assert pages.mean_and_range([0.9]) == "0.900"
    assert pages.mean_and_range([0.9, None]) == pages.mean_and_range([]) == "-"


def test_promises_wait_for_all_seeds() -> None:
    rows = [row(SCREW(seed), image_auroc=0.97 + 0.01 * seed) for seed in (0, 1)]
    assert pages.targets_of(rows) == []
    rows.append(row(SCREW(2), image_auroc=0.99))
    found = {target.what: target for target in pages.targets_of(rows)}
    auroc = found["screw, all images, free: mean image_auroc"]
    assert auroc.found == pytest.approx(0.98)
    assert found["screw, all images, free: mean miss_rate"].reached
    rows += [row(dataclasses.replace(SCREW(seed), model=Model("free", "int8")), image_auroc=0.97) for seed in range(3)]
    loss = {target.what: target for target in pages.targets_of(rows)}["screw: loss of free in int8"]
    assert loss.found == pytest.approx(0.01)
    assert not loss.reached


def test_tables_show_every_part() -> None:
    halves = [
        row(Run(runs.HALVES, "screw", None, Model("free"), seed), alarms={"0.01": 1, "0.05": 9, "0.1": 20}, judged=180)
        for seed in runs.SEEDS
    ]
    sizes = [
        row(
            Run(runs.FOOTPRINT, "screw", 24, Model("free"), 0, side),
            prototypes=4096,
            bytes=6_000_000 + side,
            private_mb=side / 2,
            mapped_mb=6.0,
        )
        for side in runs.SIDES
    ]
    few = row(Run(runs.ACCURACY, "screw", 20, Model("free"), 0), image_auroc=0.8, pixel_auroc=None)
    shown = pages.tables([row(SCREW(0)), few, *halves, *sizes])
    assert "| free | 0 | 0.980 | 0.990 | 0.970 | 20.0 % | 5.0 % | 6.2 | 55 | 224x224 |" in shown
    assert "| screw | free | 0.800 | - | - | 0.980 |" in shown
    assert "| screw | free | 320 | 180 | 0.6 % | 5.0 % | 11.1 % |" in shown
    assert "| 1024 x 1024 | free | 4096 | 6.00 | 512 | 6 |" in shown
    assert "| memory of one image at 1024, MB | at most 600.0000 | 518.0000 | reached |" in shown
    assert "Commits of the product: abc." in shown
