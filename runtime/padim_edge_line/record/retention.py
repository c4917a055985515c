"""Removal of what is too much: the oldest images first, then the oldest rows."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from padim_edge_line.record import images
from padim_edge_line.record.reading import Reader
from padim_edge_line.record.tables import SET

__all__ = ["ANCHOR", "evict", "forget", "sweep"]

ANCHOR = "anchor"
"""Setting that holds the number and the chain of the last row that was removed: the chain goes on from there."""

_STEP = 1000
_MOST_BEHIND = 1_000_000
"""Number of rows for which the tidying up waits for a sink that has not told them."""


def evict(connection: sqlite3.Connection, budget: int) -> tuple[list[tuple[int, bytes, str]], int]:
    """Forget kept images until the rest fits the budget: the oldest first, those with a mark last.

    Args:
        connection: The writer's connection.
        budget: Bytes.

    Returns:
        Time, key and ending of each, whose files are to be removed; and the bytes that are left.
    """
    (total,) = connection.execute("SELECT total(bytes) FROM kept").fetchone()
    gone: list[tuple[int, bytes, str]] = []
    connection.execute("BEGIN IMMEDIATE")
    oldest = connection.execute(
        "SELECT kept.seq, kept.bytes, time, key, image FROM kept JOIN images USING (seq) ORDER BY marked, kept.seq"
    )
    for seq, size, time, key, ending in oldest.fetchall():
        if total <= budget:
            break
        connection.execute("DELETE FROM kept WHERE seq = ?", (seq,))
        total -= size
        gone.append((time, key, ending))
    connection.execute("COMMIT")
    return gone, int(total)


def forget(connection: sqlite3.Connection, rows: int, told: int) -> int:
    """Remove the oldest rows above a number, but none whose image is kept, or that a sink has still to tell.

    A sink that is further behind than `_MOST_BEHIND` rows is not waited for.

    Args:
        connection: The writer's connection.
        rows: Number of rows to keep.
        told: Number of the last row that all sinks have told.

    Returns:
        The number of rows that were removed.
    """
    first, last = connection.execute("SELECT min(seq), max(seq) FROM images").fetchone()
    if first is None or last - first + 1 <= rows:
        return 0
    (kept,) = connection.execute("SELECT min(seq) FROM kept").fetchone()
    end = min(last - rows, first + _STEP - 1, last - 1, (kept or last) - 1, max(told, last - _MOST_BEHIND))
    if end < first:
        return 0
    connection.execute("BEGIN IMMEDIATE")
    (chain,) = connection.execute("SELECT chain FROM images WHERE seq = ?", (end,)).fetchone()
    connection.execute("DELETE FROM images WHERE seq <= ?", (end,))
    connection.execute(SET, (ANCHOR, f"{end} {chain.hex()}"))
    connection.execute("COMMIT")
    return int(end - first + 1)


def sweep(folder: Path, reader: Reader, newest: int) -> int:
    """Remove files of images that no row keeps: a kill between the file and its row leaves one.

    Args:
        folder: The line's folder.
        reader: The record.
        newest: Files that were changed later than this time, in microseconds since 1970, are left alone.

    Returns:
        The number of files that were removed.
    """
    removed = 0
    query = "SELECT 1 FROM images JOIN kept USING (seq) WHERE key = ? AND source IN (SELECT id FROM names) LIMIT 1"
    for path, key in images.files(folder):
        with suppress(OSError):
            if path.stat().st_mtime_ns // 1000 > newest:
                continue
            if key is None or not reader.values(query, (key,)):
                path.unlink()
                removed += 1
    return removed
