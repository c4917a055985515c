"""Charts of cumulative sums (Page 1954), one upwards and one downwards for each channel.

A chart adds up what the scores have above an allowance k, and never falls below zero:

    S+ <- max(0, S+ + z - k),    S- <- max(0, S- - z - k)

It signals above a limit h. Noise about zero hardly reaches it, and a lasting difference reaches it soon.

The stated rate of false alarms is that of a simulation, in which all channels are independent and the baseline has the
same distribution as the images behind it (benchmarks/line_drift.py): at most one of `RUNS` lines has an alarm within
`LENGTH` good images.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from padim_edge_line.drift.channels import CHANNELS

__all__ = ["ALLOWANCE", "LENGTH", "LIMIT", "RUNS", "Charts"]

ALLOWANCE = 0.5
"""Scores that are allowed for, k."""
LIMIT = 16.0
"""Limit of a chart, h."""
RUNS, LENGTH = 20, 10_000
"""Number of lines of which one has a false alarm, and the number of good images in which it has it."""

_HIGHEST = 2.0
"""Highest value of a chart in limits, so that it comes down soon when the change is over."""
_MEMORY = 50
"""Most images that the present values are the mean of."""

Float64 = npt.NDArray[np.float64]


class Charts:
    """Charts of all channels, which begin at zero."""

    def __init__(self) -> None:
        count = len(CHANNELS)
        self.sums = np.zeros((2, count))
        """`(2, C)` sums upwards and downwards."""
        self.since = np.zeros((2, count), np.int64)
        """`(2, C)` time of the first image that each sum rests on."""
        self._last: deque[tuple[int, Float64]] = deque(maxlen=_MEMORY)

    def add(self, values: Float64, scores: Float64, time: int) -> None:
        """Add an image.

        Args:
            values: Its completed values `(C,)`.
            scores: Its normal scores `(C,)`.
            time: Time of its arrival.
        """
        self.since[self.sums <= 0] = time
        self.sums[0] += scores - ALLOWANCE
        self.sums[1] -= scores + ALLOWANCE
        np.clip(self.sums, 0, _HIGHEST * LIMIT, out=self.sums)
        self._last.append((time, values))

    def present(self, since: int) -> Float64:
        """Return the mean values `(C,)` of the last images from a time on.

        Where a clock was set back and there are none, it is the very last image.
        """
        found = [values for time, values in self._last if time >= since] or [self._last[-1][1]]
        return np.asarray(np.mean(found, axis=0))

    def reset(self, channels: npt.NDArray[np.bool_]) -> None:
        """Set the charts of some channels to zero."""
        self.sums[:, channels] = 0
