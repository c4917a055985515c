"""Rows of an evaluation's tables: kinds of images, and thresholds to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from padim_edge.datasets import GOOD
from padim_edge.evaluation.metrics import Rate
from padim_edge.evaluation.operating import STORED, OperatingPoint, Origin
from padim_edge.evaluation.tables import Row, percent
from padim_edge_artifact import Metadata
from padim_edge_learn.set_threshold import number

__all__ = ["kind_rows", "point_notes", "point_rows"]

_MOST_KINDS = 24
"""Largest number of kinds of images that a table shows."""


def kind_rows(kinds: Mapping[str, Rate]) -> Iterator[Row]:
    """Yield one row per kind of image; of very many kinds, the good images and the kinds that are missed most."""
    kept = list(kinds)
    if len(kinds) > _MOST_KINDS:
        kept = sorted(kinds, key=lambda kind: (kind != GOOD, kinds[kind].value))[:_MOST_KINDS]
    for kind in kept:
        found = kinds[kind]
        interval = f"{100 * found.low:.1f} to {percent(found.high)}"
        yield kind, str(found.total), _count(found), interval
    if left := [found for kind, found in kinds.items() if kind not in kept]:
        yield (
            f"{len(left)} more kinds",
            str(sum(each.total for each in left)),
            str(sum(each.count for each in left)),
            "",
        )


def point_rows(points: Sequence[OperatingPoint], origin: Origin) -> list[Row]:
    """Write a heading and one row per threshold to choose from; nothing where there are none."""
    if not points:
        return []
    rows: list[Row] = [("false alarms asked", "threshold", "false alarms", "misses", f"{origin.command} ...")]
    for each in points:
        asked = f" ({100 * each.asked:.2g} %)" if each.name == STORED and each.asked is not None else ""
        name = f"{each.name}{asked}{' *' if each.extrapolated else ''}"
        options = each.command.removeprefix(f"{origin.command} ")
        rows.append((name, number(each.threshold), _count(each.false_alarm), _count(each.miss), options))
    return rows


def point_notes(points: Sequence[OperatingPoint], metadata: Metadata | None) -> list[str]:
    """Say what the table of thresholds does not tell; nothing where there is no table."""
    notes = []
    if metadata is not None and any(each.extrapolated for each in points):
        calibration = metadata.calibration
        notes.append(
            f"* {calibration.images} good images measure rates down to {100 * calibration.resolution:.2g} %; "
            "the threshold for smaller ones is their highest score."
        )
    if points:
        notes.append("A threshold chosen on these images looks better on them than it will on others.")
    return notes


def _count(found: Rate | None) -> str:
    return "-" if found is None else f"{found.count} ({percent(found.value)})"
