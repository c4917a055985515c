"""Parts of a fitted method, on disk and in memory, and the method that is one graph.

Nothing here imports torch: a worker process that only judges needs numpy and onnxruntime, as a device does.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_runtime.devices.providers import open_session

__all__ = ["BATCH", "Fitted", "Float32", "Frame", "Model", "OneGraph", "Parts", "read", "write"]

BATCH = 8
"""Number of images that go through a network at once; more are taken in turns, so that memory does not grow."""

Frame = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Model = bytes | Path
"""A serialised ONNX model, or the file that holds it."""

_ARRAYS, _ABOUT = "arrays.npz", "method.json"


class Fitted(Protocol):
    """A method that has seen its good images and can judge others."""

    @property
    def bytes(self) -> int:
        """Bytes of all that must be kept to judge: network weights, banks and constants."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Departures from the paper and limits of the figures, in sentences."""

    def __call__(self, frames: Frame) -> tuple[Float32, Float32]:
        """Judge `(N, H, W, 3)` uint8: scores `(N,)` and anomaly maps `(N, H, W)`, the higher the more anomalous."""

    def save(self, folder: Path) -> None:
        """Write everything that `methods.load` needs; the folder is made."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Graphs and arrays of a fitted method."""

    method: str
    """Name of the method."""
    models: dict[str, Model]
    """ONNX graphs by name."""
    arrays: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Banks and constants that are not in a graph, by name."""
    notes: tuple[str, ...] = ()
    """Departures from the paper and limits of the figures, in sentences."""

    @property
    def size(self) -> int:
        """Bytes of graphs and arrays."""
        graphs = (len(each) if isinstance(each, bytes) else each.stat().st_size for each in self.models.values())
        return sum(graphs) + sum(each.nbytes for each in self.arrays.values())


def write(parts: Parts, folder: Path) -> None:
    """Write the parts into a folder: a JSON file, one `.npz`, and one `.onnx` per graph."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in parts.models.items():
        if isinstance(model, bytes):
            (folder / f"{name}.onnx").write_bytes(model)
        else:
            shutil.copyfile(model, folder / f"{name}.onnx")
    np.savez(folder / _ARRAYS, allow_pickle=False, **parts.arrays)
    about = {"method": parts.method, "models": sorted(parts.models), "notes": parts.notes}
    (folder / _ABOUT).write_text(json.dumps(about, indent=1))


def read(folder: Path) -> Parts:
    """Read what `write` wrote. Graphs stay on disk, so that only their sessions hold them in memory.

    Raises:
        PadimEdgeError: The folder holds no fitted method.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text())
    except (OSError, ValueError) as error:
        raise PadimEdgeError(f"{folder} holds no fitted method ({error}); expected what save() writes") from error
    with np.load(folder / _ARRAYS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    models: dict[str, Model] = {name: folder / f"{name}.onnx" for name in about["models"]}
    return Parts(about["method"], models, arrays, tuple(about["notes"]))


class OneGraph:
    """A fitted method that is one ONNX graph from pixels to score and map, as ours is."""

    def __init__(self, parts: Parts, threads: int | None = None) -> None:
        self.parts = parts
        self._session = open_session(parts.models[parts.method], "cpu", threads=threads).session

    @property
    def bytes(self) -> int:
        """Bytes of the graph with all its constants."""
        return self.parts.size

    @property
    def notes(self) -> tuple[str, ...]:
        """Departures from the paper and limits of the figures, in sentences."""
        return self.parts.notes

    def __call__(self, frames: Frame) -> tuple[Float32, Float32]:
        """Judge `(N, H, W, 3)` uint8: scores `(N,)`, maps `(N, H, W)`."""
        found = [
            self._session.run([names.SCORE, names.ANOMALY_MAP], {names.IMAGE: frames[start : start + BATCH]})
            for start in range(0, len(frames), BATCH)
        ]
        scores, maps = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(maps)

    def save(self, folder: Path) -> None:
        """Write everything that `methods.load` needs."""
        write(self.parts, folder)
