"""Durable record of all verdicts: SQLite in WAL mode, a hash chain over its rows, and the kept images."""

from __future__ import annotations

from padim_edge_line.record.reading import Filters, Mark, Reader
from padim_edge_line.record.store import MARKS, Record

__all__ = ["MARKS", "Filters", "Mark", "Reader", "Record"]
