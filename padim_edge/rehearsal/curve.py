"""Curves of detection over contrast and extent: a logistic regression, with intervals over images.

    logit P(found | kind k) = a + u_k + b log2(contrast / 3) + d log2(extent / 8),    b >= 0

Kinds share their slopes. Each has its own level u_k, drawn towards 0, because 30 trials of a kind say little. The curve
of all kinds is the mean of theirs, weighted by their trials: some kinds are seen at any contrast and others at none, so
one logistic curve through all would be too flat. Pieces that are shifted, turned or bent stand out by their place, and
not by contrast: their b is 0, and the curve of all kinds leaves them out.

Intervals come from a bootstrap over images (Efron, Annals of Statistics 7, 1979): several defects on one image are not
independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge.planting import MOVED
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT, Trial, columns

__all__ = ["ALL", "LOWEST", "Curve", "Needed", "curves"]

ALL = "all"
"""Name of the curve over all kinds of defects that stand out by contrast."""

LOWEST = 0.25
"""Contrast below which a defect counts as invisible; smaller measured contrasts are raised to it."""

_SLOPE_RIDGE, _LEVEL_RIDGE, _KIND_RIDGE = 0.1, 0.01, 0.3
"""Weights of the squared slopes, of a, and of u_k. They keep coefficients finite where all trials
are found or none, and draw kinds with few trials towards the others."""
_DRAWS = 200
"""Number of bootstrap draws."""
_STEPS, _LONGEST, _ENOUGH = 60, 2.0, 1e-10
"""Most steps of Newton's method, longest step of a coefficient, and step at which it ends."""
_HALVINGS = 40
"""Number of halvings that find the needed contrast."""
_BOUNDS = (0.025, 0.975)
"""Quantiles of the draws that bound a 95 % interval."""
_TOP = 0.98
"""Quantile of the drawn contrasts up to which the curve is read; nothing beyond was tried."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Needed:
    """Contrast that a defect needs to be found."""

    share: float
    """Share of the defects that are found then, 0 to 1."""
    extent: float
    """Extent of the defects in pixels of the model's frame."""
    contrast: float | None
    """Contrast in deviations of the local texture; `None` where no contrast that was tried is enough."""
    low: float | None
    """Lower end of its 95 % interval; `None` where no contrast that was tried is enough."""
    high: float | None
    """Upper end of it; `None` where no contrast that was tried may be enough."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Chance that a defect is found, by its contrast and extent."""

    slopes: Float64
    """`(2,)` rise of the logit per doubling of contrast, 0 or more, and per doubling of extent."""
    levels: Float64
    """`(K,)` logit of each kind where a defect begins to be plainly visible."""
    weights: Float64
    """`(K,)` share of each kind, adding up to 1."""
    drawn_slopes: Float64
    """`(B, 2)` slopes in each bootstrap draw."""
    drawn_levels: Float64
    """`(B, K)` levels in each bootstrap draw."""
    trials: int
    """Number of trials behind it."""
    highest: float
    """Highest contrast that was tried."""

    def __call__(self, contrast: npt.ArrayLike, extent: npt.ArrayLike) -> Float64:
        """Return the chance that such defects are found, 0 to 1, in the shape of both arguments together."""
        stands, large = _doublings(contrast, extent)
        return np.asarray(self._chance(stands[None], large[None], self.slopes[None], self.levels[None])[0])

    def interval(self, contrast: npt.ArrayLike, extent: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Return the lower and upper ends of its 95 % interval, in the shape of both arguments together."""
        stands, large = _doublings(contrast, extent)
        drawn = self._chance(stands[None], large[None], self.drawn_slopes, self.drawn_levels)
        low, high = np.quantile(drawn, _BOUNDS, axis=0)
        return low, high

    def needed(self, share: float, extent: float) -> Needed:
        """Find the contrast at which this share of the defects of an extent is found."""
        slopes = np.vstack([self.slopes, self.drawn_slopes])
        levels = np.vstack([self.levels, self.drawn_levels])
        found = self._solved(slopes, levels, share, extent)
        low, high = np.quantile(found[1:], _BOUNDS, method="nearest")
        return Needed(share, extent, *(float(value) if value < np.inf else None for value in (found[0], low, high)))

    def _chance(self, stands: Float64, large: Float64, slopes: Float64, levels: Float64) -> Float64:
        """Return the chance in each draw; arguments have draws along their first axis."""
        rest = (1,) * (stands.ndim - 1)
        common = slopes[:, 0].reshape(-1, *rest) * stands + slopes[:, 1].reshape(-1, *rest) * large
        chance = np.zeros(common.shape)
        for kind, weight in enumerate(self.weights):
            chance += weight * _logistic(common + levels[:, kind].reshape(-1, *rest))
        return chance

    def _solved(self, slopes: Float64, levels: Float64, share: float, extent: float) -> Float64:
        """Return the contrast in each draw, by halving; infinity where it is beyond what was tried."""
        low, high = (_doublings(np.full(len(slopes), end), extent) for end in (LOWEST, self.highest))
        large = low[1]
        below, above = low[0].copy(), high[0].copy()
        reached = self._chance(above, large, slopes, levels) >= share
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            enough = self._chance(middle, large, slopes, levels) >= share
            above = np.where(enough, middle, above)
            below = np.where(enough, below, middle)
        at_once = self._chance(low[0], large, slopes, levels) >= share
        contrast = np.where(at_once, LOWEST, PLAIN_CONTRAST * np.exp2(above))
        return np.where(reached, contrast, np.inf)


def curves(trials: Sequence[Trial], threshold: float, seed: int = 0) -> dict[str, Curve]:
    """Fit the curve of all kinds that stand out by contrast, by the name `ALL`, and that of each kind.

    Args:
        trials: Trials, at least one.
        threshold: Score above which a defect is found.
        seed: Random seed of the bootstrap.
    """
    table = columns(trials)
    found = (table.score > threshold).astype(np.float64)
    stands, large = _doublings(table.contrast, table.extent)
    moved = np.isin(table.kind, MOVED)
    design = np.stack([np.ones_like(stands), np.where(moved, 0.0, stands), large], axis=-1)
    kinds = sorted(set(table.kind.tolist()))
    member = (table.kind[:, None] == np.array(kinds)[None]).astype(np.float64)
    weights = _bootstrap(table.image, seed)
    standing = table.contrast if moved.all() else table.contrast[~moved]
    highest = float(max(LOWEST, np.quantile(standing, _TOP)))
    ridge = np.array([_LEVEL_RIDGE, _SLOPE_RIDGE, _SLOPE_RIDGE] + [_KIND_RIDGE] * len(kinds))
    with threadpool_limits(1, "blas"):  # another number of threads may round sums differently
        fitted = _fitted(np.hstack([design, member]), found, weights, ridge)
    slopes, levels = fitted[:, 1:3], fitted[:, :1] + fitted[:, 3:]

    def curve(which: list[int], sloping: float) -> Curve:
        own = slopes * np.array([sloping, 1.0])
        share = member[:, which].sum(axis=0)
        return Curve(
            own[0], levels[0, which], share / share.sum(), own[1:], levels[1:, which], int(share.sum()), highest
        )

    steady = [kind in MOVED for kind in kinds]
    result = {ALL: curve([i for i, each in enumerate(steady) if not each or all(steady)], float(not all(steady)))}
    for number, kind in enumerate(kinds):
        result[kind] = curve([number], float(not steady[number]))
    return result


def _doublings(contrast: npt.ArrayLike, extent: npt.ArrayLike) -> tuple[Float64, Float64]:
    """Return log2(contrast / 3) and log2(extent / 8) in one shape."""
    stands = np.log2(np.maximum(np.asarray(contrast, np.float64), LOWEST) / PLAIN_CONTRAST)
    large = np.log2(np.asarray(extent, np.float64) / PLAIN_EXTENT)
    stands, large = np.broadcast_arrays(stands, large)
    return stands, large


def _logistic(values: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -40, 40))))


def _bootstrap(image: npt.NDArray[np.int64], seed: int) -> Float64:
    """Return the weight `(1 + B, T)` of each trial: 1 in the first row, else how often its image was drawn."""
    _, which = np.unique(image, return_inverse=True)
    images = int(which.max()) + 1
    rng = np.random.default_rng([seed, images, 0xB007])
    times = rng.multinomial(images, np.full(images, 1 / images), size=_DRAWS)
    return np.vstack([np.ones(len(image)), times[:, which]]).astype(np.float64)


def _fitted(design: Float64, found: Float64, weights: Float64, ridge: Float64) -> Float64:
    """Fit coefficients `(R, K)` for each row of weights; column 1, the slope of contrast, is never below 0."""
    coefficients = _newton(design, found, weights, ridge)
    falling = coefficients[:, 1] < 0
    if falling.any():
        rest = [column for column in range(design.shape[1]) if column != 1]
        again = _newton(design[:, rest], found, weights[falling], ridge[rest])
        coefficients[falling] = np.insert(again, 1, 0.0, axis=1)
    return coefficients


def _newton(design: Float64, found: Float64, weights: Float64, ridge: Float64) -> Float64:
    """Maximise the penalised likelihood for each row of weights: iteratively reweighted least squares."""
    trials, size = design.shape
    products = (design[:, :, None] * design[:, None, :]).reshape(trials, size * size)
    coefficients = np.zeros((len(weights), size))
    for _ in range(_STEPS):
        chance = _logistic(coefficients @ design.T)
        slope = (weights * (found - chance)) @ design - ridge * coefficients
        curvature = ((weights * chance * (1 - chance)) @ products).reshape(-1, size, size) + np.diag(ridge)
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        largest = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1, _LONGEST / np.maximum(largest, 1e-300))
        coefficients += step
        if float(largest.max()) < _ENOUGH:
            break
    return coefficients
