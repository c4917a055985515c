"""Figures of one model, made as a user makes it: fit, export, evaluate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.choosing.record import Row
from padim_edge.datasets import GOOD, Dataset
from padim_edge.evaluation.evaluate import evaluate
from padim_edge.fitted import ExportOptions, fit_dataset
from padim_edge.frames import readable_frames
from padim_edge.model import Model
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method
from padim_edge_model.calibration import threshold
from padim_edge_runtime.bench.footprint import memory
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import SILENT

__all__ = ["ASKED", "RATES", "accuracy", "exported", "footprint", "halves", "subset"]

ASKED = 0.05
"""False-alarm rate that the threshold is set for."""

RATES = (0.01, 0.05, 0.1)
"""False-alarm rates that are looked for over half splits."""

_MB = 1e6


def subset(dataset: Dataset, images: int | None, seed: int) -> Dataset:
    """Return the data set with some of its good images, drawn from the sorted list; the same for all methods.

    A larger number with the same seed has the images of the smaller ones as well. The images stay in the order of the
    data set, which is that of their capture.

    Raises:
        PadimEdgeError: There are fewer images.
    """
    if images is None:
        return dataset
    names = sorted(item.key or item.name for item in dataset.good)
    if len(names) < images:
        raise PadimEdgeError(f"{dataset.class_name} has {len(names)} good images, expected {images}; ask for fewer")
    drawn = {names[int(number)] for number in np.random.default_rng(seed).permutation(len(names))[:images]}
    return replace(dataset, good=tuple(item for item in dataset.good if (item.key or item.name) in drawn))


@contextmanager
def exported(dataset: Dataset, method: Method, weights: str) -> Iterator[Model]:
    """Fit and export a model with the threshold for `ASKED`, and keep its file while the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_dataset(dataset, method, weights=weights, feedback=SILENT)
        options = ExportOptions(false_alarm_rate=ASKED)
        model = fitted.export_with(Path(folder) / "model.onnx", options, SILENT)
        if model.unreadable:
            raise PadimEdgeError(f"an image cannot be read ({model.unreadable[0]}); repair the data set")
        yield model


def accuracy(dataset: Dataset, method: Method, weights: str) -> Row:
    """Evaluate a model on the test images, at the threshold that it ships with."""
    with exported(dataset, method, weights) as model:
        found = evaluate(model, dataset, device="cpu", progress=False)
    if found.unreadable:
        raise PadimEdgeError(f"an image cannot be judged ({found.unreadable[0]}); repair the data set")
    size = model.metadata.method.preprocessing.size
    return {
        "image_auroc": found.image_auroc,
        "pixel_auroc": found.pixel_auroc,
        "pro": found.pro,
        "miss_rate": found.miss_rate,
        "false_alarm_rate": found.false_alarm_rate,
        "threshold": model.threshold,
        "fitted": model.metadata.images,
        "good": found.good,
        "anomalous": found.anomalous,
        "frame": "x".join(map(str, size)),
        "bytes": model.bytes,
        "fit_seconds": round(model.seconds, 2),
    }


def halves(dataset: Dataset, method: Method, weights: str) -> Row:
    """Fit a random half of all good images, those among the test images too, and judge the other half.

    The method's seed draws the half.
    """
    good = (*dataset.good, *(item for item in dataset.test if item.kind == GOOD))
    order = np.random.default_rng(method.seed).permutation(len(good))
    inside, outside = (
        [good[int(number)] for number in np.sort(numbers)] for numbers in np.split(order, [len(good) // 2])
    )
    with exported(replace(dataset, good=tuple(inside), test=()), method, weights) as model:
        detector = Detector.load(model.path, "cpu")
        unreadable: dict[str, str] = {}
        frames = readable_frames(outside, model.metadata.method.preprocessing, unreadable)
        scores = np.array([float(detector(frame).score[0]) for frame in frames])
    if unreadable:
        raise PadimEdgeError(f"an image cannot be read ({next(iter(unreadable.values()))}); repair the data set")
    limits = {rate: threshold(model.metadata.calibration, rate) for rate in RATES}
    return {
        "fitted": len(inside),
        "judged": len(scores),
        "alarms": {f"{rate:g}": int((scores > limit).sum()) for rate, limit in limits.items()},
    }


def footprint(dataset: Dataset, method: Method, weights: str, threads: int | None = None) -> Row:
    """Measure the bytes of a model's files, and the memory that loading it and judging single images adds."""
    with exported(dataset, method, weights) as model:
        found = memory(model.path, "cpu", threads=threads)
    return {
        "fitted": model.metadata.images,
        "prototypes": model.metadata.prototypes,
        "bytes": model.bytes,
        "private_mb": None if found is None else round(found.private / _MB, 1),
        "mapped_mb": None if found is None else round(found.mapped / _MB, 1),
    }
