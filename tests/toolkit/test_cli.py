"""The workstation's commands, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from commands import run
from PIL import Image

from padim_edge import sample
from padim_edge_artifact import read_verified
from padim_edge_artifact.kept import read_kept
from padim_edge_runtime.cli import app

ROOT = Path(__file__).parents[2]

QUICK = ("--backbone", "builtin", "--dims", 20, "--size", 64, "--seed", 3)
"""Options of one method, which torch then exports once for all of these tests."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("bottle", size=96, train=24, test_good=3, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    path = data / "bottle.onnx"
    run("export", "--fast", "--class", "bottle", "--data", data, *QUICK, "--output", path)
    return path


def test_every_command_has_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {"infer", "inspect", "verify", "export", "evaluate", "sample"} <= commands.keys()
    for name, command in commands.items():
        assert command.help, name


def test_export_json_is_one_document_with_the_keys_of_the_design(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "b.onnx"
    stdout, _ = run("export", "--data", data / "bottle", *QUICK, "--output", output, "--json")
    told = json.loads(stdout)
    keys = ["model", "bytes", "images", "independent", "drift", "suspects", "threshold", "seconds", "visibility"]
    assert list(told) == keys
    assert told["visibility"]["level"] in ("blind", "weak", "sees")
    assert told["model"] == str(output)
    assert told["images"] == 24
    assert told["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert told["threshold"] == read_verified(output).threshold


def test_evaluate_json_has_the_keys_of_the_design_and_null_for_the_undefined(model: Path, data: Path) -> None:
    stdout, _ = run("evaluate", model, "--data", data, "--json")
    told = json.loads(stdout)
    metrics = told["classes"]["bottle"]
    names = {"image_auroc", "pixel_auroc", "pro", "image_ap", "false_alarm_rate", "miss_rate"}
    assert names <= metrics.keys()
    assert names <= told["mean"].keys()
    assert all(told["mean"][name] == metrics[name] for name in names)
    assert 0 <= metrics["image_auroc"] <= 1
    assert metrics["kinds"]["good"]["images"] == metrics["good"] == 3


def test_evaluate_says_what_it_found_to_people(model: Path, data: Path) -> None:
    stdout, _ = run("evaluate", model, "--data", data)
    assert "pixel AUROC" in stdout
    assert "contamination" in stdout


def test_statistics_are_kept_on_request(data: Path, tmp_path: Path) -> None:
    where = ("--output", tmp_path / "b.onnx", "--keep-statistics", tmp_path / "b.npz")
    run("export", "--fast", "--class", "bottle", "--data", data, *QUICK, *where)
    assert read_kept(tmp_path / "b.npz").statistics.count == 24


def test_a_model_for_raw_frames_says_so_and_where_images_are_of_another_size(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "b.onnx"
    options = ("--class", "bottle", "--data", data, *QUICK, "--output", output)
    _, stderr = run("export", "--fast", *options, "--frame", "120x160")
    assert "96x96 pixels (height x width) and not the 120x160 of --frame" in stderr
    stdout, _ = run("inspect", output)
    assert "uint8 RGB (N, 120, 160, 3); resize in the graph to 64x64 binned-bicubic" in stdout
    stdout, _ = run("verify", output, "--json", "--device", "cpu")
    assert json.loads(stdout)["devices"]["cpu"]["passed"] is True
    _, stderr = run("export", "--fast", *options, "--frame", "96x96")
    assert "--frame" not in stderr
    _, stderr = run("export", "--fast", *options, "--frame", "1080", code=1)
    assert "--frame is '1080', expected height x width" in stderr


def test_few_images_work_and_are_warned_of(tmp_path: Path) -> None:
    for count, warned in ((2, "too few to trust the threshold"), (24, "or more usually find more defects")):
        (folder := tmp_path / str(count)).mkdir()
        for i in range(count):
            Image.fromarray(sample.draw_good("weave", i, size=64)).save(folder / f"{i}.png")
        output = tmp_path / f"{count}.onnx"
        _, stderr = run("export", "--fast", "--data", folder, *QUICK, "--output", output)
        assert f"{count} good images" in stderr
        assert warned in stderr
        assert np.isfinite(read_verified(output).threshold)


def test_unreadable_good_images_are_left_out_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(sample.draw_good("weave", i, size=64)).save(folder / f"{i}.png")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:900])
    (folder / "zero.jpg").touch()
    output = tmp_path / "m.onnx"
    _, stderr = run("export", "--fast", "--data", folder, *QUICK, "--output", output, code=1)
    assert read_verified(output).images == 3
    left_out = [line for line in stderr.splitlines() if "left out" in line]
    assert ["torn.png" in line or "zero.jpg" in line for line in left_out] == [True, True]


@pytest.mark.parametrize("readable", [0, 1])
def test_fewer_than_two_readable_images_are_an_error(readable: int, tmp_path: Path) -> None:
    (folder := tmp_path / "good").mkdir()
    for i in range(readable):
        Image.fromarray(sample.draw_good("weave", i, size=64)).save(folder / f"{i}.png")
    (folder / "zero.jpg").touch()
    output = tmp_path / "m.onnx"
    _, stderr = run("export", "--fast", "--data", folder, *QUICK, "--output", output, code=1)
    assert f"{readable} readable good image" in stderr
    assert "expected at least 2" in stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("export",), "neither --class nor --data is given"),
        (("export", "--class", "screw"), "the built-in sample has no class 'screw', only bottle and weave"),
        (("export", "--class", "bottle", "--data", "nowhere"), "there is no folder nowhere"),
        (("export", "--class", "bottle", "--preset", "best"), "choose one of paper, edge, accurate"),
        (("export", "--class", "bottle", "--backbone", "vgg"), "choose one of resnet18, wide_resnet50_2, builtin"),
        (("export", "--class", "bottle", "--weights", "none.pth"), "there is no weights file none.pth"),
        (("export", "--class", "bottle", "--dims", "0"), "dims is 0, expected 1 or more dimensions"),
        (("export", "--class", "bottle", "--dims", "449"), "--dims is 449, expected 1 to 448"),
        (("export", "--class", "bottle", "--output", "no/such/m.onnx"), "does not exist; make it"),
        (("export", "--class", "bottle", "--device", "cuda"), "the device 'cuda' is not in the installed onnxruntime"),
        (("export", "--class", "bottle", "--keep-statistics", "no/such/s.npz"), "does not exist; make it"),
        (("evaluate", "none.onnx"), "none.onnx does not exist"),
        (("sample", "--class", "cup", "out"), "has no class 'cup'"),
    ],
)
def test_wrong_words_get_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, stderr = run(*arguments, code=1)
    assert sentence in " ".join(stderr.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("infer",), ("export", "--seed", "x"), ("export", "--seed", "-1"), ("bake",)])
