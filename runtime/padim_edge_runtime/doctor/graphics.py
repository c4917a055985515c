"""NVIDIA's side of a machine: driver, compute capability, and the libraries that onnxruntime asks for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from padim_edge_runtime.doctor import jetson
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding
from padim_edge_runtime.doctor.installer import pip
from padim_edge_runtime.doctor.libraries import folder_of_onnxruntime, libraries
from padim_edge_runtime.doctor.trial import Trial

__all__ = ["examine"]

_TENSORRT = ("libnvinfer", "libnvonnxparser")

_KERNELS = {
    ("1.31", "x86_64"): ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0"),
    ("1.31", "aarch64"): ("8.9", "9.0", "12.0", "12.1"),
}
"""Compute capabilities of PyPI's onnxruntime-gpu, read off its wheels. It holds no PTX, so no others work."""

_OLDEST_DRIVERS = {12: "525", 13: "580"}
"""Oldest driver on Linux by major version of CUDA, from NVIDIA's page on minor version compatibility (11/2026)."""


@dataclass(frozen=True)
class _Place:
    """Facts that the cures depend on."""

    cuda: int | None
    """Major version of the CUDA that onnxruntime is for."""
    board: jetson.Jetson | None
    """Jetson that this machine is, if it is one."""
    folder: Path | None
    """Folder of onnxruntime's own libraries."""
    found: Collection[str]
    """Distributions that bring onnxruntime."""


def examine(
    trial: Trial,
    machine: str,
    board: jetson.Jetson | None,
    *,
    found: Collection[str] = (),
    folder: Path | None = None,
) -> Iterator[Finding]:
    """Give all findings of this side; few where neither a GPU nor a GPU package is there.

    Args:
        trial: Outcome of trying out onnxruntime.
        machine: `x86_64` or `aarch64`.
        board: Jetson that this machine is, if it is one.
        found: Distributions that bring onnxruntime.
        folder: Folder of onnxruntime's own libraries; found unless given.
    """
    devices, knows = trial.driver.capabilities, trial.driver.cuda
    shown = ", ".join(f"compute capability {each}" for each in devices) or "none that the driver shows"
    if not devices and board is not None and board.capability:
        devices = (board.capability,)
        shown += f"; by the board's name, compute capability {board.capability}"
    yield Finding("GPU", shown + (f"; the driver knows CUDA {knows}" if knows else ""))
    folder = folder or folder_of_onnxruntime()
    asked = libraries(folder) if folder else {}
    place = _Place(_major([name for names in asked.values() for name in names]), board, folder, found)
    if place.cuda and knows and knows < place.cuda:
        oldest = _OLDEST_DRIVERS.get(place.cuda)
        cure = f"update NVIDIA's driver{f' to {oldest} or newer' if oldest else ''}"
        value = f"knows CUDA {knows}, and this onnxruntime is for CUDA {place.cuda}"
        yield Finding("driver", value, FAILED, cure if board is None else board.source)
    for provider, names in asked.items() if trial.missing is not None else ():
        absent = [name for name in names if name in (trial.missing or ())]
        yield Finding(
            f"libraries for {provider}",
            f"missing: {', '.join(absent)}" if absent else f"all of {', '.join(names)}",
            # Without TensorRT, models run on CUDA.
            (FAILED if devices and provider == "cuda" else NOTE) if absent else FINE,
            "; ".join(_cures(absent, place)) or None,
        )
    kernels = _KERNELS.get((".".join((trial.version or "").split(".")[:2]), machine))
    without = [each for each in devices if kernels and not _covered(each, kernels)]
    if asked and without and board is None and "onnxruntime-gpu" in found:
        yield Finding(
            "kernels",
            f"the onnxruntime-gpu of PyPI has none for compute capability {', '.join(without)}",
            FAILED,
            "use --device cpu, or build onnxruntime for this GPU",
        )


def _covered(capability: str, kernels: tuple[str, ...]) -> bool:
    """Tell whether a GPU runs one of these kernels: of the same major version, and at most its minor one."""
    major, minor = (int(part) for part in capability.split("."))
    return any(int(each.split(".")[0]) == major and int(each.split(".")[1]) <= minor for each in kernels)


def _cures(absent: list[str], place: _Place) -> list[str]:
    """Say what brings these libraries, one line each, in the order in which to do it."""
    board, cuda, found = place.board, place.cuda, place.found
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
    folders = _folders_of_packages(place.folder)
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
    """Read the major version of CUDA off its own libraries; those of cuDNN and TensorRT have other numbers."""
    found = (re.fullmatch(r"lib(?:cudart|cublas|cublasLt)\.so\.(\d+)", name) for name in names)
    return next((int(each[1]) for each in found if each), None)


def _folders_of_packages(folder: Path | None) -> list[Path]:
    """List the folders beside onnxruntime where NVIDIA's Python packages put their libraries."""
    if folder is None:
        return []
    site = folder.parent.parent
    return [each for each in (*sorted(site.glob("nvidia/*/lib")), site / "tensorrt_libs") if each.is_dir()]
