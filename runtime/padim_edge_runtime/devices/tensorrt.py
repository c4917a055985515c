"""TensorRT: its library, the batches of an engine, and the options that onnxruntime's provider gets."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_runtime.devices.driver import Load

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata

__all__ = ["Batches", "builder", "key", "options", "preload", "shape", "takes", "version"]

_FOLDER_OF_PIP = "tensorrt_libs"
"""Folder of pip's packages of TensorRT, which the linker does not search."""

_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
"""Libraries that onnxruntime-gpu is linked to; the first one tells its version."""

_NEWER = "libnvinfer.so.11"
"""Library that an onnxruntime built for TensorRT 11 is linked to."""


@dataclass(frozen=True)
class Batches:
    """Batch sizes that an engine takes, from 1 on."""

    tuned: int = 1
    """Batch size that the engine is fastest for."""
    largest: int = 8
    """Largest batch size that the engine takes."""

    def __str__(self) -> str:
        return f"{self.tuned}-of-{self.largest}"

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Batches:
        """Tune for the first of some sizes, and take batches up to the greatest of them."""
        return cls(sizes[0], max(sizes))


def takes(metadata: Metadata) -> bool:
    """Tell whether TensorRT takes models of this kind. It does not take int8 for the CPU."""
    return (metadata.precision.name, metadata.precision.target) != ("int8", "cpu")


def shape(metadata: Metadata, batch: int) -> str:
    """Return the shape of an input of `batch` images as TensorRT's tools write it."""
    height, width = metadata.input_size
    return f"{metadata.preprocessing.input_name}:{batch}x{height}x{width}x3"


def options(metadata: Metadata, batches: Batches, folder: Path | None, timings: Path | None = None) -> dict[str, str]:
    """Return the options of onnxruntime's TensorRT provider.

    Args:
        metadata: Metadata of the model.
        batches: Batch sizes that the engine shall take.
        folder: Folder for the engine; `None` keeps none.
        timings: Folder for the builder's measurements; `None` keeps none.
    """
    # With explicit profiles the engine is built when the session is opened, and never again. Without them it is built
    # by the first call, and again by each call with a larger batch.
    chosen = {
        "trt_profile_min_shapes": shape(metadata, 1),
        "trt_profile_opt_shapes": shape(metadata, batches.tuned),
        "trt_profile_max_shapes": shape(metadata, batches.largest),
    }
    if folder is not None:
        chosen |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
    if timings is not None:
        chosen |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(timings)}
    # No trt_fp16_enable and no trt_int8_enable, for any precision. Without them, onnxruntime asks TensorRT 10 for a
    # strongly typed network. Its types are those of our graphs (float16 constants and casts, QuantizeLinear). With one
    # of them, TensorRT would be free to compute the float32 parts in float16 as well, where squares of distances
    # overflow. TensorRT 11 knows strongly typed networks only.
    return chosen


def key(metadata: Metadata, version: str, capability: str, *, tf32: bool = False) -> str:
    """Return a name for a model's engines, from all that they depend on.

    Args:
        metadata: Metadata of the model; its digests stand for the file and its data.
        version: Version of TensorRT.
        capability: Compute capability of the GPU, such as `8.9`.
        tf32: Whether float32 is computed in TF32.
    """
    digests = metadata.digests
    content = hashlib.sha256(f"{digests.model} {digests.data}".encode()).hexdigest()[:16]
    return f"{content}-{builder(version, capability)}{'-tf32' if tf32 else ''}"


def builder(version: str, capability: str) -> str:
    """Return a name for what builds engines: the version of TensorRT and the kind of GPU."""
    return f"tensorrt{version}-sm{capability.replace('.', '')}"


def version(load: Load = ctypes.CDLL) -> str:
    """Return the version of the TensorRT library, such as `10.9.0`; `unknown` where there is none."""
    for name in (_LIBRARIES[0], _NEWER):
        try:
            number = int(load(name).getInferLibVersion())  # type: ignore[attr-defined]
        except (OSError, AttributeError):
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return "unknown"


def preload(load: Load = lambda path: ctypes.CDLL(path, ctypes.RTLD_GLOBAL)) -> None:
    """Load the libraries of pip's package of TensorRT, if it is installed; the linker finds all others."""
    found = util.find_spec(_FOLDER_OF_PIP)
    places = list(found.submodule_search_locations or ()) if found else []
    for name in _LIBRARIES:
        for path in (Path(place) / name for place in places):
            if path.is_file():
                with contextlib.suppress(OSError):  # the session will say what is missing
                    load(str(path))