def test_usage_errors_exit_with_2(arguments: tuple[str, ...]) -> None:
    run(*arguments, code=2)


def test_sample_writes_a_data_set(tmp_path: Path) -> None:
    stdout, _ = run("sample", tmp_path, "--class", "weave", "--size", 64)
    assert "156 images" in stdout
    assert (tmp_path / "weave" / "test" / "hole" / "000.png").is_file()


def test_what_is_fitted_is_what_runs(model: Path, data: Path) -> None:
    """The command line, the detector and the metadata agree on a score to the last digit."""
    from padim_edge_runtime import Detector

    image = data / "bottle" / "test" / "chip" / "000.png"
    stdout, _ = run("infer", model, image, "--json")
    detector = Detector.load(model, "cpu")
    assert json.loads(stdout)["score"] == float(detector(detector.prepare(image)).score[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for child processes")
@pytest.mark.parametrize("moment", ["begun", "writing"])
def test_ctrl_c_leaves_nothing(moment: str, tmp_path: Path) -> None:
    """Ctrl-C before the files are begun, and while they stand under their temporary names."""
    command = [sys.executable, "-m", "padim_edge", "export", "--class", "weave"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # ignored in the background
    )
    deadline = time.monotonic() + 120
    if moment == "begun":
        time.sleep(4)
    else:
        while not list(tmp_path.glob(".padim-edge-*.tmp/.padim-edge-*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(tmp_path.iterdir()), "the temporary folder never appeared"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr.decode()
    assert stdout == b""
    *before, last = stderr.decode().splitlines()
    assert last == "padim-edge: interrupted; nothing unfinished stands under a final name"
    assert all(line.startswith("padim-edge: needs about") for line in before)
    assert not list(tmp_path.iterdir())
