"""The shared libraries that the installed onnxruntime asks for on NVIDIA's devices, and which of them are missing."""

from __future__ import annotations

from collections.abc import Collection
from importlib import util
from pathlib import Path

from padim_edge_runtime.devices.driver import Load
from padim_edge_runtime.doctor import elf

__all__ = ["folder_of_onnxruntime", "lacks", "libraries", "missing"]

_OWN = ("libonnxruntime", "libc.", "libm.", "libdl.", "librt.", "libpthread.", "libstdc++", "libgcc_s", "ld-linux")
"""Beginnings of names that come with onnxruntime or the system."""


def libraries(folder: Path) -> dict[str, tuple[str, ...]]:
    """List the names of the shared libraries that onnxruntime asks for, by device.

    Its own libraries and those of the system are left out.

    Args:
        folder: Folder of onnxruntime's own libraries.
    """
    found = {}
    for device in ("cuda", "tensorrt"):
        path = folder / f"libonnxruntime_providers_{device}.so"
        if path.is_file():
            found[device] = tuple(name for name in elf.needed(path) if not name.startswith(_OWN))
    return found


def missing(load: Load, folder: Path | None = None) -> list[str]:
    """List the libraries that this process cannot load by name. Call it where sessions have been opened before.

    Args:
        load: Loads a library, or raises OSError.
        folder: Folder of onnxruntime's own libraries; found unless given.
    """
    folder = folder or folder_of_onnxruntime()
    names = dict.fromkeys(name for each in (libraries(folder) if folder else {}).values() for name in each)
    return [name for name in names if not _loads(name, load)]


def lacks(device: str, lacking: Collection[str]) -> bool:
    """Tell whether a library that onnxruntime asks for on a device is among the lacking ones."""
    folder = folder_of_onnxruntime()
    return folder is not None and any(name in lacking for name in libraries(folder).get(device, ()))


def folder_of_onnxruntime() -> Path | None:
    """Find the folder of onnxruntime's own libraries without importing it; `None` where it is not installed."""
    found = util.find_spec("onnxruntime")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "capi"


def _loads(name: str, load: Load) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True
