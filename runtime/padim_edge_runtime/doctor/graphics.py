"""NVIDIA's side: driver, compute capability, and the libraries that the installed onnxruntime asks for."""

from __future__ import annotations

import ctypes
import re
import shlex
from collections.abc import Callable, Collection, Iterator
from importlib import util
from pathlib import Path
from typing import Any

from padim_edge_runtime.doctor import elf, jetson
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding
from padim_edge_runtime.doctor.installer import pip

__all__ = ["capabilities", "driver", "examine", "lacks", "libraries", "missing"]

_OWN = ("libonnxruntime", "libc.", "libm.", "libdl.", "librt.", "libpthread.", "libstdc++", "libgcc_s", "ld-linux")
"""Beginnings of names that come with onnxruntime or the system."""

_TENSORRT = ("libnvinfer", "libnvonnxparser")

_KERNELS = {
    ("1.31", "x86_64"): ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0"),
    ("1.31", "aarch64"): ("8.9", "9.0", "12.0", "12.1"),
}
"""Compute capabilities of PyPI's onnxruntime-gpu, read off its wheels; it holds no PTX, so no others work."""

_OLDEST_DRIVERS = {12: "525", 13: "580"}
"""By major version of CUDA, on Linux; NVIDIA's page on minor version compatibility, read in November 2026."""

_COUNT_MAJOR_MINOR = (75, 76)
"""Attributes of a device: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""

Load = Callable[[str], object]


def examine(
    version: str | None,
    machine: str,
    board: jetson.Jetson | None,
    *,
    lacking: Collection[str] | None,
    devices: tuple[str, ...],
    knows: int | None = None,
    found: Collection[str] = (),
    folder: Path | None = None,
) -> Iterator[Finding]:
    """All findings of this side; few where neither a GPU nor a GPU package is there.

    Args:
        version: Of onnxruntime.
        machine: `x86_64`, `aarch64`.
        board: The Jetson that this is, if it is one.
        lacking: Libraries that no session gets, of those in `libraries(folder)`; `None` where nobody has looked.
        devices: Compute capabilities of the GPUs that the driver shows.
        knows: Newest major version of CUDA that the driver knows.
        found: Distributions that bring onnxruntime.
        folder: Of onnxruntime's own libraries; found out unless given.
    """
    shown = ", ".join(f"compute capability {each}" for each in devices) or "none that the driver shows"
    if not devices and board is not None and board.capability:
        devices = (board.capability,)
        shown += f"; by the board's name, compute capability {board.capability}"
    yield Finding("GPU", shown + (f"; the driver knows CUDA {knows}" if knows else ""))
    folder = folder or _folder_of_onnxruntime()
    asked = libraries(folder) if folder else {}
    cuda = _major([name for names in asked.values() for name in names])
    if cuda and knows and knows < cuda:
        oldest = _OLDEST_DRIVERS.get(cuda)
        cure = f"update NVIDIA's driver{f' to {oldest} or newer' if oldest else ''}"
        if board is not None:
            cure = board.source
        yield Finding("driver", f"knows CUDA {knows}, and this onnxruntime is for CUDA {cuda}", FAILED, cure)
    for provider, names in asked.items() if lacking is not None else ():
        absent = [name for name in names if name in lacking]  # type: ignore[operator]
        cures = _cures(absent, cuda, board, folder, found)
        yield Finding(
            f"libraries for {provider}",
            f"missing: {', '.join(absent)}" if absent else f"all of {', '.join(names)}",
            # Without TensorRT, all of it runs, on CUDA.
            (FAILED if devices and provider == "cuda" else NOTE) if absent else FINE,
            "; ".join(cures) or None,
        )
    kernels = _KERNELS.get((".".join((version or "").split(".")[:2]), machine))
    without = [each for each in devices if kernels and not _covered(each, kernels)]
    if asked and without and board is None and "onnxruntime-gpu" in found:
        yield Finding(
            "kernels",
            f"the onnxruntime-gpu of PyPI has none for compute capability {', '.join(without)}",
            FAILED,
            "use --device cpu, or build onnxruntime for this GPU",
        )


def _covered(capability: str, kernels: tuple[str, ...]) -> bool:
    """Kernels run on devices of the same major version and at least their minor one."""
    major, minor = (int(part) for part in capability.split("."))
    return any(int(each.split(".")[0]) == major and int(each.split(".")[1]) <= minor for each in kernels)


def libraries(folder: Path) -> dict[str, tuple[str, ...]]:
    """Names of the shared libraries that onnxruntime asks for, by device; without its own and the system's."""
    found = {}
    for device in ("cuda", "tensorrt"):
        path = folder / f"libonnxruntime_providers_{device}.so"
        if path.is_file():
            found[device] = tuple(name for name in elf.needed(path) if not name.startswith(_OWN))
    return found


