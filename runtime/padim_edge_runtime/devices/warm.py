"""Build TensorRT's engine for a model ahead of its first use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from padim_edge_artifact import DeviceError, read_metadata
from padim_edge_artifact.self_test import probe_image
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.devices import engines
from padim_edge_runtime.devices.tensorrt import Batches

__all__ = ["STEPS", "Warmed", "warm"]

STEPS = 5
"""Number of times that `warm` reports progress."""


@dataclass(frozen=True)
class Warmed:
    """The engine that `warm` built or found."""

    folder: Path
    """Folder of the engine."""
    bytes: int
    """Size of the engine's files."""
    batches: Batches
    """Batch sizes that the engine takes."""
    build_seconds: float | None
    """Seconds that the build took; `None` where the engine had been built before."""
    load_seconds: float
    """Seconds that loading the model takes from now on."""

    def to_json(self) -> dict[str, object]:
        """Return the object that `warm --json` prints."""
        return {**asdict(self), "folder": str(self.folder)}


def warm(model: Path, batches: Batches, progress: Callable[[int], object] = lambda _: None) -> Warmed:
    """Build the engine for these batch sizes if there is none, try it, and remember it for later loads.

    Args:
        model: The `.onnx` file.
        batches: Batch sizes that the engine shall take.
        progress: Called with 1 after each of the `STEPS` steps.

    Raises:
        ArtifactError: The model is refused.
        DeviceError: TensorRT is not usable here, or no folder can be written to.
    """
    metadata = read_metadata(model)
    kept = engines.find(model, metadata, batches)
    if kept.folder is None:
        around = engines.roots(model)
        if reasons := [*filter(None, map(engines.distrust, around))]:
            raise DeviceError("; ".join(reasons))
        raise DeviceError(
            f"none of {', '.join(map(str, around))} can be written to; set {engines.CACHE_VARIABLE} to a folder that "
            "can"
        )
    built = kept.built
    begin = time.perf_counter()
    detector = Detector.load(model, "tensorrt", batches=batches)
    seconds = time.perf_counter() - begin
    progress(1)
    frame = probe_image(metadata.input_size)
    for size in (1, batches.tuned, batches.largest):
        detector(np.repeat(frame[None], size, axis=0))
        progress(1)
    kept = engines.find(model, metadata, batches)
    if kept.folder is None or kept.engine is None or not kept.built:
        raise DeviceError(
            f"TensorRT ran the model, but there is no engine in {kept.folder}; see that the disk has room"
        )
    del detector  # before another one takes memory of the GPU
    begin = time.perf_counter()
    Detector.load(model, "tensorrt", batches=batches)
    again = time.perf_counter() - begin
    engines.remember(kept.folder, batches)
    progress(1)
    size = sum(path.stat().st_size for path in kept.engine.iterdir())
    return Warmed(kept.engine, size, batches, None if built else round(seconds, 3), round(again, 3))
