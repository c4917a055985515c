"""Real defects on the chart: how well the drawn defects foretold what is found of them.

Real defects are often longer than drawn ones: a crack may cross the whole part, 3 pixels wide. It is not as easy to
find as a stain of that extent. So the curve that foretells is over contrast and the root of the area, not the extent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from padim_edge.evaluation.metrics import Rate
from padim_edge.rehearsal.chart import cell_of, cells, found_rate
from padim_edge.rehearsal.curve import ALL, curves
from padim_edge.rehearsal.trials import Trial

__all__ = ["ENOUGH", "Foretold", "Group", "foretold"]

ENOUGH = 15
"""Number of real defects from which a group counts in the mean difference."""


@dataclass(frozen=True)
class Group:
    """Real defects of about one extent and contrast."""

    extent: tuple[float, float | None]
    """Lowest extent, and the extent that is too large, in pixels of the model's frame."""
    contrast: tuple[float, float | None]
    """Lowest contrast, and the contrast that is too high, in deviations of the local texture."""
    found: Rate
    """Share of them that is found."""
    expected: float
    """Share that the chart foretold, 0 to 1."""
    low: float
    """Lower end of the 95 % interval of the foretold share."""
    high: float
    """Upper end of it."""


@dataclass(frozen=True)
class Foretold:
    """The chart against real defects."""

    defects: int
    """Number of real defects that were placed on the chart."""
    groups: tuple[Group, ...]
    """Groups with at least one real defect, by extent and contrast."""
    found: Rate
    """Share of all of them that is found."""
    expected: float
    """Share of all of them that the chart foretold."""
    difference: float | None
    """Mean absolute difference between foretold and found share over groups of at least `ENOUGH`; `None` without
    such groups."""
    counted: int
    """Number of these groups."""


def foretold(
    defects: Sequence[Trial], drawn: Sequence[Trial], threshold: float, false_alarms: Rate | None, *, seed: int = 0
) -> Foretold:
    """Compare the share of real defects that is found with that of drawn defects of such areas and contrasts.

    A good image that raises an alarm would do so with any defect on it. The chart leaves such images out, so their
    share g is added here: P = g + (1 - g) P(chart).

    Args:
        defects: Real defects that the model judged, at least one.
        drawn: Drawn defects that the model judged, at least one.
        threshold: Score above which a defect is found.
        false_alarms: Share of new good images above the threshold; `None` where there are none.
        seed: Random seed of the bootstrap.
    """
    extra = 0.0 if false_alarms is None else false_alarms.value
    known = all(each.area > 0 for each in (*defects, *drawn))
    curve = curves([_of_area(each) for each in drawn] if known else drawn, threshold, seed)[ALL]
    sized = [_of_area(each) for each in defects] if known else defects
    extent = np.array([each.extent for each in sized])
    contrast = np.array([each.contrast for each in sized])
    chance = extra + (1 - extra) * curve(contrast, extent)
    low, high = (extra + (1 - extra) * end for end in curve.interval(contrast, extent))
    found = found_rate(defects, threshold)
    assert found is not None
    where = [cell_of(each) for each in defects]
    order = sorted(set(where))
    filled = [cell for cell in cells(defects, threshold) if cell.found is not None]
    groups = []
    for cell, at in zip(filled, order, strict=True):
        own = np.array([each == at for each in where])
        assert cell.found is not None
        groups.append(
            Group(
                cell.extent,
                cell.contrast,
                cell.found,
                float(chance[own].mean()),
                float(low[own].mean()),
                float(high[own].mean()),
            )
        )
    large = [abs(each.expected - each.found.value) for each in groups if each.found.total >= ENOUGH]
    return Foretold(
        defects=len(defects),
        groups=tuple(groups),
        found=found,
        expected=float(chance.mean()),
        difference=float(np.mean(large)) if large else None,
        counted=len(large),
    )


def _of_area(trial: Trial) -> Trial:
    """Return a defect whose extent is the side of a square of the same area."""
    return replace(trial, extent=max(1.0, float(np.sqrt(trial.area))))
