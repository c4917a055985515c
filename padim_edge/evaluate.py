"""A model against labelled pictures: how well do scores and maps tell good from bad?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import images
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import in_order
from padim_edge_runtime.regions import to_picture

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one class; `None` where one is undefined for want of pictures or masks."""

    image_auroc: float | None
    """Area under the ROC curve of the scores, one a picture."""
    image_ap: float | None
    """Average precision of the scores."""
    pixel_auroc: float | None
    """Area under the ROC curve over all pixels that the model judged, at the pictures' own resolution."""
    false_alarm_rate: float | None
    """Share of the good pictures above the shipped threshold."""
    miss_rate: float | None
    """Share of the anomalous pictures not above it."""
    good: int
    """Number of good pictures judged."""
    anomalous: int
    """Number of anomalous pictures judged."""
    without_mask: int
    """Anomalous pictures that have no mask; they count in the image metrics only."""
    unreadable: tuple[str, ...]
    """One sentence for each picture that could not be judged."""


@dataclass(frozen=True, eq=False)
class _Judged:
    score: float
    values: npt.NDArray[np.float32]
    """Map values of the judged pixels."""
    truth: npt.NDArray[np.bool_] | None
    """Of the same pixels; `None` for want of a mask."""


def evaluate(detector: Detector, dataset: Dataset, progress: Callable[[int], object] = lambda _: None) -> Evaluation:
    """Judge the test pictures of a data set and compare with their labels.

    Maps are compared at the pictures' own resolution. Where a preset crops (`paper`), only the pixels inside the crop
    count, as in the published figures.

    Raises:
        PadimEdgeError: The data set has no test pictures, or none of them can be read.
    """
    if not dataset.test:
        raise PadimEdgeError(
            f"the data set of {dataset.class_name!r} has no test pictures; expected test/{GOOD} and test/<defect>"
        )
    judged: list[_Judged] = []
    labels: list[bool] = []
    unreadable: list[str] = []

    def load(item: Item) -> tuple[images.Picture, npt.NDArray[np.uint8]] | ImageError:
        try:
            picture = item.read()
            return picture, images.prepare(picture.image, detector.metadata.preprocessing)
        except ImageError as error:
            return error

    for item, loaded in zip(dataset.test, in_order(load, dataset.test), strict=True):
        try:
            if isinstance(loaded, ImageError):
                raise loaded
            judged.append(_judge(detector, item, *loaded))
            labels.append(item.kind != GOOD)
        except ImageError as error:
            unreadable.append(str(error))
        progress(1)
    if not judged:
        raise PadimEdgeError(f"none of the {len(dataset.test)} test pictures can be read; the first: {unreadable[0]}")
    return _metrics(judged, np.array(labels), detector.metadata.threshold, tuple(unreadable))


def _judge(detector: Detector, item: Item, picture: images.Picture, frame: npt.NDArray[np.uint8]) -> _Judged:
    result = detector(frame)
    width, height = picture.image.size
    values = to_picture(result.anomaly_map[0], detector.metadata.preprocessing, width, height)
    seen = ~np.isnan(values)
    truth = np.zeros(values.shape, np.bool_) if item.kind == GOOD else item.mask() if item.mask else None
    if truth is not None and truth.shape != values.shape:
        raise ImageError(
            f"the mask of {item.name} has {truth.shape[1]}x{truth.shape[0]} pixels, expected those of the picture, "
            f"{width}x{height}"
        )
    return _Judged(float(result.score[0]), values[seen], None if truth is None else truth[seen])


def _metrics(
    judged: list[_Judged], labels: npt.NDArray[np.bool_], threshold: float, unreadable: tuple[str, ...]
) -> Evaluation:
    from sklearn.metrics import average_precision_score, roc_auc_score

    def defined(metric: Any, truth: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> float | None:
        return float(metric(truth, values)) if truth.any() and not truth.all() else None

    scores = np.array([each.score for each in judged])
    with_mask = [each for each in judged if each.truth is not None]
    pixel_truth = np.concatenate(
        [each.truth for each in with_mask if each.truth is not None] or [np.zeros(0, np.bool_)]
    )
    pixel_values = np.concatenate([each.values for each in with_mask] or [np.zeros(0, np.float32)])
    alarms = scores > threshold
    return Evaluation(
        image_auroc=defined(roc_auc_score, labels, scores),
        image_ap=defined(average_precision_score, labels, scores),
        pixel_auroc=defined(roc_auc_score, pixel_truth, pixel_values),
        false_alarm_rate=float(alarms[~labels].mean()) if not labels.all() else None,
        miss_rate=float(1 - alarms[labels].mean()) if labels.any() else None,
        good=int((~labels).sum()),
        anomalous=int(labels.sum()),
        without_mask=len(judged) - len(with_mask),
        unreadable=unreadable,
    )
