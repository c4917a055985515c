"""Thresholds at a named false-alarm rate, p-values, and what both are worth, from the scores of good images.

The scores are those that good images have outside the fit: leave-one-out scores, or scores of held-out images. With n
independent scores, the next good image is equally likely to fall into each of the n + 1 gaps between them, whatever
their distribution. So rates down to 1 / (n + 1) are read off the scores. Smaller rates cannot be measured; their
threshold is the highest score. Only p-values above it come from a model of the tail. n numbers say little about its
shape, so that is drawn towards an exponential tail, and the p-values end at a tenth of 1 / (n + 1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.calibration import MOST_SCORES, Calibration
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.schema import LEAST_RATE

__all__ = [
    "CONFIDENCE",
    "calibrate",
    "check_rate",
    "expanded",
    "false_alarm_interval",
    "p_value",
    "representatives",
    "threshold",
]

CONFIDENCE = 0.9
"""Confidence of `false_alarm_interval`."""

_TAIL_SHARE = 0.1
"""Share of the scores that the tail is fitted on."""
_TAIL_FEWEST = 10
"""Smallest number of scores that the tail is fitted on, where there are as many."""
_SHAPES = (-0.5, 0.5)
"""Range of the tail's shape: the moments used exist below 0.5, and a handful of scores cannot resolve more extremes."""
_PRIOR = 20
"""Number of scores that the exponential tail, of shape 0, counts for."""
_TWO_SIDED = 3.0
"""Least number of gaps above a threshold for which its interval has a lower bound."""
_FINEST = 0.1
"""Smallest p-value in units of the smallest rate that the scores resolve."""

Float64 = npt.NDArray[np.float64]


def p_value(calibration: Calibration, score: npt.ArrayLike) -> Float64:
    """Estimate the share of good images that score at least as high, in (0, 1]; for scores of any shape.

    Between the lowest and the highest calibration score, (n + 1 - rank) / (n + 1) is interpolated linearly. Above the
    highest score the fitted tail is used, down to a tenth of 1 / (n + 1): n images know nothing of rarer ones.
    """
    scores, levels = _steps(calibration)
    asked = np.asarray(score, np.float64)
    inside = np.interp(asked, scores, levels, left=1.0)
    beyond = asked > scores[-1]
    if not beyond.any():
        return inside
    share = np.maximum(_share_beyond(scores, np.maximum(asked, scores[-1])), _FINEST)
    return np.where(beyond, levels[-1] * share, inside)


def threshold(calibration: Calibration, false_alarm_rate: float) -> float:
    """Find the score that good images exceed at this rate; the inverse of `p_value`.

    For rates below 1 / (n + 1), which n scores cannot measure, this is the highest score.

    Raises:
        PadimEdgeError: The rate is not in (0, 1).
    """
    check_rate(false_alarm_rate)
    scores, levels = _steps(calibration)
    if false_alarm_rate >= levels[-1]:
        return float(np.interp(-false_alarm_rate, -levels, scores))
    return float(scores[-1])


def false_alarm_interval(calibration: Calibration, threshold: float) -> tuple[float, float]:
    """Return the range in which the true false-alarm rate of a threshold lies, at `CONFIDENCE`.

    With k of n + 1 gaps above the threshold, the true rate has a beta distribution with k and n + 1 - k (Wilks 1941).
    Above the highest score there is one gap, whatever the tail promises. Fewer than `_TWO_SIDED` gaps give no lower
    bound, and all of the doubt goes into the upper one.
    """
    gaps = max(float(p_value(calibration, threshold)) * (calibration.images + 1), 1.0)
    others = calibration.images + 1 - gaps
    if others < 1e-9:
        return 0.0, 1.0
    if gaps < _TWO_SIDED:
        return 0.0, _beta_quantile(gaps, others, CONFIDENCE)
    doubt = (1 - CONFIDENCE) / 2
    return _beta_quantile(gaps, others, doubt), _beta_quantile(gaps, others, 1 - doubt)


def check_rate(false_alarm_rate: float) -> None:
    """Refuse a number that is no rate.

    Raises:
        PadimEdgeError: It is not in (0, 1), or so small that it cannot be told from none.
    """
    if not LEAST_RATE < false_alarm_rate < 1:
        raise PadimEdgeError(
            f"the false-alarm rate is {false_alarm_rate}, expected a share between 0 and 1 such as 0.01"
        )


