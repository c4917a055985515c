"""The one writer of the record: a thread that makes rows durable, many in one transaction where they come fast."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import make_folder
from padim_edge_line.arrival import now
from padim_edge_line.config import RecordConfig
from padim_edge_line.record import images, tables
from padim_edge_line.record.reading import Mark, Reader, chained_mark
from padim_edge_line.record.retention import evict, forget
from padim_edge_line.row import GENESIS, Row, chained

__all__ = ["MARKS", "Entry", "Record", "Written"]

MARKS = ("right", "false alarm", "missed")
"""Words that a person can say about a verdict."""

_AT_ONCE = 256
"""Most rows in one transaction."""
_AGAIN = 0.25
"""Seconds until a transaction that failed is tried again."""
_TIDY_EVERY = 200
"""Number of transactions after which old rows are looked for."""

_OWN_FAULT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
"""Errors of one thing to write, which no waiting heals."""

Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True)
class Entry:
    """A row that has no number yet."""

    row: Row
    """The row; its number and its chain are filled in."""
    bytes: int = 0
    """Size of the kept image and its overlay."""


@dataclass(frozen=True)
class Written:
    """A row that is durable."""

    row: Row
    """The row."""
    new: bool
    """Whether it was written now: an image that the record has already gets no second row."""


class Record:
    """Record of a line, to which only this object writes rows.

    Args:
        folder: The line's folder; it is made where it does not exist.
        config: What is kept, and how long.
        told: Called in the writer's thread with the state: a sentence where writing fails, an empty text where it
            works.
        wrote: Called in the writer's thread with the new rows, after they are durable.

    Raises:
        PadimEdgeError: The folder or the database cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        config: RecordConfig,
        *,
        told: Callable[[str], object] = lambda _: None,
        wrote: Callable[[Sequence[Row]], object] = lambda _: None,
    ) -> None:
        self.folder = folder
        self._config = config
        self._told, self._wrote = told, wrote
        make_folder(folder)
        path = folder / tables.FILE
        try:
            self._connection = tables.connected(path, write=True)
            try:
                tables.prepared(self._connection)
                self._names = dict(self._connection.execute("SELECT text, id FROM names").fetchall())
                last = self._connection.execute("SELECT seq, chain FROM images ORDER BY seq DESC LIMIT 1").fetchone()
                (self._kept,) = self._connection.execute("SELECT total(bytes) FROM kept").fetchone()
                self._positions: dict[str, int] = dict(
                    self._connection.execute("SELECT sink, seq FROM positions").fetchall()
                )
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise PadimEdgeError(
                f"the record {path} cannot be opened ({error}); expected a folder that can be written to and has room"
            ) from error
        self._last: int
        self._chain: bytes
        self._last, self._chain = last or (0, GENESIS)
        self._moved: dict[str, int] = {}
        self._lock = threading.Lock()
        self._readers: list[Reader] = []
        self._local = threading.local()
        self._queue: queue.SimpleQueue[tuple[Entry | Work, Future[Any]] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._rounds = 0
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> Future[Written]:
        """Write a row. The future has it when it is durable; it fails with `PadimEdgeError` only at the end."""
        future: Future[Written] = Future()
        self._queue.put((entry, future))
        return future

    def write(self, work: Work) -> Future[Any]:
        """Let a function write something else, in the next transaction; the future has what it returned."""
        future: Future[Any] = Future()
        self._queue.put((work, future))
        return future

    def enlarge(self, written: Future[Written], size: int) -> None:
        """Count further bytes of a kept image, once its row is written."""
        if written.cancelled() or written.exception() is not None:
            return
        seq = written.result().row.seq

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE kept SET bytes = bytes + ? WHERE seq = ?", (size, seq))
            self._kept += size

        self.write(work)

    def mark(self, seq: int, mark: str, who: str) -> Future[Mark]:
        """Note what a person says about a verdict; the last word counts.

        Raises:
            PadimEdgeError: The word is none of `MARKS`. The future raises it where there is no such row.
        """
        if mark not in MARKS:
            raise PadimEdgeError(f"the mark is {mark!r}, expected {', '.join(MARKS)}")
        return self.write(lambda connection: _marked(connection, Mark(seq, mark, who[:64], now())))

    def set(self, key: str, value: str) -> Future[Any]:
        """Keep a setting of the line."""
        return self.write(lambda connection: connection.execute(tables.SET, (key, value)))

    def event(self, kind: str, text: str) -> Future[Any]:
        """Note an event, such as a start or a change of product."""
        return self.write(
            lambda connection: connection.execute(
                "INSERT INTO events (time, kind, text) VALUES (?, ?, ?)", (now(), kind, text)
            )
        )

    def position(self, sink: str) -> int:
        """Return the number of the last row that a sink has told. A new sink starts behind the last row."""
        with self._lock:
            if sink not in self._positions:
                self._positions[sink] = self._moved[sink] = self._last
            return self._positions[sink]

    def acknowledge(self, sink: str, seq: int) -> None:
        """Note that a sink has told all rows up to one. It is written soon, so a crash may lead to telling again."""
        with self._lock:
            if seq <= self._positions.get(sink, -1):
                return
            self._positions[sink] = self._moved[sink] = seq
        self._queue.put(None)

    def reader(self) -> Reader:
        """Return the reader of this thread. It is closed with the record."""
        found: Reader | None = getattr(self._local, "reader", None)
        if found is None:
            found = self._local.reader = Reader(self.folder)
            with self._lock:
                self._readers.append(found)
        return found

    def close(self) -> None:
        """Write what waits, as far as that works at once, and close the database."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()
        with self._lock:
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _run(self) -> None:
        while True:
            some = self._waiting()
            if some or self._moved:
                self._lasting(some)
            if self._stopping.is_set() and self._queue.empty():
                return

    def _waiting(self) -> list[tuple[Entry | Work, Future[Any]]]:
        """Wait for work, and take all that is there. Positions alone wait a little, so that they cost few writes."""
        first = self._queue.get()
        if first is None and not self._stopping.is_set():
            with suppress(queue.Empty):
                first = self._queue.get(timeout=0.05)
        found = [] if first is None else [first]
        with suppress(queue.Empty):
            while len(found) < _AT_ONCE:
                each = self._queue.get_nowait()
                if each is not None:
                    found.append(each)
        return found

    def _lasting(self, some: list[tuple[Entry | Work, Future[Any]]]) -> None:
        """Write until it works. What fails for a full disk works again when there is room."""
        failed = False
        while True:
            with self._lock:
                moved = dict(self._moved)
            try:
                done = self._transaction([what for what, _ in some], moved)
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the writer must go on
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, _OWN_FAULT):
                    self._alone(some, error)
                    return
                failed = True
                self._told(f"the record cannot be written ({error}); check the disk's room and the folder's rights")
                if self._stopping.wait(_AGAIN):
                    self._give(some, [PadimEdgeError("the record could not be written before the end")] * len(some))
                    return
        with self._lock:
            self._moved = {sink: seq for sink, seq in self._moved.items() if moved.get(sink) != seq}
        if failed:
            self._told("")
        rows = [each.row for each in done if isinstance(each, Written) and each.new]
        if rows:
            self._wrote(rows)
        self._give(some, done)
        self._tidy()

    def _alone(self, some: list[tuple[Entry | Work, Future[Any]]], error: Exception) -> None:
        """Write each by itself, so that what cannot be written stops nothing else."""
        if len(some) == 1:
            self._give(some, [error])
            return
        for each in some:
            self._lasting([each])

    @staticmethod
    def _give(some: list[tuple[Entry | Work, Future[Any]]], results: Sequence[Any]) -> None:
        for (_, future), result in zip(some, results, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _transaction(self, some: list[Entry | Work], moved: dict[str, int]) -> list[Any]:
        """Write all in one transaction, and return what came of each: an error that concerns it alone is a result."""
        connection, last, chain, names = self._connection, self._last, self._chain, dict(self._names)
        kept, done = self._kept, list[Any]()
        connection.execute("BEGIN IMMEDIATE")
        for what in some:
            if isinstance(what, Entry):
                known = self._known(what.row, names)
                if known is not None:
                    done.append(Written(known, new=False))
                    continue
                row = chained(chain, replace(what.row, seq=last + 1))
                for text in (row.source, row.product, row.model):
                    if text not in names:
                        names[text] = connection.execute("INSERT INTO names (text) VALUES (?)", (text,)).lastrowid or 0
                connection.execute(_INSERT, tables.values_of(row, names))
                if row.image is not None:
                    connection.execute("INSERT INTO kept (seq, bytes) VALUES (?, ?)", (row.seq, what.bytes))
                    kept += what.bytes
                last, chain = row.seq, row.chain
                done.append(Written(row, new=True))
            else:
                try:
                    done.append(what(connection))
                except PadimEdgeError as error:
                    done.append(error)
        connection.executemany("INSERT OR REPLACE INTO positions (sink, seq) VALUES (?, ?)", moved.items())
        connection.execute("COMMIT")
        self._last, self._chain, self._names, self._kept = last, chain, names, kept
        return done

    def _known(self, row: Row, names: dict[str, int]) -> Row | None:
        if row.source not in names:
            return None
        query = f"{tables.SELECT} WHERE images.source = ? AND images.key = ?"
        found = self._connection.execute(query, (names[row.source], row.key)).fetchone()
        return None if found is None else tables.row_of(found)

    def _tidy(self) -> None:
        """Remove the oldest images above the budget, and now and then the oldest rows."""
        self._rounds += 1
        try:
            if self._kept > 10**6 * self._config.images_mb:
                gone, self._kept = evict(self._connection, 10**6 * self._config.images_mb)
                for time, key, ending in gone:
                    with suppress(OSError):
                        images.remove(self.folder, time, key, ending)
            if self._rounds % _TIDY_EVERY == 1:
                with self._lock:
                    slowest = min(self._positions.values(), default=self._last)
                forget(self._connection, self._config.rows, slowest)
        except sqlite3.Error:  # there will be another occasion
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")


_INSERT = f"INSERT INTO images ({', '.join(tables.COLUMNS)}) VALUES ({', '.join('?' * len(tables.COLUMNS))})"  # noqa: S608


def _marked(connection: sqlite3.Connection, mark: Mark) -> Mark:
    if connection.execute("SELECT 1 FROM images WHERE seq = ?", (mark.seq,)).fetchone() is None:
        raise PadimEdgeError(f"there is no row {mark.seq}; expected the number of an image on record")
    found = connection.execute("SELECT chain FROM marks ORDER BY id DESC LIMIT 1").fetchone()
    chain = chained_mark(found[0] if found else GENESIS, mark)
    connection.execute(
        "INSERT INTO marks (seq, mark, who, time, chain) VALUES (?, ?, ?, ?, ?)",
        (mark.seq, mark.mark, mark.who, mark.time, chain),
    )
    connection.execute("UPDATE kept SET marked = 1 WHERE seq = ?", (mark.seq,))
    return mark
