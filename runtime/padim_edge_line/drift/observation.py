"""The numbers of one image that drift is looked for in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Metadata
from padim_edge_runtime.inspection import GOOD, Inspection

__all__ = ["SIDE", "Observation", "Observer"]

SIDE = 4
"""Rows and columns of regions that an image is divided into."""

_LEAST = 1e-6
"""Least distance, so that it has a logarithm."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One image in the few numbers that drift is looked for in."""

    good: bool
    """Whether the verdict is `good`: only such images count."""
    score: float
    """Score of the image."""
    regions: tuple[float, ...]
    """Logarithms of the mean patch distance in each of `SIDE` x `SIDE` regions, row by row; 0 where none is
    inspected."""
    brightness: float
    """Mean grey level, 0 to 255."""
    contrast: float
    """Standard deviation of the grey levels of the thumbnail."""
    shift: tuple[int, int]
    """(x, y) in patches by which the image is moved against the mean good image."""
    time: int = 0
    """Time of the image's arrival in microseconds since 1970."""


class Observer:
    """Makes the observations of one model's inspections. Any thread may call it."""

    def __init__(self, metadata: Metadata) -> None:
        h, w = metadata.grid
        self._inspected = None if metadata.roi is None else _shares(metadata.inspected, (h, w))
        self._cells = [_starts(h), _starts(w)]
        weights = np.ones((h, w)) if self._inspected is None else self._inspected
        self._areas = self._sums(weights)

    def __call__(self, inspection: Inspection, time: int = 0) -> Observation:
        """Observe an image.

        Args:
            inspection: Its inspection.
            time: Time of its arrival in microseconds since 1970.
        """
        view = inspection.view
        distance = np.asarray(view.patch_distance, np.float64)
        if self._inspected is not None:
            distance = distance * self._inspected
        sums, areas = self._sums(distance), self._areas
        rows, columns = view.check.shift
        return Observation(
            good=inspection.verdict == GOOD,
            score=inspection.score,
            regions=tuple(
                math.log(max(total / area, _LEAST)) if area else 0.0
                for total, area in zip(sums.ravel().tolist(), areas.ravel().tolist(), strict=True)
            ),
            brightness=view.check.brightness,
            contrast=view.check.contrast,
            shift=(columns, rows),
            time=time,
        )

    def _sums(self, plane: Float64) -> Float64:
        """Add up a plane `(h, w)` within each region."""
        rows, columns = self._cells
        return np.asarray(np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1))


def _starts(length: int) -> npt.NDArray[np.int64]:
    """Return the first row of each region; fewer regions where there are fewer rows."""
    count = min(SIDE, length)
    return np.arange(count) * length // count


def _shares(inspected: npt.NDArray[np.bool_], grid: tuple[int, int]) -> Float64:
    """Return the share `(h, w)` of each patch that is inspected."""
    rows, columns = (np.arange(cells) * pixels // cells for cells, pixels in zip(grid, inspected.shape, strict=True))
    plane: Any = inspected.astype(np.float64)
    areas = np.add.reduceat(np.add.reduceat(np.ones_like(plane), rows, axis=0), columns, axis=1)
    return np.asarray(np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1) / areas)
