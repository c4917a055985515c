"""Rivals for `benchmarks.accuracy`: fitted on the frames that the preset `edge` sees, judged by our own metrics."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.rivals import Missing, anomalib
from benchmarks.rivals.images import frames, write_frames
from padim_edge.evaluation.evaluate import Evaluation, Scored, conclude, load
from padim_edge.evaluation.metrics import pixel_metrics
from padim_edge.presets import PRESETS
from padim_edge_runtime.regions import to_image

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset

__all__ = ["FRAME", "Judge", "Rival", "evaluate", "fit"]

Float32 = npt.NDArray[np.float32]
Judge = Callable[[int, npt.NDArray[np.uint8]], tuple[float, Float32]]
"""Number of a test image, and its frame `(H, W, 3)` -> its score, and its map `(H, W)`."""

FRAME = PRESETS["edge"].preprocessing
"""How every rival sees an image: whole, at 224 x 224."""


@dataclass(frozen=True)
class Rival:
    """A fitted rival."""

    judge: Judge
    bytes: int
    """Of all that a device would need beside the engine."""
    seconds: float
    """From the images on disk to what `bytes` counts."""
    notes: tuple[str, ...] = ()
    """What its figures are good for, in sentences without full stops."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of packages that are not in our own environment."""


def fit(method: str, dataset: Dataset, weights: Path, folder: Path) -> Rival:
    """Fit a rival on the good images.

    Args:
        method: Of `benchmarks.methods.METHODS`, or `anomalib`.
        dataset: Its good images are fitted on.
        weights: Of resnet18.
        folder: For files on the way; may go once the test images are judged.

    Raises:
        Missing: It cannot be had here.
        PadimEdgeError: It cannot be fitted on these images.
    """
    return _fit_anomalib(dataset, weights, folder) if method == "anomalib" else _fit_ours(method, dataset, weights)


def _fit_ours(method: str, dataset: Dataset, weights: Path) -> Rival:
    """A method of `benchmarks.methods`, which we wrote."""
    from benchmarks import methods
    from benchmarks.methods import features

    start = time.perf_counter()
    network = features.load("resnet18", weights)
    fitted = methods.fit(method, frames(dataset.good, FRAME), network, FRAME.size)
    seconds = time.perf_counter() - start

    def judge(_: int, frame: npt.NDArray[np.uint8]) -> tuple[float, Float32]:
        scores, maps = fitted(frame[None])
        return float(scores[0]), maps[0]

    return Rival(judge, fitted.bytes, seconds, fitted.notes)


def _fit_anomalib(dataset: Dataset, weights: Path, folder: Path) -> Rival:
    """Fit anomalib's own PaDiM in an environment of its own, and let it judge the test frames there."""
    start = time.perf_counter()
    write_frames(dataset.good, FRAME, folder / "good")
    seconds = time.perf_counter() - start
    write_frames(dataset.test, FRAME, folder / "test")
    # Its file names are numbers, in the order of the data set.
    threads = os.cpu_count() or 1
    said = anomalib(folder / "good", folder, weights=weights, test=folder / "test", threads=threads)
    with np.load(folder / "test.npz", allow_pickle=False) as file:
        names, scores, maps = (file[name] for name in ("names", "scores", "maps"))
    if len(names) != len(dataset.test) or maps.shape[1:] != FRAME.size:
        raise Missing(f"anomalib judged {len(names)} frames of {len(dataset.test)} with maps {maps.shape[1:]}")
    return Rival(
        lambda i, _: (float(scores[i]), maps[i]),
        _onnx_bytes(said),
        # Starting Python, importing torch and judging the test frames are not part of it.
        seconds + said["seconds"]["fit"] + said["seconds"]["export"],
        ("the scores and maps are torch's, before the post-processing, which clamps",),
        {name: said["versions"][name] for name in ("anomalib", "timm")},
    )


def _onnx_bytes(said: dict[str, Any]) -> int:
    return int(said["onnx"]["bytes"])


def evaluate(judge: Judge, dataset: Dataset) -> Evaluation:
    """The same as `padim_edge.evaluation.evaluate.evaluate`, from the same parts, for what is no `Detector`.

    Rivals have no threshold, so the rates of false alarms and misses mean nothing here.
    """
    scored: list[Scored] = []
    unreadable: list[str] = []

    def maps() -> Iterator[tuple[Float32, npt.NDArray[np.bool_] | None]]:
        for i, each in enumerate(load(dataset.test, (FRAME,), unreadable)):
            score, anomaly_map = judge(i, each.frames[0])
            scored.append(Scored(each.item, score))
            yield to_image(anomaly_map, FRAME, *each.size), each.truth

    pixel = pixel_metrics(maps())
    return conclude(dataset.class_name, math.inf, scored, pixel, unreadable)
