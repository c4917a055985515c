"""The kept images of a product, sorted by what persons have said about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from padim_edge_line.record import Filters, Reader
from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE

__all__ = ["Kept", "Material", "material_of"]

_MOST_UNMARKED = 300
"""Most unmarked images of each verdict that are looked at, the newest ones."""


@dataclass(frozen=True)
class Kept:
    """A kept image."""

    seq: int
    """Number of its row."""
    path: Path
    """Its file."""
    verdict: str
    """Verdict on record."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Kept images of one product, each in the order of the record."""

    false_alarms: tuple[Kept, ...]
    """Images that were not good by the model, and good by a person's word."""
    confirmed_good: tuple[Kept, ...]
    """Good images whose verdict a person has confirmed."""
    samples: tuple[Kept, ...]
    """Good images that nobody has marked."""
    confirmed_alarms: tuple[Kept, ...]
    """Images that were not good, which a person has confirmed."""
    missed: tuple[Kept, ...]
    """Images that were good by the model, and not by a person's word."""
    alarms: tuple[Kept, ...]
    """Images that were not good, which nobody has marked."""
    gone: int
    """Number of marked images that are not kept any more."""
    odd: int
    """Number of marks that make no sense, such as a false alarm on a good image; they are left out."""

    @property
    def marked_good(self) -> tuple[Kept, ...]:
        """Images that are good by a person's word, in the order of the record."""
        return tuple(sorted((*self.false_alarms, *self.confirmed_good), key=lambda each: each.seq))

    @property
    def all(self) -> tuple[Kept, ...]:
        """All images."""
        return (*self.marked_good, *self.samples, *self.confirmed_alarms, *self.missed, *self.alarms)


def material_of(reader: Reader, product: str) -> Material:
    """Read the kept images of a product from the record.

    Args:
        reader: The record.
        product: Name of the product.
    """
    false_alarms, confirmed_good, confirmed_alarms, missed = (list[Kept]() for _ in range(4))
    places = {
        ("false alarm", False): false_alarms,
        ("right", True): confirmed_good,
        ("right", False): confirmed_alarms,
        ("missed", True): missed,
    }
    gone = odd = 0
    for row in reader.rows(filters=Filters(product=product, marked=True)):
        mark, path = reader.mark_of(row.seq), reader.image(row.seq)
        if mark is None or row.verdict not in (GOOD, ANOMALOUS, NOT_COMPARABLE):
            continue
        place = places.get((mark.mark, row.verdict == GOOD))
        if place is None:
            odd += 1
        elif path is None:
            gone += 1
        else:
            place.append(Kept(row.seq, path, row.verdict))
    return Material(
        false_alarms=tuple(false_alarms),
        confirmed_good=tuple(confirmed_good),
        samples=tuple(_unmarked(reader, product, (GOOD,))),
        confirmed_alarms=tuple(confirmed_alarms),
        missed=tuple(missed),
        alarms=tuple(_unmarked(reader, product, (ANOMALOUS, NOT_COMPARABLE))),
        gone=gone,
        odd=odd,
    )


def _unmarked(reader: Reader, product: str, verdicts: tuple[str, ...]) -> list[Kept]:
    def newest() -> Iterator[Kept]:
        filters = Filters(product=product, verdicts=verdicts, marked=False)
        for row in reader.rows(newest_first=True, filters=filters):
            path = None if row.image is None else reader.image(row.seq)
            if path is not None:
                yield Kept(row.seq, path, row.verdict)

    found = [each for each, _ in zip(newest(), range(_MOST_UNMARKED), strict=False)]
    return found[::-1]
