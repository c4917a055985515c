"""The end of `export`: what the model sees, the share of the memory, and the search for a better method."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run

from padim_edge import sample
from padim_edge_artifact import read_verified

QUICK = ("--class", "weave", "--size", 64, "--dims", 20, "--backbone", "builtin")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=80, train=24, test_good=1, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module")
def both(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("both") / "weave.onnx"
    options = (
        "--preset",
        "auto",
        "--prototypes",
        100,
        "--memory-share",
        0.3,
        "--keep-statistics",
        path.with_suffix(".npz"),
    )
    run("export", "--data", data, *QUICK, *options, "--output", path)
    return path


def test_export_ends_with_what_the_model_sees(data: Path, tmp_path: Path) -> None:
    stdout, _ = run("export", "--data", data, *QUICK, "--output", tmp_path / "a.onnx")
    assert stdout.splitlines()[-1].startswith(("visibility: ", "WARNING: this model is nearly blind"))


def test_fast_draws_no_defects(data: Path, tmp_path: Path) -> None:
    stdout, _ = run("export", "--data", data, *QUICK, "--preset", "auto", "--fast", "--output", tmp_path / "a.onnx")
    assert len(stdout.splitlines()) == 1
    found = read_verified(tmp_path / "a.onnx").combination
    assert found is not None
    assert (found.weight, found.plants) == (0.5, 0)


def test_inspect_says_the_weights(both: Path) -> None:
    stdout, _ = run("inspect", both)
    assert "Gaussians 70 %, memory 30 %; given" in stdout
    assert "100 prototypes" in stdout
    told = json.loads(run("inspect", both, "--json")[0])
    assert told["combination"]["weight"] == 0.3
    assert told["method"]["beside"]["bank"]["prototypes"] == 100


def test_kept_statistics_of_both_kinds_make_another_model(data: Path, both: Path, tmp_path: Path) -> None:
    options = ("--statistics", both.with_suffix(".npz"), "--memory-share", 1, "--output", tmp_path / "free.onnx")
    run("export", "--data", data, "--class", "weave", *options)
    alone = read_verified(tmp_path / "free.onnx")
    assert alone.method.bank is not None
    assert alone.method.beside is None
    assert alone.prototypes == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory-share", 0.5), "choose --preset auto"),
        (("--improve", 1, "--fast"), "leave one of them out"),
        (("--improve", 1, "--budget", "20MB"), "leave one of them out"),
        (("--improve", 0), "expected a number of minutes"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    data: Path, options: tuple[object, ...], words: str, tmp_path: Path
) -> None:
    _, stderr = run("export", "--data", data, *QUICK, *options, "--output", tmp_path / "a.onnx", code=1)
    assert words in stderr
    assert not any(tmp_path.iterdir())


def test_improve_keeps_to_its_time_and_writes_one_model(data: Path, tmp_path: Path) -> None:
    options = ("--improve", 0.001, "--output", tmp_path / "a.onnx")
    _, stderr = run("export", "--data", data, *QUICK, *options)
    assert "as asked: " in stderr
    assert "would be over before" in stderr
    assert "taken: as asked" in stderr
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"a"}
    assert read_verified(tmp_path / "a.onnx").method.preset == "edge"
