"""Cost of a model: the arithmetic of turns, and private memory apart from mapped files."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import golden as golden_files
import pytest

from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import Detector
from padim_edge_runtime.bench import footprint
from padim_edge_runtime.bench.footprint import LEAD, WARM_UP, costs, latencies, memory
from padim_edge_runtime.memory import resident

on_linux = pytest.mark.skipif(resident() is None, reason="this system does not tell private memory from mapped")

MB = 1_000_000


def test_calls_take_turns_and_each_is_timed_once_a_round() -> None:
    called: list[str] = []
    rounds = 4
    found = latencies([lambda: called.append("a"), lambda: called.append("b")], rounds, rest=0)
    assert [each.rounds for each in found] == [rounds, rounds]
    turn = LEAD + 1
    a, b = ["a"] * turn, ["b"] * turn
    assert called == ["a"] * WARM_UP + ["b"] * WARM_UP + 2 * (a + b + b + a)


def test_the_slower_call_takes_longer() -> None:
    slow, fast = latencies([lambda: time.sleep(0.005), lambda: None], 9, rest=0)
    assert slow.median >= 5 > fast.median
    for each in (slow, fast):
        assert 0 < each.p10 <= each.median <= each.p90
        assert list(each.milliseconds.values()) == [each.median, each.p10, each.p90]


def test_garbage_is_collected_again_even_after_a_failure() -> None:
    def failing() -> None:
        if not gc.isenabled():
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # ours
        latencies([failing], 1, rest=0)
    assert gc.isenabled()


@on_linux
def test_memory_is_positive_sane_and_repeats(golden: Path) -> None:
    first, second = memory(golden), memory(golden)
    assert first is not None
    assert second is not None
    # The golden model has 0.1 MB of constants and maps of 64 x 64: all else is onnxruntime's own.
    assert 0 < first.private < 100 * MB
    assert 0 < first.mapped < 200 * MB
    assert second.private == pytest.approx(first.private, abs=2 * MB)


@on_linux
def test_the_peak_is_seen_though_it_passes() -> None:
    """The process takes 80 MB for a third of a second, before it says that it has finished."""
    program = "import time\ninput()\nx = b'x' * 80_000_000\ntime.sleep(.3)\ndel x\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with footprint._watched(str(process.pid)) as peak:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
        after = resident(str(process.pid))
        process.kill()
    assert after is not None
    assert after.private < 80 * MB < peak[0].private


@on_linux
def test_files_in_the_working_folder_are_not_taken_for_modules(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('this is not numpy')")
    monkeypatch.chdir(tmp_path)
    assert memory(golden) is not None


@on_linux
def test_a_process_that_fails_is_told_of_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match=r"ended with 1 \(.*none\.onnx does not exist.*\); see that") as caught:
        memory(tmp_path / "none.onnx")
    assert "\n" not in str(caught.value)


def test_nothing_but_the_model_is_measured() -> None:
    """The measuring process has the device's packages and no others."""
    program = (
        "import sys, padim_edge_runtime.bench.footprint, padim_edge_runtime.detector\n"
        "print({'torch', 'onnx', 'scipy', 'sklearn', 'typer', 'rich'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout.strip() == b"set()"


def test_costs_name_the_device_and_count_the_data_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "resident", lambda *_: None)  # as on a system without /proc
    models = (golden_files.WHOLE, golden_files.CROPPED)
    found = costs(models, [Detector.load(each, "cpu") for each in models], 1)
    for model, cost in zip(models, found, strict=True):
        assert cost.model == model
        assert cost.device == "cpu"
        assert cost.bytes == sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*"))
        assert cost.latency.median > 0
        assert cost.memory is None
