"""Questions to the record: rows, marks, counts, kept images. A reader never writes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.record import images, tables
from padim_edge_line.record.tables import SELECT, row_of
from padim_edge_line.row import VERDICTS, Row

__all__ = ["Filters", "Mark", "Reader", "chained_mark"]

_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions that rows must meet, all of them."""

    product: str | None = None
    """Name of the product."""
    verdicts: Sequence[str] = ()
    """Verdicts, one of which the row has; any where empty."""
    source: str | None = None
    """Name of the source."""
    part: str | None = None
    """Identity of the part."""
    since: int | None = None
    """Earliest time of arrival, in microseconds since 1970."""
    until: int | None = None
    """Time before which the image arrived, in microseconds since 1970."""
    marked: bool | str | None = None
    """Whether a person has marked it, or the last mark itself."""

    def clauses(self) -> tuple[list[str], list[Any]]:
        """Return conditions in SQL, and their values."""
        given: list[tuple[str, list[Any]]] = []
        if self.product is not None:
            given.append(("p.text = ?", [self.product]))
        if self.verdicts:
            numbers = [VERDICTS.index(verdict) for verdict in self.verdicts]
            given.append((f"images.verdict IN ({', '.join('?' * len(numbers))})", [*numbers]))
            if 0 not in numbers:
                given.append(("images.verdict != 0", []))  # so that the index of alarms serves
        if self.source is not None:
            given.append(("s.text = ?", [self.source]))
        if self.part is not None:
            given.append(("images.part = ?", [self.part]))
        if self.since is not None:
            given.append(("images.time >= ?", [self.since]))
        if self.until is not None:
            given.append(("images.time < ?", [self.until]))
        mark = "(SELECT mark FROM marks WHERE marks.seq = images.seq ORDER BY id DESC LIMIT 1)"
        if isinstance(self.marked, bool):
            given.append((f"{mark} IS {'NOT ' if self.marked else ''}NULL", []))
        elif self.marked is not None:
            given.append((f"{mark} = ?", [self.marked]))
        return [clause for clause, _ in given], [value for _, values in given for value in values]


@dataclass(frozen=True)
class Mark:
    """Word of a person about a verdict."""

    seq: int
    """Number of the row."""
    mark: str
    """One of `MARKS`."""
    who: str
    """Name of the person, as far as it is known."""
    time: int
    """Time of the mark in microseconds since 1970."""


def chained_mark(before: bytes, mark: Mark) -> bytes:
    """Return the digest of a mark: SHA-256 of the digest of the mark before it and of its fields in JSON."""
    content = json.dumps([mark.seq, mark.mark, mark.who, mark.time], separators=(",", ":"))
    return hashlib.sha256(before + content.encode()).digest()


