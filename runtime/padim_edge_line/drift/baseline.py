"""The first good images of a model as a yardstick: where does a new value lie among theirs?

A value becomes a normal score: with a share u of the baseline's values below it, the score is the u-quantile of the
standard normal distribution. So the charts need not know how the values are distributed, and one wild image counts
little. Values that follow each other are often alike, since lamps flicker slowly. So the scores are divided by the
standard deviation of their sums over neighbours, in units of what independent values would have.
"""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_line.drift.channels import CHANNELS, SPREAD

__all__ = ["IMAGES", "Baseline"]

IMAGES = 500
"""Number of good images of a baseline."""

_WINDOW = 40
"""Number of neighbours whose scores are added up."""
_PLAIN, _SAFETY = 1.3, 2.0
"""Variance above which neighbours are not independent by chance, and the factor that its estimate then needs."""
_DEVIATIONS = 2.0
"""Standard errors by which the correlation of neighbours is taken to be higher than it was found."""
_MOST_ALIKE = 0.99
"""Largest correlation of neighbours: more than that, 500 images cannot tell from a baseline that drifts."""

Float64 = npt.NDArray[np.float64]
_ROOMS = [channel.room for channel in CHANNELS]


class Baseline:
    """Values of the first good images.

    Args:
        values: `(n, C)` values in the order of the images.
    """

    def __init__(self, values: Float64) -> None:
        self._values = np.asarray(values, np.float32).astype(np.float64)  # as they are after a restart
        self.typical = np.median(self._values, axis=0)
        """`(C,)` typical values."""
        spread = np.abs(self._values[:, SPREAD - 1] - self.typical[SPREAD - 1])
        self._values[:, SPREAD] = spread
        self.typical[SPREAD] = np.median(spread)
        count = len(self._values)
        # Twice as many steps as values, for those that lie in the middle of equal ones.
        self._steps = np.array([NormalDist().inv_cdf((i + 1) / (2 * count + 2)) for i in range(2 * count + 1)])
        self._sorted = np.sort(self._values, axis=0).T.tolist()
        self._steadiness = np.ones(len(CHANNELS))
        self._steadiness = _steadiness(np.array([self.scores(row) for row in self._values]))

    def completed(self, values: Float64) -> Float64:
        """Return the values `(C,)` of an image with the distance of its score from the typical one."""
        found = values.copy()
        found[SPREAD] = abs(found[SPREAD - 1] - self.typical[SPREAD - 1])
        return found

    def scores(self, values: Float64) -> Float64:
        """Return the normal scores `(C,)` of the completed values of an image."""
        places = []  # numpy would take several times as long
        for value, room, them in zip(values.tolist(), _ROOMS, self._sorted, strict=True):
            places.append(bisect_left(them, value - room) + bisect_right(them, value + room))
        return np.asarray(self._steps[places] / self._steadiness)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"values": base64.b64encode(self._values.astype("<f4").tobytes()).decode()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Baseline:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        content = np.frombuffer(base64.b64decode(found["values"], validate=True), "<f4")
        return cls(content.reshape(-1, len(CHANNELS)).astype(np.float64))


def _steadiness(scores: Float64) -> Float64:
    """Return the standard deviation `(C,)` of long sums of scores `(n, C)`, in units of what independent ones have.

    It is the larger of two estimates: the sums over neighbours, and those of an autoregression of the first order with
    the same correlation r of neighbours, whose variance is (1 + r) / (1 - r). Both err upwards, since an estimate that
    is too low raises false alarms.
    """
    count, channels = scores.shape
    if count < 2 * _WINDOW:
        return np.ones(channels)
    centred = scores - scores.mean(axis=0)
    summed = np.vstack([np.zeros(channels), centred.cumsum(axis=0)])
    over = summed[_WINDOW:] - summed[:-_WINDOW]
    variance = (over**2).mean(axis=0) / _WINDOW / (1 - _WINDOW / count)
    variance = np.where(variance > _PLAIN, _SAFETY * variance, variance)
    alike = (centred[1:] * centred[:-1]).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    doubt = _DEVIATIONS * np.sqrt(np.maximum(1 - alike**2, 0) / count)
    alike = np.clip(alike + doubt, 0, _MOST_ALIKE)
    return np.asarray(np.sqrt(np.maximum(np.maximum(variance, 1), (1 + alike) / (1 - alike))))
