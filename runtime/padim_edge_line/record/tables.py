"""Tables of the record, and rows as they are stored in them."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.row import VERDICTS, Place, Row

__all__ = ["COLUMNS", "FILE", "SELECT", "SET", "VERSION", "connected", "prepared", "row_of", "values_of"]

FILE = "record.sqlite"
"""Name of the database in the line's folder."""

VERSION = 1
"""Version of the tables, in the database's `user_version`."""

_SCHEMA = """
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE images (
    seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, source INTEGER NOT NULL, name TEXT NOT NULL, part TEXT,
    product INTEGER NOT NULL, model INTEGER NOT NULL, revision INTEGER NOT NULL, verdict INTEGER NOT NULL,
    score REAL, p_value REAL, threshold REAL, regions TEXT, warnings TEXT, width INTEGER NOT NULL,
    height INTEGER NOT NULL, model_ms REAL NOT NULL, latency_ms REAL NOT NULL, image TEXT, error TEXT,
    key BLOB NOT NULL, chain BLOB NOT NULL);
CREATE UNIQUE INDEX once ON images (source, key);
CREATE INDEX parts ON images (part) WHERE part IS NOT NULL;
CREATE INDEX alarms ON images (verdict, seq) WHERE verdict != 0;
CREATE TABLE kept (seq INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, marked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE marks (
    id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, mark TEXT NOT NULL, who TEXT NOT NULL, time INTEGER NOT NULL,
    chain BLOB NOT NULL);
CREATE INDEX marked ON marks (seq);
CREATE TABLE positions (sink TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""

COLUMNS = (
    "seq",
    "time",
    "source",
    "name",
    "part",
    "product",
    "model",
    "revision",
    "verdict",
    "score",
    "p_value",
    "threshold",
    "regions",
    "warnings",
    "width",
    "height",
    "model_ms",
    "latency_ms",
    "image",
    "error",
    "key",
    "chain",
)
"""Columns of the table `images`."""

SET = "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)"
"""Statement that keeps a setting."""

_NAMED = {"source": "s", "product": "p", "model": "m"}

SELECT = (  # its parts are our own words
    "SELECT " + ", ".join(f"{_NAMED[c]}.text" if c in _NAMED else f"images.{c}" for c in COLUMNS) + " FROM images "  # noqa: S608
    "JOIN names s ON s.id = images.source JOIN names p ON p.id = images.product JOIN names m ON m.id = images.model"
)
"""Start of every query for rows, before WHERE."""


def connected(path: Path, *, write: bool) -> sqlite3.Connection:
    """Connect to the database.

    Args:
        path: The file.
        write: Whether the connection may write. The file is made where it does not exist.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    name = f"file:{quote(os.fspath(path.absolute()))}?mode={'rwc' if write else 'ro'}"
    connection = sqlite3.connect(name, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        if write:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a row is told to others only when it is on the disk
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def prepared(connection: sqlite3.Connection) -> None:
    """Make the tables where they do not exist.

    Raises:
        PadimEdgeError: The database is of another version.
        sqlite3.Error: They cannot be made.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version != 0 or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise PadimEdgeError(
            f"the record {FILE} is of version {version}, this padim-edge writes version {VERSION}; use the "
            "padim-edge that made it, or another folder"
        )
    connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")


def values_of(row: Row, number_of: dict[str, int]) -> tuple[Any, ...]:
    """Return the values of a row in the order of `COLUMNS`.

    Args:
        row: The row.
        number_of: Numbers of its texts in the table `names`.
    """
    places = [[p.x, p.y, p.width, p.height, p.area, p.score] for p in row.regions]
    return (
        row.seq,
        row.time,
        number_of[row.source],
        row.name,
        row.part,
        number_of[row.product],
        number_of[row.model],
        row.revision,
        VERDICTS.index(row.verdict),
        row.score,
        row.p_value,
        row.threshold,
        json.dumps(places, separators=(",", ":")) if places else None,
        " ".join(row.warnings) or None,
        row.width,
        row.height,
        row.model_ms,
        row.latency_ms,
        row.image,
        row.error,
        row.key,
        row.chain,
    )


def row_of(values: tuple[Any, ...]) -> Row:
    """Return the row that stands in a result of `SELECT`.

    Raises:
        ValueError: Somebody has changed it to something that is no row.
    """
    found = dict(zip(COLUMNS, values, strict=True))
    try:
        found["verdict"] = VERDICTS[found["verdict"]]
        found["regions"] = tuple(Place(*each) for each in json.loads(found["regions"] or "[]"))
        found["warnings"] = tuple((found["warnings"] or "").split())
        return Row(**found)
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"row {found['seq']} is no row") from error
