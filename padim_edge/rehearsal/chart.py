"""Visibility chart: share of drawn defects that are found, by extent and contrast, and by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from padim_edge.evaluation.metrics import Rate, rate
from padim_edge.planting import MOVED
from padim_edge.rehearsal.curve import ALL, Curve, Needed, curves
from padim_edge.rehearsal.trials import Trial, plain

__all__ = ["CONTRASTS", "EXTENTS", "SHARES", "Cell", "Chart", "KindFound", "cell_of", "cells", "chart", "found_rate"]

CONTRASTS = (1.0, 2.0, 3.0, 6.0)
"""Borders between the columns of the chart, in deviations of the local texture."""
EXTENTS = (4.0, 8.0, 16.0, 32.0, 64.0)
"""Borders between its rows, in pixels of the model's frame. The needed contrast is told at these extents."""
SHARES = (0.5, 0.95)
"""Shares of found defects for which the needed contrast is told."""


@dataclass(frozen=True)
class Cell:
    """Defects of about one extent and contrast."""

    extent: tuple[float, float | None]
    """Lowest extent, and the extent that is too large, in pixels of the model's frame; `None` for no limit."""
    contrast: tuple[float, float | None]
    """Lowest contrast, and the contrast that is too high, in deviations; `None` for no limit."""
    found: Rate | None
    """Share that is found; `None` without defects."""


@dataclass(frozen=True)
class KindFound:
    """Defects of one kind."""

    kind: str
    """Kind of defect."""
    found: Rate
    """Share that is found, of all strengths and sizes."""
    plain: Rate | None
    """Share of the plainly visible ones that is found; `None` without such defects."""
    needed: tuple[Needed, ...]
    """Contrast that each of `SHARES` needs at each extent; empty for pieces that stand out by their place."""


@dataclass(frozen=True, eq=False)
class Chart:
    """Share of drawn defects that a model finds at a threshold: by extent, contrast and kind."""

    threshold: float
    """Score above which a defect is found."""
    cells: tuple[Cell, ...]
    """Cells by extent, then by contrast."""
    curves: dict[str, Curve]
    """Curve of each kind, and that of all by the name `ALL`."""
    kinds: tuple[KindFound, ...]
    """Kinds, the one that is found least first."""
    needed: tuple[Needed, ...]
    """Contrast that each of `SHARES` needs at each extent, over all kinds that stand out by contrast."""
    found: Rate
    """Share of all defects that is found."""
    plain: Rate | None
    """Share of the plainly visible ones that is found; `None` without such defects."""
    spread: tuple[float, float] | None
    """95 % interval of that share: the wider of its own and of a bootstrap over images; `None` without such defects."""

    @property
    def curve(self) -> Curve:
        """Curve over all kinds."""
        return self.curves[ALL]


def chart(trials: Sequence[Trial], threshold: float, seed: int = 0) -> Chart:
    """Count the trials that are found, and fit the curves.

    Args:
        trials: Trials, at least one.
        threshold: Score above which a defect is found.
        seed: Random seed of the bootstrap.
    """
    fitted = curves(trials, threshold, seed)
    sizes = [each.extent for each in trials]
    extents = [extent for extent in EXTENTS if min(sizes) <= extent <= max(sizes)]

    def needed(curve: Curve) -> tuple[Needed, ...]:
        return tuple(curve.needed(share, extent) for extent in extents for share in SHARES)

    kinds = []
    for kind in sorted({each.kind for each in trials}):
        own = [each for each in trials if each.kind == kind]
        everything = found_rate(own, threshold)
        assert everything is not None
        kinds.append(
            KindFound(
                kind,
                everything,
                found_rate([each for each in own if plain(each)], threshold),
                () if kind in MOVED else needed(fitted[kind]),
            )
        )
    visible = [each for each in trials if plain(each)]
    share = found_rate(trials, threshold)
    assert share is not None
    return Chart(
        threshold=threshold,
        cells=cells(trials, threshold),
        curves=fitted,
        kinds=tuple(sorted(kinds, key=lambda each: (each.found.value, each.kind))),
        needed=needed(fitted[ALL]),
        found=share,
        plain=found_rate(visible, threshold),
        spread=_spread(visible, threshold, seed) if visible else None,
    )


def found_rate(trials: Sequence[Trial], threshold: float) -> Rate | None:
    """Count the trials above a threshold; `None` without trials."""
    return rate(np.array([each.score > threshold for each in trials], np.bool_))


def cell_of(trial: Trial) -> tuple[int, int]:
    """Return the (row, column) of the chart that a defect belongs to."""
    return (
        int(np.searchsorted(EXTENTS, trial.extent, "right")),
        int(np.searchsorted(CONTRASTS, trial.contrast, "right")),
    )


def cells(trials: Sequence[Trial], threshold: float) -> tuple[Cell, ...]:
    """Count the trials of each cell. Rows of extents that no trial has are left out at both ends."""
    where = [cell_of(each) for each in trials]
    rows = [row for row, _ in where]
    result = []
    for row in range(min(rows), max(rows) + 1):
        for column in range(len(CONTRASTS) + 1):
            own = [each for each, at in zip(trials, where, strict=True) if at == (row, column)]
            result.append(Cell(_span(EXTENTS, row), _span(CONTRASTS, column), found_rate(own, threshold)))
    return tuple(result)


def _span(borders: Sequence[float], number: int) -> tuple[float, float | None]:
    low = borders[number - 1] if number else 0.0
    return low, borders[number] if number < len(borders) else None


def _spread(
    trials: Sequence[Trial],
    threshold: float,
    seed: int,
    draws: int = 1000,
    bounds: tuple[float, float] = (0.025, 0.975),
) -> tuple[float, float]:
    """Bootstrap the share that is found over images, whose defects are not independent of each other."""
    _, which = np.unique([each.image for each in trials], return_inverse=True)
    images = int(which.max()) + 1
    total = np.bincount(which, minlength=images)
    found = np.bincount(which, [each.score > threshold for each in trials], images)
    times = np.random.default_rng([seed, images, 0xC0DE]).multinomial(images, np.full(images, 1 / images), size=draws)
    low, high = np.quantile((times * found).sum(axis=1) / (times * total).sum(axis=1), bounds)
    alone = found_rate(trials, threshold)  # a bootstrap of defects that are all found has no width
    assert alone is not None
    return min(float(low), alone.low), max(float(high), alone.high)
