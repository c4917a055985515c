"""`padim-edge warm`, and the commands that then need not build; and what `inspect` says of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import drawn_images
import fake_onnxruntime
import golden as files
import pytest
from commands import run

from padim_edge_runtime import Detector
from padim_edge_runtime.bench import footprint
from padim_edge_runtime.devices import engines, tensorrt


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return files.copy(files.CROPPED, folder)


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return fake_onnxruntime.with_tensorrt(monkeypatch, tmp_path / "cache")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that detectors judged."""
    seen: list[int] = []
    require = Detector.require
    monkeypatch.setattr(Detector, "require", lambda self, batch: seen.append(batch) or require(self, batch))
    return seen


def test_it_builds_once_runs_the_ends_and_the_tuned_batch_and_says_where_the_engine_is(
    ort: Any, model: Path, batches: list[int]
) -> None:
    stdout, stderr = run("warm", model, "--device", "tensorrt", "--batch", "4,1,6")
    assert batches == [1, 4, 6]
    assert sum(ort.builds.values()) == 1
    assert stderr == ""
    first, second = stdout.splitlines()
    assert first.startswith("engine for batches of 1 to 6, tuned for 4: built in ")
    (engine,) = model.parent.rglob("*.engine")
    assert second.startswith(f"{engine.parent}, ")
    assert " MB; the model loads in " in second
    assert "was there" in run("warm", model, "--batch", "4,6")[0]
    assert sum(ort.builds.values()) == 1


def test_infer_verify_and_bench_use_what_was_warmed(
    ort: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(run("warm", model, "--batch", "1,12", "--json")[0])
    assert told["batches"] == {"tuned": 1, "largest": 12}
    assert told["build_seconds"] > 0 < told["load_seconds"]
    assert Path(told["folder"]).is_dir()
    assert told["bytes"] > 0
    monkeypatch.setattr(footprint, "memory", lambda *_, **__: None)  # another process, without the fake
    drawn_images.good(1).save(tmp_path / "a.png")
    _, stderr = run("infer", model, tmp_path / "a.png", "--device", "tensorrt")
    assert "on tensorrt" in stderr
    assert "builds an engine" not in stderr
    assert run("verify", model, "--device", "tensorrt")[0].startswith("passed    tensorrt")
    stdout, _ = run("bench", model, "--device", "tensorrt", "--batch", "12", "--seconds", 0.1)
    assert "batch of 12" in stdout
    assert "nodes  all 40 nodes on tensorrt" in stdout
    assert sum(ort.builds.values()) == 1


def test_without_warming_the_first_use_builds_and_says_so(ort: Any, model: Path, tmp_path: Path) -> None:
    drawn_images.good(1).save(tmp_path / "a.png")
    for device, expected in (("auto", True), ("tensorrt", False)):
        _, stderr = run("infer", model, tmp_path / "a.png", "--device", device)
        assert ("TensorRT builds an engine for batches of 1 to 8 now" in stderr) == expected
    assert sum(ort.builds.values()) == 1


def test_bench_refuses_a_batch_beyond_the_engine_before_it_measures(ort: Any, model: Path, batches: list[int]) -> None:
    stdout, stderr = run("bench", model, "--device", "tensorrt", "--batch", "1,16", code=1)
    assert stdout == ""
    assert "a batch of 16 is too large" in stderr
    assert "--batch 1,16" in stderr
    assert batches == [16]
    assert sum(ort.builds.values()) == 1


def test_infer_tells_what_runs_elsewhere_where_it_is_asked(ort: Any, model: Path, tmp_path: Path) -> None:
    from padim_edge_runtime.devices.providers import DEVICES

    drawn_images.good(1).save(tmp_path / "a.png")
    ort.assigned = {DEVICES["tensorrt"]: 38, DEVICES["cuda"]: 2}
    _, stderr = run("infer", model, tmp_path / "a.png", "--device", "tensorrt", "--verbose")
    assert "2 of 40 nodes on cuda (Conv)" in stderr
    _, stderr = run("infer", model, tmp_path / "a.png", "--device", "tensorrt")
    assert "nodes on cuda" not in stderr


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_other_devices_need_no_warming(model: Path, device: str) -> None:
    stdout, stderr = run("warm", model, "--device", device)
    assert stdout == ""
    (sentence,) = stderr.splitlines()
    assert f"nothing to build ahead for {device}" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--device", "auto"), "--device is 'auto', expected tensorrt"),
        (("--device", "tpu"), "--device is 'tpu', expected tensorrt"),
        (("--batch", "0"), "--batch is '0', expected numbers from 1 to 1024"),
        (("--batch", "8x"), "--batch is '8x', expected numbers from 1 to 1024"),
    ],
)
def test_what_cannot_be_warmed_is_one_sentence(model: Path, options: tuple[str, str], sentence: str) -> None:
    stdout, stderr = run("warm", model, *options, code=1)
    assert stdout == ""
    assert len(stderr.splitlines()) == 1
    assert sentence in stderr


