"""NVIDIA's side: driver, compute capability, and the libraries that the installed onnxruntime asks for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path

from padim_edge_runtime.doctor import elf, jetson
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding

__all__ = ["capabilities", "examine", "libraries"]

_OWN = ("libonnxruntime", "libc.", "libm.", "libdl.", "librt.", "libpthread.", "libstdc++", "libgcc_s", "ld-linux")
"""Beginnings of names that come with onnxruntime or the system."""

_CURES = {
    "libcuda.so": "install NVIDIA's driver",
    "libcudnn": "pip install nvidia-cudnn-cu{cuda}",
    "libnvinfer": "pip install tensorrt-cu{cuda}-libs==10.* and put its folder tensorrt_libs on LD_LIBRARY_PATH",
    "libnvonnxparser": "pip install tensorrt-cu{cuda}-libs==10.* and put its folder tensorrt_libs on LD_LIBRARY_PATH",
}
"""What brings a library, by the beginning of its name; all others come with CUDA."""

_CUDA = 'pip install "onnxruntime-gpu[cuda,cudnn]"'

_KERNELS = {
    ("1.31", "x86_64"): ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0"),
    ("1.31", "aarch64"): ("8.9", "9.0", "12.0", "12.1"),
}
"""Compute capabilities of PyPI's onnxruntime-gpu, read off its wheels; it holds no PTX, so no others work."""

_COUNT_MAJOR_MINOR = (75, 76)
"""Attributes of a device: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""

Load = Callable[[str], object]


def examine(
    version: str | None,
    machine: str,
    board: jetson.Jetson | None,
    *,
    load: Load = ctypes.CDLL,
    folder: Path | None = None,
    devices: Callable[[], tuple[str, ...]] | None = None,
) -> Iterator[Finding]:
    """All findings of this side; few where neither a GPU nor a GPU package is there.

    Args:
        version: Of onnxruntime.
        machine: `x86_64`, `aarch64`.
        board: The Jetson that this is, if it is one.
        load: Loads a shared library by its name; another one for tests.
        folder: Of onnxruntime's own libraries; found out unless given.
        devices: Compute capabilities of the GPUs; asked of the driver unless given.
    """
    present = (devices or capabilities)()
    if not present and board is not None and board.capability:
        present = (board.capability,)
    yield Finding("GPU", ", ".join(f"compute capability {each}" for each in present) or "none that the driver shows")
    folder = folder or _folder_of_onnxruntime()
    asked = libraries(folder) if folder else {}
    for provider, names in asked.items():
        missing = [name for name in names if not _loads(name, load)]
        cures = dict.fromkeys(_cure(name) for name in missing)
        yield Finding(
            f"libraries for {provider}",
            f"missing: {', '.join(missing)}" if missing else f"all of {', '.join(names)}",
            (FAILED if present else NOTE) if missing else FINE,
            "; ".join(cures) if missing else None,
        )
    kernels = _KERNELS.get((".".join((version or "").split(".")[:2]), machine))
    lacking = [each for each in present if kernels and not _covered(each, kernels)]
    if asked and lacking and board is None:
        yield Finding(
            "kernels",
            f"the onnxruntime-gpu of PyPI has none for compute capability {', '.join(lacking)}",
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


def _cure(name: str) -> str:
    how = next((cure for start, cure in _CURES.items() if name.startswith(start)), _CUDA)
    return how.format(cuda="13" if name.endswith(("10", "13", "9")) else "12")


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
    """Of each GPU that the driver shows, such as `8.9`."""
    try:
        driver = load("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):  # type: ignore[attr-defined]
        return ()
    found = []
    for device in range(count.value):
        parts = []
        for attribute in _COUNT_MAJOR_MINOR:
            value = ctypes.c_int()
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)  # type: ignore[attr-defined]
            parts.append(str(value.value))
        found.append(".".join(parts))
    return tuple(found)