class Reader:
    """A connection that reads. Each thread has its own.

    Args:
        folder: The line's folder.

    Raises:
        PadimEdgeError: There is no record, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / tables.FILE
        if not path.is_file():
            raise PadimEdgeError(f"there is no record in {folder}; expected the folder of a line that has run")
        try:
            self._connection = tables.connected(path, write=False)
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise PadimEdgeError(f"the record {path} cannot be read ({error}); check its rights") from error
        if version != tables.VERSION:
            self._connection.close()
            raise PadimEdgeError(f"{path} is no record of version {tables.VERSION}; use the padim-edge that made it")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def last(self) -> int:
        """Return the number of the last row; 0 where there is none."""
        (last,) = self._connection.execute("SELECT max(seq) FROM images").fetchone()
        return last or 0

    def rows(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        filters: Filters | None = None,
    ) -> Iterator[Row]:
        """Yield rows by their numbers.

        Args:
            after: Number of a row; those behind it are given.
            before: Number of a row; those in front of it are given. `None` for all.
            limit: Most rows to give; `None` for all.
            newest_first: Whether the highest number comes first.
            filters: Conditions.
        """
        clauses, values = (filters or Filters()).clauses()
        left = limit
        while left is None or left > 0:  # in pages, so that no reader holds back the tidying up of the log
            bounds = ["images.seq > ?", *(["images.seq < ?"] if before is not None else [])]
            query = (
                f"{SELECT} WHERE {' AND '.join([*bounds, *clauses])} "
                f"ORDER BY images.seq {'DESC' if newest_first else 'ASC'} LIMIT ?"
            )
            page = _AT_ONCE if left is None else min(left, _AT_ONCE)
            given = [after, *([before] if before is not None else []), *values, page]
            found = self._connection.execute(query, given).fetchall()
            for each in found:
                yield row_of(each)
            if len(found) < page:
                return
            if newest_first:
                before = found[-1][0]
            else:
                after = found[-1][0]
            left = None if left is None else left - len(found)

    def row(self, seq: int) -> Row | None:
        """Return a row by its number."""
        return next(self.rows(after=seq - 1, before=seq + 1), None)

    def row_of_key(self, source: str, key: bytes) -> Row | None:
        """Return the row of an image by its identity."""
        found = self._connection.execute(f"{SELECT} WHERE s.text = ? AND images.key = ?", (source, key)).fetchone()
        return None if found is None else row_of(found)

    def known(self, source: str, keys: Iterable[bytes]) -> set[bytes]:
        """Return those of some keys that the record has for a source."""
        found: set[bytes] = set()
        asked = list(keys)
        number = self._connection.execute("SELECT id FROM names WHERE text = ?", (source,)).fetchone()
        if number is None:
            return found
        for first in range(0, len(asked), _AT_ONCE):
            part = asked[first : first + _AT_ONCE]
            query = f"SELECT key FROM images WHERE source = ? AND key IN ({', '.join('?' * len(part))})"  # noqa: S608
            found.update(key for (key,) in self._connection.execute(query, [*number, *part]))
        return found

    def mark_of(self, seq: int) -> Mark | None:
        """Return the last mark of a row."""
        query = "SELECT seq, mark, who, time FROM marks WHERE seq = ? ORDER BY id DESC LIMIT 1"
        found = self._connection.execute(query, (seq,)).fetchone()
        return None if found is None else Mark(*found)

    def marks(self) -> tuple[Mark, ...]:
        """Return the last mark of each row that has one, by the rows' numbers."""
        query = (
            "SELECT seq, mark, who, time FROM marks WHERE id IN (SELECT max(id) FROM marks GROUP BY seq) ORDER BY seq"
        )
        return tuple(Mark(*found) for found in self._connection.execute(query))

    def image(self, seq: int) -> Path | None:
        """Return the file of a kept image; `None` where it is not kept, or no more."""
        return self._kept(seq, overlay=False)

    def overlay(self, seq: int) -> Path | None:
        """Return the file of the overlay of a kept image; `None` where there is none."""
        return self._kept(seq, overlay=True)

    def kept(self) -> tuple[int, int]:
        """Return the number of kept images and their bytes."""
        count, total = self._connection.execute("SELECT count(*), total(bytes) FROM kept").fetchone()
        return count, int(total)

    def counts(self, since: int = 0) -> dict[str, dict[str, int]]:
        """Count the rows of each product by verdict.

        Args:
            since: Earliest time of arrival, in microseconds since 1970.
        """
        first = self._first_since(since)
        query = (
            "SELECT p.text, verdict, count(*) FROM images JOIN names p ON p.id = images.product WHERE seq >= ? "
            "GROUP BY 1, 2"
        )
        found: dict[str, dict[str, int]] = {}
        for product, verdict, count in self._connection.execute(query, (first,)):
            found.setdefault(product, {})[VERDICTS[verdict]] = count
        return found

    def setting(self, key: str) -> str | None:
        """Return a setting of the line, such as the product that is made."""
        found = self._connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def changes(self) -> int:
        """Return a number that differs when another connection has written."""
        (found,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(found)

    def values(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the answer to a query of one of our own modules."""
        return self._connection.execute(query, parameters).fetchall()

    def _first_since(self, since: int) -> int:
        """Return the number of the first row from a time on. Times rise with the numbers, but for a clock set back."""
        (low,) = self._connection.execute("SELECT min(seq) FROM images").fetchone()
        if low is None or since <= 0:
            return low or 0
        high = self.last() + 1
        while low < high:
            middle = (low + high) // 2
            query = "SELECT seq, time FROM images WHERE seq >= ? ORDER BY seq LIMIT 1"
            _, time = self._connection.execute(query, (middle,)).fetchone()
            low, high = (middle + 1, high) if time < since else (low, middle)
        return int(low)

    def _kept(self, seq: int, *, overlay: bool) -> Path | None:
        row = self.row(seq)
        if row is None or row.image is None:
            return None
        path = images.place(self._folder, row.time, row.key, images.OVERLAY if overlay else row.image)
        return path if path.is_file() else None
