"""Check of the hash chain: whether rows or marks were changed or removed after they were written."""

from __future__ import annotations

from dataclasses import dataclass

from padim_edge_line.record.reading import Mark, Reader, chained_mark
from padim_edge_line.record.retention import ANCHOR
from padim_edge_line.row import GENESIS, chained

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class Checked:
    """Outcome of a check."""

    rows: int
    """Number of rows that were looked at."""
    marks: int
    """Number of marks that were looked at."""
    broken: tuple[str, ...]
    """One sentence for each place where the chain is broken: the first one in the rows and in the marks."""
    head: str
    """Digest of the last row. Rows that were cut off at the end are seen by a person who knows a later one: MQTT and
    webhook tell it with each row."""


def check(reader: Reader) -> Checked:
    """Go through the whole record.

    Args:
        reader: The record.
    """
    chain, last = GENESIS, 0
    if (anchor := reader.setting(ANCHOR)) is not None:
        number, _, digits = anchor.partition(" ")
        last, chain = int(number), bytes.fromhex(digits)
    broken: list[str] = []
    count = 0
    try:
        for row in reader.rows():
            count += 1
            if row.seq != last + 1:
                broken.append(f"rows {last + 1} to {row.seq - 1} are missing")
                break
            if chained(chain, row).chain != row.chain:
                broken.append(f"row {row.seq} is not as it was written, or the one before it")
                break
            last, chain = row.seq, row.chain
    except ValueError as error:
        broken.append(str(error))
    marks, sentence = _marks(reader)
    return Checked(count, marks, (*broken, *([sentence] if sentence else [])), chain.hex())


def _marks(reader: Reader) -> tuple[int, str]:
    before, expected = GENESIS, 1
    found = reader.values("SELECT id, seq, mark, who, time, chain FROM marks ORDER BY id")
    for number, seq, mark, who, time, chain in found:
        if number != expected or chained_mark(before, Mark(seq, mark, who, time)) != chain:
            return len(found), f"mark {number} (row {seq}) is not as it was written, or one before it is missing"
        before, expected = chain, expected + 1
    return len(found), ""
