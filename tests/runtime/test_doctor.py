"""The doctor: what it finds on machines that are not here, what it says to do, and that nothing brings it down."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import run

from padim_edge_runtime import memory
from padim_edge_runtime.devices.driver import Driver
from padim_edge_runtime.devices.tiny import tiny_model
from padim_edge_runtime.doctor import installer, jetson
from padim_edge_runtime.doctor import look as doctor
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding, Report, guarded
from padim_edge_runtime.doctor.look import distributions, examine
from padim_edge_runtime.doctor.trial import Trial, tried
from padim_edge_runtime.memory import Available

HERE = Trial("1.31.1", "onnxruntime", ("CPUExecutionProvider",), ("cpu",), {}, None)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


def test_here_it_finds_the_cpu_and_says_so() -> None:
    stdout, _ = run("doctor", "--json")
    said = json.loads(stdout)
    assert said["healthy"] is True
    assert "cpu" in said["devices"]
    found = {each["name"]: each for each in said["findings"]}
    assert found["device cpu"]["value"] == "usable, tried out"
    assert found["onnxruntime"]["verdict"] == FINE
    assert {"interpreter", "numpy", "pillow", "threads", "memory", "telemetry", "GPU"} <= found.keys()
    stdout, _ = run("doctor")
    assert stdout.splitlines()[-1].startswith("models run on")


def test_the_tiny_model_is_a_model() -> None:
    onnx = pytest.importorskip("onnx", reason="only the workstation has onnx, whose checker this asks")
    model = onnx.load_from_string(tiny_model())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_a_trial_that_ends_the_interpreter_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run
    crash = [sys.executable, "-c", "import os; os.abort()"]
    monkeypatch.setattr(subprocess, "run", lambda _, **how: real(crash, **how))
    assert "ended the interpreter with signal 6" in str(tried().failure)
    nonsense = [sys.executable, "-c", "print('hello')"]
    monkeypatch.setattr(subprocess, "run", lambda _, **how: real(nonsense, **how))
    assert "failed" in str(tried().failure)
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "run", lambda _, **how: real(slow, **{**how, "timeout": 0.5}))
    assert "did not end" in str(tried().failure)


def test_whatever_fails_is_a_finding_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    for name in ("_interpreter", "_packages", "_machine", "_telemetry", "_devices", "_jetson", "_onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setattr(doctor, "tried", lambda: HERE)
            patch.setattr(doctor, name, broken)
            report = examine()
        assert any("could not be looked at (RuntimeError: out of order)" in each.value for each in report.findings)
        assert len(report.findings) > 5
        assert report.devices == ("cpu",)


def test_both_packages_at_once_are_named_and_cured(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(doctor, "distributions", lambda: both)
    (found,) = doctor._onnxruntime(HERE, None)
    assert found.verdict == FAILED
    assert "onnxruntime 1.31.1, onnxruntime-gpu 1.31.1: several" in found.value
    assert "uninstall -y onnxruntime onnxruntime-gpu" in str(found.cure)
    assert 'install "padim-edge-runtime[cpu]"' in str(found.cure)
    report = Report((found,), ("cpu",))
    assert not report.healthy
    assert report.verdict == "models run on cpu; to be cured: onnxruntime"


def test_plugins_and_tools_are_no_second_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("onnxruntime", "onnxruntime-ep-nv-tensorrt-rtx", "onnxruntime_extensions", "onnxruntime-genai", "numpy")
    there = [SimpleNamespace(metadata={"Name": name}, version="1") for name in names]
    monkeypatch.setattr(
        metadata, "distributions", lambda: [*there, SimpleNamespace(metadata={"Name": None}, version="")]
    )
    assert distributions() == {"onnxruntime": "1"}


@pytest.mark.parametrize(
    ("there", "tried_out", "words", "cure"),
    [
        ({}, Trial(None, None, (), (), {}, "cannot be imported"), "no distribution: cannot", "padim-edge-runtime[cpu]"),
        ({"onnxruntime": "1"}, Trial(None, None, (), (), {}, "is hollow"), "is hollow", "uninstall -y onnxruntime"),
        (
            {"onnxruntime-gpu": "1"},
            Trial(None, None, (), (), {}, "is hollow"),
            "is hollow",
            'install "padim-edge-runtime[gpu]"',
        ),
        ({"onnxruntime-gpu": "1"}, HERE, "but the module is of onnxruntime", "uninstall -y onnxruntime-gpu"),
    ],
)
def test_a_broken_onnxruntime_is_cured(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, str], tried_out: Trial, words: str, cure: str
) -> None:
    monkeypatch.setattr(doctor, "distributions", lambda: there)
    (found,) = doctor._onnxruntime(tried_out, None)
    assert found.verdict == FAILED
    assert words in found.value
    assert cure in str(found.cure)


def test_a_module_without_a_distribution_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was built from source, as on many a Jetson."""
    monkeypatch.setattr(doctor, "distributions", dict)
    (found,) = doctor._onnxruntime(HERE, None)
    assert (found.verdict, found.value) == (FINE, "1.31.1 (no distribution)")


