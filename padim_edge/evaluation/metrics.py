"""Metrics of a test set: ROC and PRO over pixels; ROC, F1 and error rates over images.

Pixel metrics are exact, not binned, and need little more memory than the pixels' values. The idea: every area is a mean
over *anomalous* pixels. Each one counts with a number that depends only on the *normal* pixels above it and level with
it. So the normal values are sorted once, in place, and the few anomalous values are looked up in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PRO_LIMIT", "Curve", "ImageMetrics", "PixelMetrics", "Rate", "image_metrics", "pixel_metrics", "rate"]

PRO_LIMIT = 0.3
"""False-positive rate up to which the official evaluation of MVTec AD integrates PRO."""

_CONFIDENCE = 0.95

Values = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of the ROC and PRO curves, for plots: exact, but a few hundred out of millions.

    Between two points the true curves may rise in steps, so do not compute areas from these points.
    """

    fpr: Floats
    """`(K,)`, 0 to 1, rising: share of the normal pixels at or above a threshold."""
    tpr: Floats
    """`(K,)`, 0 to 1, rising: share of the anomalous pixels at or above that threshold."""
    pro: Floats
    """`(K,)`, 0 to 1, rising: share of a region's pixels at or above that threshold, mean over all regions."""


@dataclass(frozen=True, eq=False)
class PixelMetrics:
    """Metrics over all judged pixels of a test set; `None` where there are no normal or no anomalous pixels."""

    auroc: float | None
    """Area under the ROC curve, 0 to 1; ties count half."""
    pro: float | None
    """Area under the PRO curve up to a false-positive rate of 0.3, divided by 0.3: 0 to 1."""
    regions: int
    """Number of connected regions of the ground truth, over all images, with at least one judged pixel."""
    curve: Curve | None
    """Points of both curves."""


@dataclass(frozen=True)
class Rate:
    """A share of images and its confidence interval."""

    count: int
    """Number of images that are counted."""
    total: int
    """Number of images in all, 1 or more."""
    low: float
    """Lower end of the 95 % Clopper-Pearson interval. It covers at least 95 %, so it never promises too much."""
    high: float
    """Upper end of the 95 % Clopper-Pearson interval."""

    @property
    def value(self) -> float:
        """Share `count / total`, 0 to 1."""
        return self.count / self.total


@dataclass(frozen=True)
class ImageMetrics:
    """Metrics over images; `None` where there are no good or no anomalous images."""

    auroc: float | None
    """Area under the ROC curve of the scores."""
    ap: float | None
    """Average precision of the scores; anomalous images are the ones to find."""
    best_f1: float | None
    """Largest F1 score of any threshold. It is chosen with the labels; no other threshold reaches more."""
    best_f1_threshold: float | None
    """Threshold with that F1 score; scores above it are alarms."""
    false_alarm: Rate | None
    """Good images above the given threshold."""
    miss: Rate | None
    """Anomalous images not above the given threshold."""


@dataclass(frozen=True, eq=False)
class _Anomalous:
    """Judged anomalous pixels of one image, in ascending order of their values."""

    values: Values
    """`(A,)` values in the anomaly map."""
    shares: Floats
    """`(A,)` share of its region that each pixel is: 1 / number of the region's judged pixels."""
    regions: int
    """Number of regions with at least one judged pixel."""


def pixel_metrics(maps: Iterable[tuple[Values, Truth | None]], *, limit: float = PRO_LIMIT) -> PixelMetrics:
    """Compare anomaly maps with their masks by the rules of the official MVTec AD evaluation.

    * Regions are 8-connected and found in each image by itself.
    * PRO is the mean over all regions of the test set; large and small ones count alike.
    * The false-positive rate counts the normal pixels of all images, good and anomalous.
    * Every distinct value is a threshold, and the point (0, 0) belongs to the curves.
    * Areas follow the trapezoid rule, with linear interpolation at the limit.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129 (2021), section 5.1, and the evaluation
    code published with it.

    The memory needed is 4 bytes per normal pixel, 12 bytes per anomalous pixel, and one image.

    Args:
        maps: Anomaly map and ground truth of each image. The map is `(H, W)` float32 at the image's own resolution, NaN
            where the model did not look. The truth is `(H, W)` bool; an image whose truth is `None` is left out. Only
            the judged part of a region counts.
        limit: False-positive rate up to which PRO is integrated, above 0 and at most 1.
    """
    assert 0 < limit <= 1
    # A bytearray grows in place. Joining a list of arrays would hold everything twice.
    normal_bytes = bytearray()
    images: list[_Anomalous] = []
    for values, truth in maps:
        if truth is None:
            continue
        assert values.shape == truth.shape
        judged = ~np.isnan(values)
        normal_bytes += values[judged & ~truth].astype(np.float32, copy=False).data
        if truth.any():
            images.append(_anomalous(values, truth, judged))
    normal = np.frombuffer(normal_bytes, np.float32)
    normal.sort()

    regions = sum(each.regions for each in images)
    if not regions or not len(normal):
        return PixelMetrics(auroc=None, pro=None, regions=regions, curve=None)
    roc_area = pro_area = 0.0
    for each in images:
        above = len(normal) - np.searchsorted(normal, each.values, "right")
        not_below = len(normal) - np.searchsorted(normal, each.values, "left")
        roc_area += float(_areas(above, not_below, float(len(normal))).sum())
        pro_area += float((each.shares * _areas(above, not_below, limit * len(normal))).sum())
    anomalous = sum(len(each.values) for each in images)
    return PixelMetrics(
        # Rounded shares such as 1/3 may add up to a little over 1.
        auroc=min(roc_area / len(normal) / anomalous, 1.0),
        pro=min(pro_area / (limit * len(normal)) / regions, 1.0),
        regions=regions,
        curve=_curve(normal, images, limit),
    )