def missing(load: Load, folder: Path | None = None) -> list[str]:
    """Those of them that this process cannot load by name. Called where sessions have been opened before."""
    folder = folder or _folder_of_onnxruntime()
    names = dict.fromkeys(name for each in (libraries(folder) if folder else {}).values() for name in each)
    return [name for name in names if not _loads(name, load)]


def lacks(device: str, lacking: Collection[str]) -> bool:
    """Whether a library that onnxruntime asks for is missing on a device."""
    folder = _folder_of_onnxruntime()
    return folder is not None and any(name in lacking for name in libraries(folder).get(device, ()))


def _cures(
    absent: list[str], cuda: int | None, board: jetson.Jetson | None, folder: Path | None, found: Collection[str]
) -> list[str]:
    """What brings these libraries, one line each, in the order in which to do them."""
    if board is not None:
        if not absent:
            return []
        if cuda is not None and board.cuda is not None and cuda != board.cuda:
            away = f"{pip('uninstall -y ' + ' '.join(found))}, then " if found else ""
            return [f"this onnxruntime is for CUDA {cuda} and the board has CUDA {board.cuda}: {away}{board.source}"]
        return ["sudo apt install nvidia-jetpack; in a container, start it with --runtime nvidia"]
    cures = []
    if any(name.startswith("libcuda.so") for name in absent):
        oldest = _OLDEST_DRIVERS.get(cuda or 0)
        of = f", {oldest} or newer" if oldest else ""
        cures.append(f"install NVIDIA's driver{of}; in a container, start it with --gpus all")
    absent = [name for name in absent if not name.startswith("libcuda.so")]
    folders = _folders_of_packages(folder)
    there = [name for name in absent if any((each / name).exists() for each in folders)]
    if there:
        paths = shlex.quote(":".join(map(str, folders)))
        cures.append(f'export LD_LIBRARY_PATH={paths}"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"')
    absent = [name for name in absent if name not in there]
    of_tensorrt = [name for name in absent if name.startswith(_TENSORRT)]
    if len(of_tensorrt) < len(absent):
        wheels = '"onnxruntime-gpu[cuda,cudnn]"'
        own = f"install CUDA {cuda or 'as your onnxruntime needs it'} and cuDNN 9"
        cures.append(f"{pip('install ' + wheels)}, and doctor again" if "onnxruntime-gpu" in found else own)
    if of_tensorrt:
        wheels = f'"tensorrt-cu{cuda or 13}-libs=={of_tensorrt[0].rpartition(".")[2]}.*"'
        cures.append(f"{pip('install ' + wheels)}, and doctor again")
    return cures


def _major(names: list[str]) -> int | None:
    """Of the CUDA that these libraries belong to; the other ones have numbers of their own."""
    found = (re.fullmatch(r"lib(?:cudart|cublas|cublasLt)\.so\.(\d+)", name) for name in names)
    return next((int(each[1]) for each in found if each), None)


def _folders_of_packages(folder: Path | None) -> list[Path]:
    """Where NVIDIA's packages for Python put their libraries, beside onnxruntime."""
    if folder is None:
        return []
    site = folder.parent.parent
    return [each for each in (*sorted(site.glob("nvidia/*/lib")), site / "tensorrt_libs") if each.is_dir()]


def _loads(name: str, load: Load) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _folder_of_onnxruntime() -> Path | None:
    found = util.find_spec("onnxruntime")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "capi"


def capabilities(load: Load = ctypes.CDLL) -> tuple[str, ...]:
    """Of each GPU that NVIDIA's driver shows, such as `8.9`."""
    return driver(load)[0]


def driver(load: Load) -> tuple[tuple[str, ...], int | None]:
    """(compute capability of each GPU, such as `8.9`; newest major version of CUDA), as NVIDIA's driver says."""
    try:
        library: Any = load("libcuda.so.1")
    except OSError:
        return (), None
    version, count = ctypes.c_int(), ctypes.c_int()
    knows = None if library.cuDriverGetVersion(ctypes.byref(version)) else version.value // 1000
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return (), knows
    found = []
    for device in range(count.value):
        parts = []
        for attribute in _COUNT_MAJOR_MINOR:
            value = ctypes.c_int()
            library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            parts.append(str(value.value))
        found.append(".".join(parts))
    return tuple(found), knows
