"""NVIDIA's driver: which GPUs it shows, and the newest CUDA that it knows."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Driver", "Load", "driver"]

_COUNT_MAJOR_MINOR = (75, 76)
"""Attributes of a GPU: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""

Load = Callable[[str], object]
"""Loads a shared library by name, or raises OSError; `ctypes.CDLL` except in tests."""


@dataclass(frozen=True)
class Driver:
    """Answers of NVIDIA's driver."""

    capabilities: tuple[str, ...] = ()
    """Compute capability of each GPU, such as `8.9`. The first GPU is the one that onnxruntime takes."""
    cuda: int | None = None
    """Newest major version of CUDA that the driver knows; `None` where there is no driver."""


def driver(load: Load = ctypes.CDLL) -> Driver:
    """Ask NVIDIA's driver for its GPUs and its CUDA; without a driver there are none.

    Args:
        load: Loads the driver's library.
    """
    try:
        library: Any = load("libcuda.so.1")
    except OSError:
        return Driver()
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda = None if library.cuDriverGetVersion(ctypes.byref(version)) else version.value // 1000
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return Driver((), cuda)
    found = []
    for device in range(count.value):
        parts = []
        for attribute in _COUNT_MAJOR_MINOR:
            value = ctypes.c_int()
            library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            parts.append(str(value.value))
        found.append(".".join(parts))
    return Driver(tuple(found), cuda)
