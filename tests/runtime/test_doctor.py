"""The doctor: what it finds on machines that are not here, what it says to do, and that nothing brings it down."""

from __future__ import annotations

import ctypes
import json
import struct
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import run

from padim_edge_runtime.doctor import elf, graphics, jetson, trial
from padim_edge_runtime.doctor import look as doctor
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding, Report, guarded
from padim_edge_runtime.doctor.look import distributions, examine
from padim_edge_runtime.doctor.trial import Trial, tiny_model, tried

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
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(found.cure)
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
        ({"onnxruntime": "1"}, Trial(None, None, (), (), {}, "is hollow"), "is hollow", "padim-edge-runtime[cpu]"),
        ({"onnxruntime-gpu": "1"}, HERE, "but the module is of onnxruntime", "pip uninstall -y onnxruntime-gpu"),
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
    half = Trial("1.31.1", "onnxruntime-gpu", listed, ("cpu",), {"cuda": "libcublasLt.so.13 is missing"}, None)
    found = by_name(list(doctor._devices(half)))
    assert found["device cpu"].verdict == FINE
    assert found["device cuda"].verdict == NOTE
    assert "named by onnxruntime, but not usable: libcublasLt.so.13" in found["device cuda"].value


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
    assert (found.verdict, found.cure) == (NOTE, board.source)
    assert jetson.find(tmp_path / "proc") is None


def missing(*names: str) -> graphics.Load:
    def load(name: str) -> object:
        if name in names:
            raise OSError(f"{name}: cannot open shared object file")
        return object()

    return load


@pytest.fixture
def providers(tmp_path: Path) -> Path:
    """A folder of a GPU package."""
    for device, names in (
        ("cuda", ("libcublasLt.so.13", "libcurand.so.10", "libcuda.so.1", "libstdc++.so.6", "libc.so.6")),
        ("tensorrt", ("libnvinfer.so.10", "libcudnn.so.9", "libonnxruntime_providers_shared.so")),
    ):
        (tmp_path / f"libonnxruntime_providers_{device}.so").write_bytes(shared_library(names))
    return tmp_path


def shared_library(names: tuple[str, ...]) -> bytes:
    """The least of an ELF file that names what it needs."""
    strings, starts = b"\0", []
    for name in names:
        starts.append(len(strings))
        strings += name.encode() + b"\0"
    dynamic = b"".join(struct.pack("<QQ", 1, start) for start in starts) + struct.pack("<QQ", 0, 0)
    at_strings = 64
    at_dynamic = at_strings + len(strings)
    table = at_dynamic + len(dynamic)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 0)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at_strings, len(strings), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 6, 0, 0, at_dynamic, len(dynamic), 1, 0, 8, 16)
    return head + strings + dynamic + sections


def test_needed_libraries_are_read_from_the_file(providers: Path) -> None:
    assert graphics.libraries(providers) == {
        "cuda": ("libcublasLt.so.13", "libcurand.so.10", "libcuda.so.1"),
        "tensorrt": ("libnvinfer.so.10", "libcudnn.so.9"),
    }
    (providers / "libonnxruntime_providers_cuda.so").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="no shared library of 64 bits"):
        elf.needed(providers / "libonnxruntime_providers_cuda.so")


def test_the_file_reader_agrees_with_a_real_library() -> None:
    """Python's own extension modules ask for the C library."""
    import _ctypes

    path = Path(_ctypes.__file__)
    if sys.platform != "linux" or path.suffix != ".so":
        pytest.skip("there is no ELF file here to read")
    assert any(name.startswith("libc.so") for name in elf.needed(path))


def test_missing_libraries_are_named_with_what_brings_them(providers: Path) -> None:
    load = missing("libcurand.so.10", "libcuda.so.1", "libnvinfer.so.10", "libcudnn.so.9")
    found = by_name(
        list(graphics.examine("1.31.1", "x86_64", None, load=load, folder=providers, devices=lambda: ("8.9",)))
    )
    cuda, tensorrt = found["libraries for cuda"], found["libraries for tensorrt"]
    assert cuda.verdict == tensorrt.verdict == FAILED
    assert cuda.value == "missing: libcurand.so.10, libcuda.so.1"
    assert cuda.cure == 'pip install "onnxruntime-gpu[cuda,cudnn]"; install NVIDIA\'s driver'
    assert "tensorrt-cu13-libs==10.*" in str(tensorrt.cure)
    assert "nvidia-cudnn-cu13" in str(tensorrt.cure)
    # Where there is no GPU, nothing is to be cured.
    found = by_name(list(graphics.examine("1.31.1", "x86_64", None, load=load, folder=providers, devices=tuple)))
    assert found["libraries for cuda"].verdict == NOTE
    whole = graphics.examine("1.31.1", "x86_64", None, load=missing(), folder=providers, devices=tuple)
    assert by_name(list(whole))["libraries for cuda"].verdict == FINE


@pytest.mark.parametrize(
    ("machine", "capability", "lacking"),
    [
        ("x86_64", "8.9", False),
        ("x86_64", "8.7", False),
        ("x86_64", "10.0", True),
        ("x86_64", "6.1", True),
        ("aarch64", "8.7", True),
        ("aarch64", "12.1", False),
    ],
)
def test_a_gpu_without_kernels_is_told(providers: Path, machine: str, capability: str, lacking: bool) -> None:
    found = by_name(
        list(graphics.examine("1.31.1", machine, None, load=missing(), folder=providers, devices=lambda: (capability,)))
    )
    assert ("kernels" in found) == lacking
    if lacking:
        assert capability in found["kernels"].value
        assert found["kernels"].verdict == FAILED


def test_the_driver_is_asked_for_capabilities() -> None:
    class Driver:
        def cuInit(self, _: int) -> int:  # noqa: N802  NVIDIA's name
            return 0

        def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
            ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 2  # type: ignore[arg-type]
            return 0

        def cuDeviceGetAttribute(self, value: object, attribute: int, device: int) -> int:  # noqa: N802
            answer = {75: (9, 8), 76: (0, 6)}[attribute][device]
            ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = answer  # type: ignore[arg-type]
            return 0

    assert graphics.capabilities(lambda _: Driver()) == ("9.0", "8.6")
    assert graphics.capabilities(missing("libcuda.so.1")) == ()


def test_telemetry_that_was_switched_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    (found,) = doctor._telemetry()
    assert found.verdict == NOTE
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    (found,) = doctor._telemetry()
    assert found.verdict == FINE


def test_little_memory_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 100000 kB\n")
    assert doctor._memory_mb(tmp_path / "meminfo") == (1000, 100)
    assert doctor._memory_mb(tmp_path / "none") == (None, None)
    monkeypatch.setattr(doctor, "_memory_mb", lambda: (1000.0, 100.0))
    assert by_name(list(doctor._machine()))["memory"].verdict == NOTE


def test_nothing_usable_ends_with_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Trial(None, None, (), (), {}, "onnxruntime cannot be imported")
    monkeypatch.setattr(doctor, "tried", lambda: nothing)
    from typer.testing import CliRunner

    from padim_edge_runtime.cli import app

    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("no model runs here; to be cured: onnxruntime")


def test_a_guard_keeps_what_was_found_apart() -> None:
    assert guarded("x", lambda: [Finding("a", "b")]) == [Finding("a", "b")]
    assert trial.SECONDS >= 60