def _anomalous(values: Values, truth: Truth, judged: Truth) -> _Anomalous:
    """Take the judged anomalous pixels of one image; all arguments are `(H, W)`."""
    from scipy import ndimage

    # The whole truth is labelled, because pixels that were not judged may connect two parts of one region.
    labels, _ = ndimage.label(truth, structure=np.ones((3, 3)))
    seen = truth & judged
    label = labels[seen]
    sizes = np.bincount(label)
    found = values[seen].astype(np.float32, copy=False)
    order = np.argsort(found)
    return _Anomalous(found[order], 1 / sizes[label[order]], int(np.count_nonzero(sizes)))


def _areas(above: npt.NDArray[np.intp], not_below: npt.NDArray[np.intp], limit: float) -> Floats:
    """Compute the area under the curve of each single anomalous pixel, in normal pixels.

    The threshold falls along such a curve. It is 0 until `x = above` normal pixels have passed the threshold, and 1
    from `x = not_below` on. Pixels of equal value pass together, so a straight line joins the two points. All curves
    have their corners at thresholds and are straight between them. So their mean is the ROC curve of all pixels, and
    their mean weighted by shares of regions is the PRO curve. The area under a mean is the mean of the areas:

        area = max(limit - not_below, 0) + u^2 / (2 (not_below - above)),  u = clip(limit - above, 0, not_below - above)

    If `limit` is the number of all normal pixels, this is the Mann-Whitney statistic, `below + level / 2`.

    Args:
        above: `(A,)` number of normal pixels above each anomalous pixel.
        not_below: `(A,)` number of normal pixels above it or level with it.
        limit: End of the area, in normal pixels.

    Returns:
        `(A,)` areas, 0 to `limit`.
    """
    level = not_below - above
    covered = np.clip(limit - above, 0, level)
    # Where nothing is level, nothing is covered either. The 1 only avoids a division by 0.
    areas: Floats = np.maximum(limit - not_below, 0) + covered**2 / (2 * np.maximum(level, 1))
    return areas


def _curve(normal: Values, images: list[_Anomalous], limit: float) -> Curve:
    """Choose points of the curves, dense up to `limit` and in logarithmic steps towards 0.

    Each point lies at a normal value or just above it. Between two normal values the curves only rise, so all corners
    lie at such points.
    """
    end, total = limit * len(normal), len(normal)
    ranks = np.concatenate([np.geomspace(1, total, 75), np.linspace(1, end, 100), np.linspace(end, total, 75)])
    at_ranks = normal[total - ranks.astype(np.intp).clip(1, total)]
    with np.errstate(over="ignore"):  # the number above the largest one is infinity, which serves as well
        above_ranks = np.nextafter(at_ranks, np.float32(np.inf))
    thresholds = np.unique(np.append(at_ranks, above_ranks))[::-1]
    fpr = (total - np.searchsorted(normal, thresholds, "left")) / total
    tpr, pro = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for each in images:
        passed = len(each.values) - np.searchsorted(each.values, thresholds, "left")
        tpr += passed
        pro += np.append(0, np.cumsum(each.shares[::-1]))[passed]
    tpr /= sum(len(each.values) for each in images)
    pro /= sum(each.regions for each in images)
    points = np.stack([fpr, tpr, pro.clip(0, 1)])
    points = np.unique(np.column_stack([np.zeros(3), points, np.ones(3)]), axis=1)
    return Curve(*points)


def image_metrics(labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating], threshold: float) -> ImageMetrics:
    """Compare scores with labels.

    Args:
        labels: `(N,)` bool, True where an image is anomalous.
        scores: `(N,)` float, finite; the higher, the more anomalous.
        threshold: Threshold of the model; scores above it are alarms.
    """
    assert labels.shape == scores.shape
    alarms = scores > threshold
    false_alarm, miss = rate(alarms[~labels]), rate(~alarms[labels])
    if false_alarm is None or miss is None:
        return ImageMetrics(None, None, None, None, false_alarm, miss)
    from sklearn.metrics import average_precision_score, roc_auc_score

    best_f1, best_f1_threshold = _best_f1(labels, scores)
    return ImageMetrics(
        auroc=float(roc_auc_score(labels, scores)),
        ap=float(average_precision_score(labels, scores)),
        best_f1=best_f1,
        best_f1_threshold=best_f1_threshold,
        false_alarm=false_alarm,
        miss=miss,
    )


def _best_f1(labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Find the largest F1 score and a threshold that reaches it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, scores)
    # The last point has no threshold. Where precision is 0, recall is 0 as well.
    both = np.maximum(precision + recall, np.finfo(np.float64).tiny)[:-1]
    f1 = 2 * precision[:-1] * recall[:-1] / both
    best = int(np.argmax(f1))
    # scikit-learn counts a score equal to the threshold as an alarm, this project does not. The middle of the gap below
    # that score leaves room on both sides, so that another device's rounding does not change a decision.
    score, below = float(thresholds[best]), float(thresholds[best - 1]) if best else -np.inf
    middle = (score + below) / 2
    return float(f1[best]), middle if below < middle < score else float(np.nextafter(score, -np.inf))


def rate(events: npt.NDArray[np.bool_]) -> Rate | None:
    """Compute the share of True with its interval (Clopper and Pearson, Biometrika 26, 1934); `None` without events."""
    from scipy.stats import binomtest

    if not len(events):
        return None
    count = int(events.sum())
    interval = binomtest(count, len(events)).proportion_ci(_CONFIDENCE, method="exact")
    return Rate(count, len(events), float(interval.low), float(interval.high))
