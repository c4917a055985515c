"""Evaluation of anything that gives scores and anomaly maps, by the very code that evaluates our models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset
from padim_edge.evaluation.evaluate import Evaluation, conclude
from padim_edge.evaluation.labelled import Truth, labelled_images
from padim_edge.evaluation.metrics import pixel_metrics
from padim_edge.evaluation.result import Scored
from padim_edge_artifact import PadimEdgeError, Preprocessing
from padim_edge_runtime.regions import to_image

__all__ = ["Float32", "Judge", "evaluate_judge"]

Float32 = npt.NDArray[np.float32]

Judge = Callable[[int, npt.NDArray[np.uint8]], tuple[float, Float32]]
"""Function of a test image's number and its frame `(H, W, 3)` that returns the score and the anomaly map `(H, W)`."""


def evaluate_judge(judge: Judge, dataset: Dataset, frame: Preprocessing) -> Evaluation:
    """Judge the test images as `padim_edge.evaluate` does with a model.

    There is no threshold, so the rates of false alarms and misses mean nothing here.

    Args:
        judge: Function that judges one image. Its numbers are those of the test images.
        dataset: Data set with test images.
        frame: Way of an image into the frame that the function judges.

    Raises:
        PadimEdgeError: There are no test images, or one of them cannot be read.
    """
    scored: list[Scored] = []
    unreadable: list[str] = []

    def maps() -> Iterator[tuple[Float32, Truth | None]]:
        for i, each in enumerate(labelled_images(dataset.test, (frame,), unreadable)):
            score, anomaly_map = judge(i, each.frames[0])
            scored.append(Scored(each.item, score))
            yield to_image(anomaly_map, frame, *each.size), each.truth

    pixel = pixel_metrics(maps())
    if unreadable:  # the numbers behind it were not those of the test images
        raise PadimEdgeError(f"an image cannot be judged ({unreadable[0]}); repair the data set")
    return conclude(dataset.class_name, math.inf, scored, pixel, unreadable)
