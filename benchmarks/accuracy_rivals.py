"""Rivals of `benchmarks.accuracy`, fitted on the frames that the preset `edge` sees."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.images import frames, write_frames
from benchmarks.judging import Float32, Judge
from benchmarks.rivals import Missing, anomalib
from padim_edge.presets import PRESETS

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset

__all__ = ["FRAME", "Rival", "fit"]

FRAME = PRESETS["edge"].preprocessing
"""Way of an image into the frame of every rival: whole, at 224 x 224."""


@dataclass(frozen=True)
class Rival:
    """A fitted rival."""

    judge: Judge
    """Function that judges one test image."""
    bytes: int
    """Size of its model files, or of its bank and network."""
    seconds: float
    """Duration from the images on disk to these files."""
    notes: tuple[str, ...] = ()
    """Limits of the figures, in sentences without full stops."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of packages that are not in our own environment."""


def fit(method: str, dataset: Dataset, weights: Path, folder: Path) -> Rival:
    """Fit a rival on the good images.

    Args:
        method: One of `benchmarks.methods.METHODS`, or `anomalib`.
        dataset: Data set with good images and test images.
        weights: Weights file of resnet18.
        folder: Folder for files on the way, needed until the test images are judged.

    Raises:
        Missing: The rival is not available here.
        PadimEdgeError: It cannot be fitted on these images.
    """
    if method == "anomalib":
        return _fit_anomalib(dataset, weights, folder)
    return _fit_ours(method, dataset, weights, folder)


def _fit_ours(method: str, dataset: Dataset, weights: Path, folder: Path) -> Rival:
    """Fit a method of `benchmarks.methods`, which we wrote."""
    from benchmarks import methods
    from benchmarks.methods import features

    start = time.perf_counter()
    network = features.load("resnet18", weights, folder)
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
    # The file names are numbers, in the order of the data set.
    threads = os.cpu_count() or 1
    said = anomalib(folder / "good", folder, weights=weights, test=folder / "test", threads=threads)
    with np.load(folder / "test.npz", allow_pickle=False) as file:
        names, scores, maps = (file[name] for name in ("names", "scores", "maps"))
    if len(names) != len(dataset.test) or maps.shape[1:] != FRAME.size:
        raise Missing(f"anomalib judged {len(names)} frames of {len(dataset.test)} with maps {maps.shape[1:]}")
    return Rival(
        lambda i, _: (float(scores[i]), maps[i]),
        int(said["onnx"]["bytes"]),
        # The start of Python, the import of torch and the test frames do not count.
        seconds + said["seconds"]["fit"] + said["seconds"]["export"],
        ("the scores and maps are torch's, before the post-processing, which clamps",),
        {name: said["versions"][name] for name in ("anomalib", "timm")},
    )
