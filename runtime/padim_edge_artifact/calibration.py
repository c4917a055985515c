"""From the scores of good images to a threshold at a named false-alarm rate, and to p-values.

The scores are those that good images have outside the fit: leave-one-out scores, or scores of held-out images. With
n of them, the next good image is equally likely to fall into each of the n + 1 gaps between them, whatever their
distribution; so rates down to 1 / (n + 1) are read off the scores, and only beyond them a model of the tail is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError, PadimEdgeError

__all__ = ["MOST_SCORES", "Calibration", "calibrate", "check_rate"]

MOST_SCORES = 4096
"""Most scores kept; of more images, that many equally spaced quantiles are."""

_TAIL_SHARE = 0.1
"""Share of the scores that the tail is fitted on."""
_TAIL_FEWEST = 10
_SHAPES = (-0.5, 0.5)
"""Range of the tail's shape: the moments used exist below 0.5, and a handful of scores cannot tell more extremes."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How scores of good images are distributed."""

    images: int
    """n, number of good images behind the scores."""
    scores: tuple[float, ...]
    """Their scores in ascending order, all n or `MOST_SCORES` equally spaced quantiles of them."""

    def __post_init__(self) -> None:
        if not self.scores or self.images < 1:
            raise ArtifactError(
                f"the calibration has {len(self.scores)} scores of {self.images} images, expected at least 1; "
                "export the model again"
            )

    def p_value(self, score: npt.ArrayLike) -> Float64:
        """Share of good images expected to score at least as high, in (0, 1]; of any shape.

        Between the lowest and the highest calibration score by linear interpolation of (n + 1 - rank) / (n + 1), above
        the highest by the tail (see `resolution`).
        """
        scores, levels = self._steps()
        asked = np.asarray(score, np.float64)
        inside = np.interp(asked, scores, levels, left=1.0)
        beyond = asked > scores[-1]
        if not beyond.any():
            return inside
        return np.where(beyond, levels[-1] * self._tail_share(np.maximum(asked, scores[-1])), inside)

    def threshold(self, false_alarm_rate: float) -> float:
        """The score that good images exceed at this rate; the inverse of `p_value`.

        Raises:
            PadimEdgeError: The rate is not in (0, 1).
        """
        check_rate(false_alarm_rate)
        scores, levels = self._steps()
        if false_alarm_rate >= levels[-1]:
            return float(np.interp(-false_alarm_rate, -levels, scores))
        start, shape, scale = self._tail()
        # Solves levels[-1] * _tail_share(score) = rate for the score.
        at_highest = 1 + shape * (scores[-1] - start) / scale
        grown = at_highest * (levels[-1] / false_alarm_rate) ** shape
        above = (
            scale * np.log(levels[-1] / false_alarm_rate) if abs(shape) < 1e-9 else (grown - at_highest) * scale / shape
        )
        return float(scores[-1] + max(above, 0.0))

    @property
    def resolution(self) -> float:
        """The smallest rate that the scores themselves resolve, 1 / (n + 1); below it the tail is extrapolated."""
        return 1 / (self.images + 1)

    def _steps(self) -> tuple[Float64, Float64]:
        """Scores in ascending order, and the share of good images above each."""
        scores = np.asarray(self.scores, np.float64)
        ranks = np.linspace(1, self.images, len(scores))
        return scores, (self.images + 1 - ranks) / (self.images + 1)

    def _tail(self) -> tuple[float, float, float]:
        """(start, shape, scale) of a generalised Pareto distribution of the highest scores' excess over the start.

        Fitted by probability-weighted moments (Hosking and Wallis 1987, equations for k and alpha, shape = -k): closed
        form, and steadier than maximum likelihood on few values.
        """
        scores = np.asarray(self.scores, np.float64)
        kept = min(len(scores) - 1, max(_TAIL_FEWEST, int(np.ceil(_TAIL_SHARE * len(scores)))))
        if kept < 2:
            return float(scores[-1]), 0.0, max(float(scores[-1]), 1e-9)
        start = float(scores[-kept - 1])
        excess = scores[-kept:] - start
        mean = float(excess.mean())
        if mean <= 0:  # all alike
            return start, 0.0, 1e-9 + abs(start) * 1e-6
        weights = (kept - np.arange(1, kept + 1)) / (kept - 1)
        lower = float((weights * excess).mean())
        shape = float(np.clip(2 - mean / (mean - 2 * lower), *_SHAPES)) if mean > 2 * lower else _SHAPES[1]
        return start, shape, max(mean * (1 - shape), 1e-9)

    def _tail_share(self, score: Float64) -> Float64:
        """Share of the good images above the highest calibration score that are above `score`, too."""
        start, shape, scale = self._tail()

        def survival(value: Float64) -> Float64:
            if abs(shape) < 1e-9:
                return np.exp(-(value - start) / scale)
            return np.asarray(np.maximum(1 + shape * (value - start) / scale, 0) ** (-1 / shape))

        highest = survival(np.asarray(self.scores[-1]))
        # A short tail ends somewhere; a p-value never reaches 0.
        return np.asarray(np.maximum(survival(score) / max(float(highest), 1e-300), 1e-12))


def check_rate(false_alarm_rate: float) -> None:
    """Refuse what is not a rate.

    Raises:
        PadimEdgeError: It is not in (0, 1).
    """
    if not 0 < false_alarm_rate < 1:
        raise PadimEdgeError(
            f"the false-alarm rate is {false_alarm_rate}, expected a share between 0 and 1 such as 0.01"
        )


def calibrate(scores: npt.ArrayLike) -> Calibration:
    """A calibration from the scores of good images, in any order.

    Raises:
        PadimEdgeError: No score, or one that is not finite.
    """
    values = np.sort(np.asarray(scores, np.float64).ravel())
    if not len(values) or not np.isfinite(values).all():
        raise PadimEdgeError("the calibration scores are missing or not finite; fit again, from undamaged images")
    kept = values if len(values) <= MOST_SCORES else np.quantile(values, np.linspace(0, 1, MOST_SCORES))
    return Calibration(len(values), tuple(round(float(value), 6) for value in kept))
