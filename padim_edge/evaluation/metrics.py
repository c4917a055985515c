"""The figures by which a test set is judged: ROC and PRO over pixels; ROC, F1 and error rates over images.

Pixel metrics are exact, not binned, and hold little more than the values of the pixels. The idea: every area below is a
mean over *anomalous* pixels, of a number that depends only on how many *normal* pixels lie above, and level with, that
pixel. So the normal values are sorted once, where they lie, and the few anomalous ones are looked up in them.
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
    """Points of the ROC and PRO curves, for plots: exact ones, but a few hundred out of millions.

    Between them the true curves may rise in steps, so areas are not to be computed from these points.
    """

    fpr: Floats
    """`(K,)`, 0 to 1, rising: share of the normal pixels at or above a threshold."""
    tpr: Floats
    """`(K,)`, 0 to 1, rising: share of the anomalous pixels at or above it."""
    pro: Floats
    """`(K,)`, 0 to 1, rising: mean over the regions of the share of a region's pixels at or above it."""


@dataclass(frozen=True, eq=False)
class PixelMetrics:
    """Metrics over all judged pixels of a test set; `None` for want of normal or of anomalous ones."""

    auroc: float | None
    """Area under the ROC curve, 0 to 1; ties count half."""
    pro: float | None
    """Area under the PRO curve up to a false-positive rate of 0.3, divided by 0.3: 0 to 1."""
    regions: int
    """Connected regions of the truth, over all images, of which at least one pixel was judged."""
    curve: Curve | None


@dataclass(frozen=True)
class Rate:
    """A share of images and how far it can be trusted."""

    count: int
    total: int
    """At least 1."""
    low: float
    """Lower end of the 95 % Clopper-Pearson interval. It is wider than others, but never promises too much."""
    high: float
    """Its upper end."""

    @property
    def value(self) -> float:
        """`count / total`, 0 to 1."""
        return self.count / self.total


@dataclass(frozen=True)
class ImageMetrics:
    """Metrics over images; `None` for want of good or of anomalous ones."""

    auroc: float | None
    """Area under the ROC curve of the scores."""
    ap: float | None
    """Average precision of the scores, anomalous images being those to find."""
    best_f1: float | None
    """Largest F1 score that any threshold reaches. It knows the labels, so no threshold set in advance reaches more."""
    best_f1_threshold: float | None
    """A threshold that reaches it; alarms are the scores above it."""
    false_alarm: Rate | None
    """Good images above the given threshold."""
    miss: Rate | None
    """Anomalous images not above it."""


@dataclass(frozen=True, eq=False)
class _Anomalous:
    """The judged anomalous pixels of one image, by rising value."""

    values: Values
    """`(A,)`"""
    shares: Floats
    """`(A,)`, of the region that the pixel belongs to: 1 / its judged pixels."""
    regions: int


def pixel_metrics(maps: Iterable[tuple[Values, Truth | None]], *, limit: float = PRO_LIMIT) -> PixelMetrics:
    """Compare anomaly maps with their masks, by the rules of the official MVTec AD evaluation.

    These rules: regions are 8-connected, one by one in each image; PRO is the mean over all regions of the test set,
    be they large or small; the false-positive rate counts the normal pixels of all images, good and anomalous; every
    distinct value is a threshold, and (0, 0) belongs to the curves; areas are by the trapezoid rule, with linear
    interpolation at the limit. Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129 (2021),
    section 5.1, and the evaluation code published with it.

    Takes 4 bytes for each normal and 12 for each anomalous pixel, and an image at a time.

    Args:
        maps: For each image the anomaly map, `(H, W)` float32 at the image's own resolution, NaN where the model
            did not look; and the truth, `(H, W)` bool, `None` where it is unknown: such an image is left out. Of a
            region partly outside the judged pixels the judged part counts, and nothing of one fully outside.
        limit: False-positive rate up to which PRO is integrated, above 0 and at most 1.
    """
    assert 0 < limit <= 1
    # A bytearray grows in place, where joining a list of arrays would hold everything twice.
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
        # Shares such as 1/3 may add up to a little over 1.
        auroc=min(roc_area / len(normal) / anomalous, 1.0),
        pro=min(pro_area / (limit * len(normal)) / regions, 1.0),
        regions=regions,
        curve=_curve(normal, images, limit),
    )


