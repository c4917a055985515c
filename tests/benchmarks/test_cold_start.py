"""Machinery of `python -m benchmarks.cold_start`; nothing is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import drawn_images
import golden as files
import pytest

from benchmarks import cold_start
from benchmarks.rivals import Missing

pytestmark = pytest.mark.slow


def test_a_start_has_every_step_and_gives_a_score(tmp_path: Path) -> None:
    """In the environment of the tests, which has the runtime, too."""
    model = files.copy(files.CROPPED, tmp_path)
    drawn_images.good(70).save(tmp_path / "good.png")
    said = cold_start._start(Path(sys.executable), model, tmp_path / "good.png")
    assert set(said["steps"]) == set(said["processor"]) == {*cold_start.THEIRS, *cold_start.OURS}
    assert all(seconds >= 0 for each in ("steps", "processor") for seconds in said[each].values())
    assert said["steps"]["numpy"] > 0
    assert said["score"] > 0  # type: ignore[operator]


def starts(*totals: float) -> list[dict[str, dict[str, float]]]:
    """Processes that take so many seconds in Python, twice that in numpy, and a tenth of it in each step of ours."""
    steps = [
        {
            **dict.fromkeys(cold_start.THEIRS, 0.0),
            "Python": total,
            "numpy": 2 * total,
            **dict.fromkeys(cold_start.OURS, total / 10),
        }
        for total in totals
    ]
    return [{"steps": each, "processor": {step: seconds / 2 for step, seconds in each.items()}} for each in steps]


def test_medians_are_of_whole_processes(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(bytes(500_000))
    (tmp_path / "m.onnx.data").write_bytes(bytes(1_500_000))
    found = cold_start.summarise(tmp_path / "m.onnx", starts(0.1, 0.2, 5.0), [1, 2, 3], cache="warm")
    assert (found.model, found.megabytes, found.processes) == ("m", 2.0, 3)
    assert found.steps["numpy"] == 400
    assert (found.theirs, found.ours, found.ours_processor) == (600, 120, 60)
    assert (found.total, found.command) == (720, 2000)
    rows = {row[0]: row[1:] for row in cold_start.rows_of([found])}
    assert rows["numpy"] == ("400.0",)
    assert rows["to the first score"] == ("720.0",)


def test_targets_are_of_warm_files(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    warm, dropped = (
        cold_start.summarise(tmp_path / "m.onnx", starts(0.6), [1], cache=cache) for cache in ("warm", "dropped")
    )
    targets = {target.what: target for target in cold_start.targets_of(201.0, [warm, dropped])}
    assert len(targets) == 3
    assert not targets["MB installed"].reached
    assert not targets["m, seconds from the start of the process to the first score"].reached  # 0.6 + 1.2 + 0.36
    assert targets["m, seconds of that in our steps"].reached


def test_sizes_are_those_of_who_brought_the_folder(tmp_path: Path) -> None:
    (tmp_path / "numpy" / "core").mkdir(parents=True)
    (tmp_path / "numpy.libs").mkdir()
    (tmp_path / "numpy" / "core" / "a.so").write_bytes(bytes(3_000_000))
    (tmp_path / "numpy.libs" / "b.so").write_bytes(bytes(1_000_000))
    (tmp_path / "stray.py").write_bytes(bytes(500_000))
    sizes = cold_start.by_owner(tmp_path, {"numpy": "numpy", "numpy.libs": "numpy"})
    assert sizes == {"numpy": 4.0, "rest": 0.5}
    assert cold_start.shown(sizes) == [("numpy", 4.0), ("rest", 0.5), ("all", 4.5)]


def test_sizes_of_a_real_environment() -> None:
    versions, sizes = cold_start.sizes_of(Path(sys.prefix) / "bin" / "python")
    assert versions["numpy"]
    assert sizes["numpy"] > 10


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", none)
    with pytest.raises(Missing, match="uv is not installed"):
        cold_start.installed(tmp_path)


def test_a_page_cache_that_cannot_be_dropped_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cold_start.os, "sync", lambda: None)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert str(cold_start.drop_cache()).startswith("Permission denied")