def calibrate(scores: npt.ArrayLike, groups: npt.NDArray[np.int64] | None = None) -> Calibration:
    """Make a calibration from the scores of good images, in any order.

    Args:
        scores: Scores `(n,)` outside the fit.
        groups: Group `(n,)` of each image; images of a group count as one. `None` makes each its own.

    Raises:
        PadimEdgeError: There is no score, or one is not finite.
    """
    values = np.sort(np.asarray(scores, np.float64).ravel())
    if not len(values) or not np.isfinite(values).all():
        raise PadimEdgeError("the calibration scores are missing or not finite; fit again, from undamaged images")
    if groups is not None:
        values = representatives(np.asarray(scores, np.float64).ravel(), groups)
    kept = values if len(values) <= MOST_SCORES else np.quantile(values, np.linspace(0, 1, MOST_SCORES))
    return Calibration(len(values), tuple(round(float(value), 6) for value in kept))


def representatives(scores: Float64, groups: npt.NDArray[np.int64]) -> Float64:
    """Return one score per group, ascending: the middle of each n-th of the scores, weighted by 1 / size of the group.

    With every image its own group, these are the scores themselves.
    """
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[numbers[order]])
    middles = np.arange(len(sizes)) + 0.5
    return np.asarray(scores[order][np.minimum(np.searchsorted(reached, middles), len(scores) - 1)])


def expanded(calibration: Calibration) -> Float64:
    """Return one score per independent image, also where only quantiles were kept."""
    scores = np.array(calibration.scores)
    if len(scores) == calibration.images:
        return scores
    at = np.linspace(0, 1, calibration.images)
    return np.asarray(np.interp(at, np.linspace(0, 1, len(scores)), scores))


def _steps(calibration: Calibration) -> tuple[Float64, Float64]:
    """Return the scores in ascending order, and the share of good images above each."""
    scores = np.asarray(calibration.scores, np.float64)
    ranks = np.linspace(1, calibration.images, len(scores))
    return scores, (calibration.images + 1 - ranks) / (calibration.images + 1)


def _tail(scores: Float64) -> tuple[float, float, float]:
    """Fit (start, shape, scale) of a generalised Pareto distribution to the highest scores' excess over the start.

    The fit uses probability-weighted moments (Hosking and Wallis 1987, equations for k and alpha, shape = -k). They
    have a closed form and are steadier than maximum likelihood on few values.
    """
    kept = min(len(scores) - 1, max(_TAIL_FEWEST, int(np.ceil(_TAIL_SHARE * len(scores)))))
    if kept < 2:
        return float(scores[-1]), 0.0, max(float(scores[-1]), 1e-9)
    start = float(scores[-kept - 1])
    excess = scores[-kept:] - start
    mean = float(excess.mean())
    if mean <= 0:  # all scores are equal
        return start, 0.0, 1e-9 + abs(start) * 1e-6
    weights = (kept - np.arange(1, kept + 1)) / (kept - 1)
    lower = float((weights * excess).mean())
    found = float(np.clip(2 - mean / (mean - 2 * lower), *_SHAPES)) if mean > 2 * lower else _SHAPES[1]
    shape = found * kept / (kept + _PRIOR)
    return start, shape, max(mean * (1 - shape), 1e-9)


def _share_beyond(scores: Float64, score: Float64) -> Float64:
    """Estimate which share of the good images above the highest calibration score is above `score`, too."""
    start, shape, scale = _tail(scores)

    def survival(value: Float64) -> Float64:
        if abs(shape) < 1e-9:
            return np.exp(-(value - start) / scale)
        return np.asarray(np.maximum(1 + shape * (value - start) / scale, 0) ** (-1 / shape))

    highest = survival(np.asarray(scores[-1]))
    return np.asarray(survival(score) / max(float(highest), 1e-300))


def _beta_quantile(a: float, b: float, level: float) -> float:
    """Return the quantile of a beta distribution, from sums over a grid in the logit of its variable."""
    # scipy is no dependency of the device, and a threshold needs two digits. In the logit, the density has no poles.
    logit = np.linspace(-60, 60, 24_001)
    lower, upper = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)  # logarithms of x and 1 - x
    density = a * lower + b * upper
    weight = np.exp(density - density.max())
    reached = np.cumsum(weight) / weight.sum()
    return float(1 / (1 + np.exp(-np.interp(level, reached, logit))))
