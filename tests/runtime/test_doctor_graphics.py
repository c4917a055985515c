"""The doctor on NVIDIA's side: libraries, drivers and boards that are not here."""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from pathlib import Path

import pytest

from padim_edge_runtime.devices.driver import Driver, Load, driver
from padim_edge_runtime.doctor import elf, graphics, jetson, libraries
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding
from padim_edge_runtime.doctor.trial import Trial


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


def missing(*names: str) -> Load:
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
    assert libraries.libraries(providers) == {
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


def trial(lacking: tuple[str, ...] | None, devices: tuple[str, ...] = (), knows: int | None = None) -> Trial:
    """The outcome of a trial on a machine with these GPUs, whose driver knows this CUDA."""
    driver = Driver(devices, knows)
    return Trial("1.31.1", "onnxruntime-gpu", (), ("cpu",), {}, None, missing=lacking, driver=driver)


def looked_at(
    providers: Path,
    *lacking: str,
    devices: tuple[str, ...] = (),
    board: jetson.Jetson | None = None,
    knows: int | None = None,
    packages: tuple[str, ...] = ("onnxruntime-gpu",),
    machine: str = "x86_64",
) -> dict[str, Finding]:
    found = trial(lacking, devices, knows)
    return by_name(list(graphics.examine(found, machine, board, found=packages, folder=providers)))


def test_missing_libraries_are_those_that_do_not_load(providers: Path) -> None:
    assert libraries.missing(missing("libcuda.so.1", "libcudnn.so.9"), providers) == ["libcuda.so.1", "libcudnn.so.9"]
    assert libraries.missing(missing(), providers) == []


def test_missing_libraries_are_named_with_what_brings_them(providers: Path) -> None:
    lacking = ("libcurand.so.10", "libcuda.so.1", "libnvinfer.so.10", "libcudnn.so.9")
    found = looked_at(providers, *lacking, devices=("8.9",))
    cuda, tensorrt = found["libraries for cuda"], found["libraries for tensorrt"]
    assert (cuda.verdict, tensorrt.verdict) == (FAILED, NOTE)  # all of it runs without TensorRT
    assert cuda.value == "missing: libcurand.so.10, libcuda.so.1"
    assert re.search(r"driver, 580 or newer; .*; .*pip install \"onnxruntime-gpu\[cuda,cudnn\]\"", str(cuda.cure))
    assert '"tensorrt-cu13-libs==10.*"' in str(tensorrt.cure)
    # Where there is no GPU, nothing is to be cured.
    assert looked_at(providers, *lacking)["libraries for cuda"].verdict == NOTE
    assert looked_at(providers)["libraries for cuda"].verdict == FINE
    # One that was built from source must not be overwritten.
    own = looked_at(providers, "libcurand.so.10", packages=())["libraries for cuda"]
    assert own.cure == "install CUDA 13 and cuDNN 9"
    # Nobody has looked.
    nobody = by_name(list(graphics.examine(trial(None), "x86_64", None, folder=providers)))
    assert "libraries for cuda" not in nobody


def test_libraries_that_packages_brought_are_found_and_told(tmp_path: Path) -> None:
    """pip puts them where no loader looks."""
    folder = tmp_path / "onnxruntime" / "capi"
    folder.mkdir(parents=True)
    (folder / "libonnxruntime_providers_cuda.so").write_bytes(shared_library(("libcurand.so.10", "libcudart.so.12")))
    (tmp_path / "nvidia" / "curand" / "lib").mkdir(parents=True)
    (tmp_path / "nvidia" / "curand" / "lib" / "libcurand.so.10").touch()
    found = looked_at(folder, "libcurand.so.10")["libraries for cuda"]
    assert str(found.cure).startswith(f"export LD_LIBRARY_PATH={tmp_path / 'nvidia/curand/lib'}")
    assert "install" not in str(found.cure)


def test_cuda_12_gets_packages_for_cuda_12(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime_providers_cuda.so").write_bytes(shared_library(("libcublas.so.12", "libcuda.so.1")))
    (tmp_path / "libonnxruntime_providers_tensorrt.so").write_bytes(shared_library(("libnvinfer.so.10",)))
    found = looked_at(tmp_path, "libcuda.so.1", "libnvinfer.so.10")
    assert "driver, 525 or newer" in str(found["libraries for cuda"].cure)
    assert "tensorrt-cu12-libs==10.*" in str(found["libraries for tensorrt"].cure)


def test_jetsons_get_their_own_cures(providers: Path) -> None:
    six, seven = jetson.Jetson("Orin", "36.4.3", "6"), jetson.Jetson("Thor", "38.2.0", "7")
    cure = str(looked_at(providers, "libcublasLt.so.13", board=six)["libraries for cuda"].cure)
    assert "this onnxruntime is for CUDA 13 and the board has CUDA 12" in cure
    assert re.search(r"uninstall -y onnxruntime-gpu.*, then .*jp6/cu126", cure)
    found = looked_at(providers, "libcublasLt.so.13", board=seven)
    assert "sudo apt install nvidia-jetpack" in str(found["libraries for cuda"].cure)
    assert "pip" not in str(found["libraries for cuda"].cure)
    assert found["GPU"].value == "none that the driver shows; by the board's name, compute capability 11.0"


def test_an_old_driver_is_told(providers: Path) -> None:
    found = looked_at(providers, devices=("8.9",), knows=12)
    assert found["driver"].value == "knows CUDA 12, and this onnxruntime is for CUDA 13"
    assert found["driver"].cure == "update NVIDIA's driver to 580 or newer"
    assert "driver" not in looked_at(providers, devices=("8.9",), knows=13)


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
    found = looked_at(providers, devices=(capability,), machine=machine)
    assert ("kernels" in found) == lacking
    if lacking:
        assert capability in found["kernels"].value
        assert found["kernels"].verdict == FAILED


def test_the_driver_is_asked_for_capabilities() -> None:
    class Library:
        def cuDriverGetVersion(self, version: object) -> int:  # noqa: N802  NVIDIA's name
            ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 13020  # type: ignore[arg-type]
            return 0

        def cuInit(self, _: int) -> int:  # noqa: N802
            return 0

        def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
            ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 2  # type: ignore[arg-type]
            return 0

        def cuDeviceGetAttribute(self, value: object, attribute: int, device: int) -> int:  # noqa: N802
            answer = {75: (9, 8), 76: (0, 6)}[attribute][device]
            ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = answer  # type: ignore[arg-type]
            return 0

    assert driver(lambda _: Library()) == Driver(("9.0", "8.6"), 13)
    assert driver(missing("libcuda.so.1")) == Driver((), None)