def test_without_tensorrt_it_is_one_sentence_and_leaves_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "version", lambda: "unknown")
    for listed in ("cpu", "tensorrt cuda cpu"):
        fake_onnxruntime.install(monkeypatch, listed)
        stdout, stderr = run("warm", model, code=1)
        assert stdout == ""
        (sentence,) = stderr.splitlines()
        assert "'tensorrt'" in sentence
        assert not list(tmp_path.rglob("*.engine"))
        assert not list(tmp_path.rglob(".building-*"))


def test_a_model_or_a_cache_that_cannot_be_used_is_one_sentence(
    ort: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not exist" in run("warm", model.with_name("none.onnx"), code=1)[1]
    monkeypatch.setattr(engines, "_writable", lambda _: False)
    _, stderr = run("warm", model, code=1)
    assert "can be written to; set PADIM_EDGE_CACHE" in stderr
    assert not ort.builds


def test_an_engine_that_was_not_written_is_not_called_warm(
    ort: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "_build", lambda _: None)
    assert "there is no engine in" in run("warm", model, code=1)[1]
    assert not list(model.parent.rglob("warmed.json"))


def inspected(model: Path, *options: str) -> tuple[str, str, dict[str, Any]]:
    """(the row, stderr, the JSON)."""
    stdout, stderr = run("inspect", model, *options)
    (row,) = [line for line in stdout.splitlines() if "runs here on" in line]
    return row, stderr, json.loads(run("inspect", model, "--json")[0])["runs_here"]


def test_inspect_says_where_the_model_runs_here(model: Path) -> None:
    row, stderr, here = inspected(model)
    assert row.split("runs here on", 1)[1].split(",")[0].strip() == here["device"]
    assert stderr == ""
    assert len(here["refused"]) == ["tensorrt", "cuda", "cpu"].index(here["device"])
    _, stderr, _ = inspected(model, "--verbose")
    assert stderr.splitlines() == [f"padim-edge: {reason}" for reason in here["refused"]]


def test_inspect_adds_one_key_to_the_metadata(model: Path) -> None:
    import dataclasses

    from padim_edge_artifact import read_metadata

    found = json.loads(run("inspect", model, "--json")[0])
    assert found.keys() - dataclasses.asdict(read_metadata(model)).keys() == {"runs_here"}
    assert found["runs_here"].keys() == {"device", "refused"}


def test_inspect_builds_no_engine(ort: Any, model: Path) -> None:
    row, _, here = inspected(model)
    assert "tensorrt, once its engine is built (padim-edge warm, or the first use)" in row
    assert here == {"device": "tensorrt", "refused": []}
    assert not ort.builds
    run("warm", model)
    row, _, here = inspected(model)
    assert "tensorrt, all 40 nodes on tensorrt" in row
    assert sum(ort.builds.values()) == 1


def test_inspect_says_why_better_devices_are_passed_over(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_onnxruntime.install(monkeypatch, "tensorrt cuda cpu", "cuda cpu", computes=True)
    row, _, here = inspected(model)
    assert "cuda, this onnxruntime does not tell which nodes run where" in row
    assert here["device"] == "cuda"
    (reason,) = here["refused"]
    assert "'tensorrt' is not usable here" in reason


def test_inspect_never_fails_for_want_of_a_device(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    row, stderr, here = inspected(model)
    assert "runs here on  nothing: onnxruntime cannot be imported" in row
    assert stderr == ""
    assert here["device"] is None
    assert len(here["refused"]) == 1


def test_inspect_never_fails_for_a_model_that_cannot_be_loaded(model: Path) -> None:
    model.with_name(f"{model.name}.data").unlink()
    row, _, here = inspected(model)
    assert "runs here on  nothing: " in row
    assert "is missing" in row
    assert here["device"] is None
