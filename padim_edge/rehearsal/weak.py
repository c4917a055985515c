"""Weak places: where on the part fewer defects are found than defects of that kind, extent and contrast are elsewhere.

At each place x, the trials nearby shift the logit of the chart by delta(x), which maximises

    sum_t w_t(x) log P(found_t | chart_t + delta) - delta^2 / (2 T^2),    w_t(x) = exp(-|x - x_t|^2 / (2 S^2))

A faint or small defect is expected to be missed, so missing it makes no place weak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge.rehearsal.curve import ALL, Curve
from padim_edge.rehearsal.trials import Trial, columns

__all__ = ["GRID", "WeakMap", "WeakPlace", "weak_map"]

GRID = 24
"""Number of rows and columns of places that are looked at."""

_WIDTH = 0.09
"""S, standard deviation of the neighbourhood as a share of the image's side."""
_SPREAD = 1.5
"""T, standard deviation of the shift that is expected, in logits."""
_FEWEST = 4.0
"""Effective number of trials below which nothing is said about a place."""
_CERTAIN = 3.0
"""Standard deviations by which detection must fall short. 576 places overlap; about 40 of them are independent."""
_WEAK = 0.25
"""Share below which a place is weak, where half of such defects are found over the whole part."""
_FLOOR = 0.05
"""Least chance of either outcome that the certainty reckons with: one missed plain defect is no proof."""
_STEPS = 25
"""Number of steps of Newton's method, each at most 1 long."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WeakPlace:
    """A place where defects are missed that are found elsewhere."""

    place: tuple[float, float]
    """(row, column) of its centre as shares of the image's height and width, 0 to 1."""
    share: float
    """Share found there of the defects of which half are found over the whole part, 0 to 1."""
    trials: int
    """Number of trials nearby: within two standard deviations of the neighbourhood."""
    found: int
    """Number of these that are found."""
    expected: float
    """Number of these that the chart expects to be found."""


@dataclass(frozen=True, eq=False)
class WeakMap:
    """Detection over the places of the part."""

    share: Float64
    """`(GRID, GRID)` share found there of the defects of which half are found over the whole part; NaN where too few
    trials lie."""
    trials: Float64
    """`(GRID, GRID)` effective number of trials."""
    weak: tuple[WeakPlace, ...]
    """Weak places, the weakest first; mostly empty."""


def weak_map(trials: Sequence[Trial], threshold: float, curves: dict[str, Curve]) -> WeakMap:
    """Compare detection at each place with the chart.

    Args:
        trials: Trials, at least one.
        threshold: Score above which a defect is found.
        curves: Curve of each kind, and of all kinds by the name `ALL`.
    """
    table = columns(trials)
    found = (table.score > threshold).astype(np.float64)
    chance = np.array(
        [
            float(curves.get(kind, curves[ALL])(contrast, extent))
            for kind, contrast, extent in zip(table.kind.tolist(), table.contrast, table.extent, strict=True)
        ]
    )
    axis = (np.arange(GRID) + 0.5) / GRID
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    apart = np.square(places[:, None] - table.place[None]).sum(axis=-1)
    weight = np.exp(-apart / (2 * _WIDTH**2))
    with threadpool_limits(1, "blas"):  # another number of threads may round sums differently
        shift = _shift(chance, found, weight)
        variance = np.square(weight) @ (chance * (1 - chance)).clip(_FLOOR * (1 - _FLOOR))
        short = weight @ (found - chance) / np.sqrt(np.maximum(variance, 1e-12))
        effective = np.square(weight.sum(axis=1)) / np.maximum(np.square(weight).sum(axis=1), 1e-12)
    share = 1 / (1 + np.exp(-shift))
    # Far from all trials the weights are tiny and alike, so the effective number means nothing there.
    known = (effective >= _FEWEST) & (weight.sum(axis=1) >= _FEWEST / 4)
    candidates = known & (share < _WEAK) & (short < -_CERTAIN)
    weak: list[WeakPlace] = []
    for place in np.argsort(share, kind="stable"):
        row, column = places[place]
        near_other = any(np.hypot(row - each.place[0], column - each.place[1]) < 3 * _WIDTH for each in weak)
        if candidates[place] and not near_other:
            near = apart[place] <= (2 * _WIDTH) ** 2
            weak.append(
                WeakPlace(
                    (float(row), float(column)),
                    float(share[place]),
                    int(near.sum()),
                    int(found[near].sum()),
                    float(chance[near].sum()),
                )
            )
    shown = np.where(known, share, np.nan).reshape(GRID, GRID)
    return WeakMap(shown, np.where(known, effective, 0.0).reshape(GRID, GRID), tuple(weak))


def _shift(chance: Float64, found: Float64, weight: Float64) -> Float64:
    """Find the shift of the logits `(G,)` at each place, from chances and outcomes `(T,)` and weights `(G, T)`."""
    clipped = chance.clip(1e-9, 1 - 1e-9)
    logit = np.log(clipped / (1 - clipped))
    shift = np.zeros(len(weight))
    for _ in range(_STEPS):
        here = 1 / (1 + np.exp(-(logit[None] + shift[:, None])))
        slope = (weight * (found - here)).sum(axis=1) - shift / _SPREAD**2
        curvature = (weight * here * (1 - here)).sum(axis=1) + 1 / _SPREAD**2
        shift += np.clip(slope / curvature, -1, 1)
    return shift