def test_what_is_named_and_does_not_load_is_told_with_its_reason() -> None:
    listed = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    half = Trial("1.31.1", "onnxruntime-gpu", listed, ("cpu",), {"cuda": "it is out of order"}, None)
    found = by_name(list(doctor._devices(half, None)))
    assert found["device cpu"].verdict == FINE
    assert found["device cuda"].verdict == NOTE
    assert "named by onnxruntime, but not usable: it is out of order" in found["device cuda"].value
    # With a GPU, something is wrong; TensorRT need not be there.
    found = by_name(list(doctor._devices(dataclasses.replace(half, driver=Driver(("8.9",))), None)))
    assert found["device cuda"].verdict == FAILED
    assert found["device tensorrt"].verdict == NOTE


def test_a_gpu_that_the_cpu_package_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "distributions", lambda: {"onnxruntime": "1.31.1"})
    with_gpu = dataclasses.replace(HERE, driver=Driver(("8.9",)))
    found = by_name(list(doctor._devices(with_gpu, None)))["device cuda"]
    assert found.verdict == NOTE
    assert re.search(r"uninstall -y onnxruntime\b.*, then .*padim-edge-runtime\[gpu\]", str(found.cure))
    assert by_name(list(doctor._devices(HERE, None)))["device cuda"].cure is None


def test_a_device_that_ends_the_interpreter_is_told_and_the_others_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's side, against a child of the test's own that dies of CUDA."""
    child = """
import json, os, sys
def say(**what): print(json.dumps(what), flush=True)
say(step="import"); say(version="1", package=None, listed=["CUDAExecutionProvider", "CPUExecutionProvider"])
say(step="cpu"); say(usable=["cpu"])
print("words of native code")
if "cuda" not in sys.argv: say(step="cuda"); os.abort()
say(step="tensorrt"); say(refused={"tensorrt": "not here"})
say(step="libraries"); say(missing=["libcuda.so.1"])
if "driver" not in sys.argv: say(step="driver"); os.abort()
"""
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **how: real([sys.executable, "-c", child, *words[3:]], **how))
    found = tried()
    assert (found.usable, found.ended, found.failure) == (("cpu",), ("cuda",), None)
    assert found.refused == {"tensorrt": "not here", "cuda": "trying it ended the interpreter with signal 6"}
    assert (found.missing, found.driver) == (("libcuda.so.1",), Driver())
    cuda = by_name(list(doctor._devices(found, None)))["device cuda"]
    assert (cuda.verdict, cuda.cure) == (FAILED, "use --device cpu, not auto")


def test_a_module_that_was_built_for_numpy_1_is_cured(monkeypatch: pytest.MonkeyPatch) -> None:
    child = """
