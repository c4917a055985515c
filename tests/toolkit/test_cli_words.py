"""The workstation's commands in words: nothing is ignored silently, capitals are forgiven, and defaults have names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer.main
from commands import run

from padim_edge import sample
from padim_edge_artifact import read_verified
from padim_edge_artifact.kept import read_kept
from padim_edge_runtime.cli import app, program

QUICK = ("--backbone", "builtin", "--dims", 20, "--size", 64, "--seed", 3)
"""Options of one method, which torch then exports once for all of these tests."""

HINT = "to let this model learn from more images later (padim-edge update), add --keep-statistics FILE"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("bottle", size=96, train=24, test_good=3, per_defect=1), folder)
    return folder / "bottle"


@pytest.fixture(scope="module")
def statistics(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of int8 for the CPU."""
    path = tmp_path_factory.mktemp("statistics") / "bottle.npz"
    run("fit", "--data", data, *QUICK, "--precision", "INT8", "--output", path)
    return path


def test_the_runtime_knows_the_names_of_the_toolkits_commands() -> None:
    """It names the package to install for each of them, where the toolkit is not there."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    theirs = {name for name, each in commands.items() if each.callback.__module__.startswith("padim_edge.")}
    assert theirs == set(program.TOOLKIT)


def test_words_in_capitals_mean_the_same(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    words = ("--precision", "FP16", "--preset", "Edge", "--target", "CPU", "--reduction", "Random", "--device", "CPU")
    run("export", "--fast", "--data", data, *QUICK, *words, "--output", output)
    method = read_verified(output).method
    assert (method.preset, method.reduction, str(method.precision)) == ("edge", "random", "fp16 for cpu")


@pytest.mark.parametrize("option", ["--precision", "--preset", "--target", "--reduction", "--device"])
def test_an_unknown_word_is_still_refused(data: Path, tmp_path: Path, option: str) -> None:
    how = ("export", "--fast", "--data", data, "--backbone", "builtin", "--output", tmp_path / "m.onnx")
    _, stderr = run(*how, option, "Best", code=1)
    assert "there is no" in stderr
    assert "'best'" in stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--precision", "int8", "--trtexec", 1), "the model is int8 for the CPU"),
        (("--budget", "1GB", "--trtexec", 1), "--budget may choose int8 for the CPU"),
        (("--trtexec", 0), "the batch size is 0, expected 1 or more"),
        (("--budget", "1GB", "--target", "tensorrt", "--trtexec", 0), "the batch size is 0, expected 1 or more"),
    ],
)
def test_calls_of_trtexec_that_cannot_be_made_are_refused_before_the_model_is(
    data: Path, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    _, stderr = run("export", "--fast", "--data", data, *QUICK, *options, "--output", tmp_path / "m.onnx", code=1)
    assert sentence in stderr
    assert not any(tmp_path.iterdir())


def test_calls_of_trtexec_for_int8_statistics_are_refused_before_the_model_is(
    data: Path, statistics: Path, tmp_path: Path
) -> None:
    told = ("export", "--fast", "--data", data, "--statistics", statistics, "--output", tmp_path / "m.onnx")
    _, stderr = run(*told, "--trtexec", 1, code=1)
    assert "the model is int8 for the CPU, which TensorRT does not take; fit with --target tensorrt" in stderr
    assert not any(tmp_path.iterdir())


def test_a_seed_that_draws_nothing_is_refused_or_said_to(data: Path, tmp_path: Path) -> None:
    _, stderr = run("evaluate", tmp_path / "none.onnx", "--seed", 3, code=1)
    assert "--seed is the seed of --perturb, which is not given" in stderr
    fit = ("fit", "--data", data, *QUICK, "--output", tmp_path / "s.npz")
    _, stderr = run(*fit, "--reduction", "pca")
    assert "--seed has no effect, because --reduction pca draws nothing at random" in stderr
    assert "--seed" not in run(*fit)[1]


def test_inspect_prints_the_calls_of_trtexec_as_json_or_refuses_what_they_leave_no_room_for(
    data: Path, tmp_path: Path
) -> None:
    run("export", "--fast", "--data", data, *QUICK, "--output", tmp_path / "m.onnx")
    told = json.loads(run("inspect", tmp_path / "m.onnx", "--trtexec", 2, "--json")[0])["trtexec"]
    printed = run("inspect", tmp_path / "m.onnx", "--trtexec", 2)[0]
    assert told.keys() == {"10", "11"}
    assert all(line in printed for line in told.values())
    assert "leave --verbose out" in run("inspect", tmp_path / "m.onnx", "--trtexec", 2, "--verbose", code=1)[1]


def test_export_says_beforehand_what_an_update_needs(data: Path, tmp_path: Path) -> None:
    """Once, to people, where it can be followed."""
    common = ("export", "--fast", "--data", data, *QUICK, "--output", tmp_path / "m.onnx")
    _, stderr = run(*common)
    assert stderr.count(HINT) == 1
    for options in (("--json",), ("--keep-statistics", tmp_path / "m.npz")):
        assert "padim-edge update" not in run(*common, *options)[1]
    run("update", tmp_path / "m.onnx", data / "test" / "good")
    again = (
        "export",
        "--fast",
        "--data",
        data,
        "--statistics",
        tmp_path / "m.npz",
        "--output",
        tmp_path / "again.onnx",
    )
    assert "padim-edge update" not in run(*again)[1]


def test_merged_statistics_have_a_usual_name_that_is_never_that_of_an_input(data: Path, tmp_path: Path) -> None:
    for name, folder in (("a", "train/good"), ("b", "test/good")):
        run("fit", "--data", data / folder, "--class", "bottle", *QUICK, "--output", tmp_path / f"{name}.npz")
    stdout, _ = run("merge", tmp_path / "a.npz", tmp_path / "b.npz")
    assert f"{tmp_path / 'a-merged.npz'}: 27 good images from 2 files" in stdout
    assert read_kept(tmp_path / "a-merged.npz").statistics.count == 27
    before = (tmp_path / "a-merged.npz").read_bytes()
    _, stderr = run("merge", tmp_path / "a.npz", tmp_path / "a-merged.npz", code=1)
    assert "is one of the files to merge; name another file with --output" in stderr
    assert (tmp_path / "a-merged.npz").read_bytes() == before
    _, stderr = run("merge", tmp_path / "a.npz", tmp_path / "b.npz", "--output", tmp_path / "no" / "c.npz", code=1)
    assert "does not exist; make it" in stderr
