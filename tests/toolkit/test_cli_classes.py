"""Several classes, regions of interest, perturbed images and reports, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from counted import count_exports
from PIL import Image

from padim_edge import sample
from padim_edge_artifact import read_verified

QUICK = ("--backbone", "builtin", "--dims", "20", "--size", "64", "--seed", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in sample.CLASSES:
        sample.write(sample.images(name, size=96, train=21, test_good=3, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    stdout, _ = run("export", "--fast", "--class", "all", "--data", data, *QUICK, "--output", folder, "--json")
    told = json.loads(stdout)["models"]
    assert [Path(each["model"]).name for each in told] == ["bottle.onnx", "weave.onnx"]
    return folder / "bottle.onnx", folder / "weave.onnx"


def test_all_classes_are_exported_into_a_folder_and_named_ones_as_well(
    data: Path, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [read_verified(model).class_name for model in models] == ["bottle", "weave"]
    calls = count_exports(monkeypatch)
    run("export", "--fast", "--class", "weave,bottle", "--data", data, *QUICK, "--output", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["bottle.onnx", "weave.onnx"]
    assert len(calls) == 1, "torch exports the backbone once for all classes"


def test_several_models_give_a_table_with_the_mean(data: Path, models: tuple[Path, Path]) -> None:
    told = json.loads(run("evaluate", *models, "--data", data, "--json")[0])
    assert told["classes"].keys() == {"bottle", "weave"}
    expected = np.mean([each["pixel_auroc"] for each in told["classes"].values()])
    assert told["mean"]["pixel_auroc"] == pytest.approx(expected)
    lines = run("evaluate", *models, "--data", data)[0].splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["class", "bottle", "weave", "mean"]
    (row,) = [line for line in lines if "contamination" in line]
    assert "%" in row


def test_a_report_is_one_file_that_names_every_class(data: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    run("evaluate", *models, "--data", data, "--report", report)
    page = report.read_text()
    assert "bottle" in page
    assert "weave" in page
    assert "data:image/" in page
    assert 'src="http' not in page
    _, stderr = run("evaluate", models[0], "--data", data, "--report", tmp_path / "no" / "r.html", code=1)
    assert "does not exist; make it" in stderr


def test_a_region_of_interest_is_inspected_only_there(data: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[:48] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    model = tmp_path / "half.onnx"
    run(
        "export", "--fast", "--class", "weave", "--data", data, *QUICK, "--roi", tmp_path / "roi.png", "--output", model
    )
    stdout, _ = run("infer", model, data / "weave" / "test", "--json", "--threshold", "0")
    for line in stdout.splitlines():
        assert all(box["box"][1] + box["box"][3] <= 49 for box in json.loads(line)["regions"])
    assert "50.0 % of the frame" in run("inspect", model)[0]
    run("infer", model, data / "weave" / "test" / "hole", "--heatmaps", tmp_path / "heat")
    drawn = np.asarray(Image.open(tmp_path / "heat" / "000.png"))
    original = np.asarray(Image.open(data / "weave" / "test" / "hole" / "000.png"))
    assert drawn[60:85].mean() < 0.7 * original[60:85].mean()  # what is not inspected is shown darker


def test_small_regions_are_not_reported_and_decide_nothing(data: Path, models: tuple[Path, Path]) -> None:
    folder = data / "weave" / "test" / "hole"

    def judged(*more: str) -> list[dict[str, Any]]:
        stdout, _ = run("infer", models[1], folder, "--json", "--threshold", "1", *more)
        return [json.loads(line) for line in stdout.splitlines()]

    few, many = judged("--min-area", "200"), judged()
    for small, whole in zip(few, many, strict=True):
        assert small["regions"] == [region for region in whole["regions"] if region["area"] >= 200]
        assert small["anomalous"] == whole["anomalous"]
        assert all(region["share"] == pytest.approx(region["area"] / 96**2) for region in whole["regions"])


def test_perturbed_images_are_said_to_be_and_are_harder(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "turned.onnx"
    arguments = ("--data", data, "--perturb", "rotate=10,crop", "--seed", "3")
    _, stderr = run("export", "--fast", "--class", "weave", *QUICK[:-2], *arguments, "--output", model)
    assert "turned by up to 10 degrees" in stderr
    first = run("evaluate", model, *arguments, "--json")[0]
    assert first == run("evaluate", model, *arguments, "--json")[0]
    assert first != run("evaluate", model, "--data", data, "--json")[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("export", "--class", "weave", "--false-alarm-rate", "0"), "expected a share between 0 and 1"),
        (("export", "--class", "weave", "--perturb", "spin"), "expected rotate=DEGREES, crop or both"),
        (("export", "--class", "weave", "--size", "huge"), "expected 32 to 4096 pixels a side"),
        (("export", "--class", "weave", "--roi", "none.png"), "none.png does not exist"),
        (("export", "--class", "all", "--keep-statistics", "s.npz"), "takes one class at a time"),
        (("evaluate", "a.onnx", "b.onnx", "--class", "weave"), "--class is given with several models"),
    ],
)
def test_wrong_words_get_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, stderr = run(*arguments, code=1)
    assert sentence in " ".join(stderr.split())
    assert not list(tmp_path.iterdir())