import sys
print('{"step": "import"}')
print('{"failure": "onnxruntime cannot be imported ()"}')
print("AttributeError: _ARRAY_API not found", file=sys.stderr)
"""
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _, **how: real([sys.executable, "-c", child], **how))
    monkeypatch.setattr(doctor, "distributions", lambda: {"onnxruntime": "1.18.0"})
    (found,) = doctor._onnxruntime(tried(), None)
    assert found.value == "onnxruntime 1.18.0: it was built for NumPy 1, and here is NumPy 2"
    assert '"numpy<2"' in str(found.cure)


def test_without_a_second_interpreter_there_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    report = examine()
    assert "no second interpreter can be started" in str(by_name(list(report.findings))["onnxruntime"].value)
    assert report.verdict == "no model runs here; to be cured: onnxruntime"


def test_the_current_folder_is_not_mistaken_for_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('not me')")
    (tmp_path / "numpy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tried().usable[-1] == "cpu"


def test_an_unfinished_installation_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert distributions()


@pytest.mark.parametrize(
    ("found", "has_pip", "expected"),
    [
        ("bin", True, "pip install x"),
        ("elsewhere", True, "bin/python -m pip install x"),
        ("elsewhere", False, "uv pip install x --python "),
    ],
)
def test_cures_name_the_pip_of_this_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str, has_pip: bool, expected: str
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(installer.shutil, "which", lambda _: str(tmp_path / found / "pip"))
    monkeypatch.setattr(installer.util, "find_spec", lambda _: object() if has_pip else None)
    assert expected in installer.pip("install x")


@pytest.mark.parametrize(
    ("text", "model", "release", "jetpack", "capability", "source"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1", "NVIDIA Jetson Orin NX", "36.4.3", "6", "8.7", "jp6/cu126"),
        (
            "# R38 (release), REVISION: 2.0, GCID: 1",
            "NVIDIA Jetson AGX Thor",
            "38.2.0",
            "7",
            "11.0",
            "ARCHITECTURES=110",
        ),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "NVIDIA Jetson Xavier", "35.4.1", "5", "7.2", "JetPack 6"),
        ("something else", "NVIDIA Jetson", "unknown", None, None, "built for its JetPack"),
    ],
)
def test_jetsons_are_known_by_their_release(
    tmp_path: Path, text: str, model: str, release: str, jetpack: str | None, capability: str | None, source: str
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "etc" / "nv_tegra_release").write_text(text)
    (tmp_path / "proc" / "device-tree" / "model").write_text(model + "\0")
    board = jetson.find(tmp_path)
    assert board is not None
    assert (board.model, board.release, board.jetpack, board.capability) == (model, release, jetpack, capability)
    assert source in board.source
    (found,) = doctor._jetson(board, HERE)
    assert found.verdict == NOTE
    assert re.fullmatch(rf".*uninstall -y onnxruntime.*, then {re.escape(board.source)}", str(found.cure))
    assert jetson.find(tmp_path / "proc") is None
    (tmp_path / "etc" / "nv_tegra_release").unlink()  # as in a container
    there = jetson.find(tmp_path)
    assert there is not None
    assert (there.model, there.jetpack, there.capability) == (model, None, capability)


def test_telemetry_that_was_switched_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    (found,) = doctor._telemetry()
    assert found.verdict == NOTE
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    (found,) = doctor._telemetry()
    assert found.verdict == FINE


@pytest.mark.parametrize(
    ("there", "value", "verdict"),
    [
        (Available(10**9, 10**8), "100 MB free of 1000", NOTE),
        (Available(4 * 10**9, 2 * 10**9), "2000 MB free of 4000", FINE),
        (None, "this system does not say", NOTE),
    ],
)
def test_little_memory_is_a_note(
    monkeypatch: pytest.MonkeyPatch, there: Available | None, value: str, verdict: str
) -> None:
    monkeypatch.setattr(memory, "of_machine", lambda: there)
    found = by_name(list(doctor._machine()))["memory"]
    assert (found.value, found.verdict) == (value, verdict)
    assert (found.cure is not None) == (there is not None and verdict == NOTE)


def test_what_no_model_of_ours_has_run_on_is_not_promised() -> None:
    """CUDA, TensorRT and Jetsons: a device that works is told, with the remark that it is untested."""
    listed = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    everything = Trial("1.31.1", "onnxruntime-gpu", listed, ("tensorrt", "cuda", "cpu"), {}, None)
    found = by_name(list(doctor._devices(everything, None)))
    assert found["device cpu"].value == "usable, tried out"
    for device in ("tensorrt", "cuda"):
        assert found[f"device {device}"].verdict == NOTE
        assert "has not been tested on it yet, so run padim-edge verify" in found[f"device {device}"].value
    (board,) = doctor._jetson(jetson.Jetson("NVIDIA Jetson Orin NX", "36.4.3", "6"), everything)
    assert "has not been tested on it yet" in board.value
    assert Report(tuple(found.values()), everything.usable).healthy


def test_nothing_usable_ends_with_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Trial(None, None, (), (), {}, "onnxruntime cannot be imported")
    monkeypatch.setattr(doctor, "tried", lambda: nothing)
    from typer.testing import CliRunner

    from padim_edge_runtime.cli import app

    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("no model runs here; to be cured: onnxruntime")


def test_a_guard_keeps_what_was_found_apart() -> None:
    def half() -> Iterator[Finding]:
        yield Finding("a", "b")
        raise RuntimeError("c")

    first, second = guarded("x", half)
    assert first == Finding("a", "b")
    assert (second.name, second.value) == ("x", "could not be looked at (RuntimeError: c)")