def _anomalous(values: Values, truth: Truth, judged: Truth) -> _Anomalous:
    from scipy import ndimage

    # Of the whole truth: what the model did not look at may connect two parts of one region.
    labels, _ = ndimage.label(truth, structure=np.ones((3, 3)))
    seen = truth & judged
    label = labels[seen]
    sizes = np.bincount(label)
    found = values[seen].astype(np.float32, copy=False)
    order = np.argsort(found)
    return _Anomalous(found[order], 1 / sizes[label[order]], int(np.count_nonzero(sizes)))


def _areas(above: npt.NDArray[np.intp], not_below: npt.NDArray[np.intp], limit: float) -> Floats:
    """Areas under the curves that single anomalous pixels make, in normal pixels.

    With the threshold falling, a pixel is 0 until `x = above` normal ones have passed it, then 1; those level with it
    pass together with it, which is a straight line from `(above, 0)` to `(not_below, 1)`. All curves have their corners
    at thresholds, between which they are straight. So their mean is the ROC curve of all pixels, their mean weighted by
    shares of regions the PRO curve, and the area under a mean is the mean of the areas:

        area = max(limit - not_below, 0) + u^2 / (2 (not_below - above)),  u = clip(limit - above, 0, not_below - above)

    For `limit` = all normal pixels this is the Mann-Whitney statistic, `below + level / 2`.

    Args:
        above: `(A,)` number of normal pixels above each anomalous one.
        not_below: `(A,)` number of those above or level with it.
        limit: Where the area ends, in normal pixels.

    Returns:
        `(A,)`, 0 to `limit`.
    """
    level = not_below - above
    covered = np.clip(limit - above, 0, level)
    # Where nothing is level, nothing is covered either: the 1 is there to divide by.
    areas: Floats = np.maximum(limit - not_below, 0) + covered**2 / (2 * np.maximum(level, 1))
    return areas


def _curve(normal: Values, images: list[_Anomalous], limit: float) -> Curve:
    """Points of the curves at, and just above, some normal values: dense up to `limit` and, by decades, towards 0.

    Between two normal values the curves only rise, so with every normal value these would be all corners.
    """
    end, total = limit * len(normal), len(normal)
    ranks = np.concatenate([np.geomspace(1, total, 75), np.linspace(1, end, 100), np.linspace(end, total, 75)])
    at_ranks = normal[total - ranks.astype(np.intp).clip(1, total)]
    with np.errstate(over="ignore"):  # above the largest number is infinity, which will do
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
        scores: `(N,)` float, the higher the more anomalous; finite.
        threshold: That the model ships with; alarms are the scores above it.
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
    """The largest F1 score, and a threshold that reaches it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, scores)
    # The last point has no threshold. Where precision is 0, so is recall.
    both = np.maximum(precision + recall, np.finfo(np.float64).tiny)[:-1]
    f1 = 2 * precision[:-1] * recall[:-1] / both
    best = int(np.argmax(f1))
    # scikit-learn counts a score equal to the threshold as an alarm, this project does not.
    return float(f1[best]), float(np.nextafter(np.float64(thresholds[best]), -np.inf))


def rate(events: npt.NDArray[np.bool_]) -> Rate | None:
    """The share of True with its interval, by Clopper and Pearson, Biometrika 26 (1934)."""
    from scipy.stats import binomtest

    if not len(events):
        return None
    count = int(events.sum())
    interval = binomtest(count, len(events)).proportion_ci(_CONFIDENCE, method="exact")
    return Rate(count, len(events), float(interval.low), float(interval.high))
