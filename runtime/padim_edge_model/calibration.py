"""Thresholds at a named false-alarm rate, and p-values, from the scores of good images.

The scores are those that good images have outside the fit: leave-one-out scores, or scores of held-out images. With n
scores, the next good image is equally likely to fall into each of the n + 1 gaps between them, whatever their
distribution. So rates down to 1 / (n + 1) are read off the scores; only smaller rates need a model of the tail.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.calibration import MOST_SCORES, Calibration
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["calibrate", "check_rate", "p_value", "threshold"]

_TAIL_SHARE = 0.1
"""Share of the scores that the tail is fitted on."""
_TAIL_FEWEST = 10
"""Smallest number of scores that the tail is fitted on, where there are as many."""
_SHAPES = (-0.5, 0.5)
"""Range of the tail's shape: the moments used exist below 0.5, and a handful of scores cannot resolve more extremes."""

Float64 = npt.NDArray[np.float64]


def p_value(calibration: Calibration, score: npt.ArrayLike) -> Float64:
    """Estimate the share of good images that score at least as high, in (0, 1]; for scores of any shape.

    Between the lowest and the highest calibration score, (n + 1 - rank) / (n + 1) is interpolated linearly. Above the
    highest score the fitted tail is used.
    """
    scores, levels = _steps(calibration)
    asked = np.asarray(score, np.float64)
    inside = np.interp(asked, scores, levels, left=1.0)
    beyond = asked > scores[-1]
    if not beyond.any():
        return inside
    return np.where(beyond, levels[-1] * _share_beyond(scores, np.maximum(asked, scores[-1])), inside)


def threshold(calibration: Calibration, false_alarm_rate: float) -> float:
    """Find the score that good images exceed at this rate; the inverse of `p_value`.

    Raises:
        PadimEdgeError: The rate is not in (0, 1).
    """
    check_rate(false_alarm_rate)
    scores, levels = _steps(calibration)
    if false_alarm_rate >= levels[-1]:
        return float(np.interp(-false_alarm_rate, -levels, scores))
    start, shape, scale = _tail(scores)
    # Solves levels[-1] * _share_beyond(score) = rate for the score.
    at_highest = 1 + shape * (scores[-1] - start) / scale
    grown = at_highest * (levels[-1] / false_alarm_rate) ** shape
    above = scale * np.log(levels[-1] / false_alarm_rate) if abs(shape) < 1e-9 else (grown - at_highest) * scale / shape
    return float(scores[-1] + max(above, 0.0))


def check_rate(false_alarm_rate: float) -> None:
    """Refuse a number that is no rate.

    Raises:
        PadimEdgeError: It is not in (0, 1).
    """
    if not 0 < false_alarm_rate < 1:
        raise PadimEdgeError(
            f"the false-alarm rate is {false_alarm_rate}, expected a share between 0 and 1 such as 0.01"
        )


def calibrate(scores: npt.ArrayLike) -> Calibration:
    """Make a calibration from the scores of good images, in any order.

    Raises:
        PadimEdgeError: There is no score, or one is not finite.
    """
    values = np.sort(np.asarray(scores, np.float64).ravel())
    if not len(values) or not np.isfinite(values).all():
        raise PadimEdgeError("the calibration scores are missing or not finite; fit again, from undamaged images")
    kept = values if len(values) <= MOST_SCORES else np.quantile(values, np.linspace(0, 1, MOST_SCORES))
    return Calibration(len(values), tuple(round(float(value), 6) for value in kept))


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
    shape = float(np.clip(2 - mean / (mean - 2 * lower), *_SHAPES)) if mean > 2 * lower else _SHAPES[1]
    return start, shape, max(mean * (1 - shape), 1e-9)


def _share_beyond(scores: Float64, score: Float64) -> Float64:
    """Estimate which share of the good images above the highest calibration score is above `score`, too."""
    start, shape, scale = _tail(scores)

    def survival(value: Float64) -> Float64:
        if abs(shape) < 1e-9:
            return np.exp(-(value - start) / scale)
        return np.asarray(np.maximum(1 + shape * (value - start) / scale, 0) ** (-1 / shape))

    highest = survival(np.asarray(scores[-1]))
    # A short tail ends somewhere; a p-value never reaches 0.
    return np.asarray(np.maximum(survival(score) / max(float(highest), 1e-300), 1e-12))
