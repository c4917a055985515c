"""All that the page shows, as one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.arrival import now
from padim_edge_line.config import CameraConfig
from padim_edge_line.record import Filters, Reader
from padim_edge_line.row import VERDICTS, Row, utc
from padim_edge_runtime.inspection import GOOD

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["ALARMS", "percentiles", "row_json", "state"]

ALARMS = tuple(verdict for verdict in VERDICTS if verdict != GOOD)
"""Verdicts that somebody should look at."""

_TREND = 200
"""Number of scores in the trend of a product."""
_LOOKED_THROUGH = 20_000
"""Number of rows that are looked through for them, so that a product that is seldom made costs no more."""
_ALARMS = 24
_MINUTE = 60_000_000


def state(line: Line, reader: Reader) -> dict[str, Any]:
    """Return all that the page shows.

    Args:
        line: The line.
        reader: Reader of this thread.
    """
    start = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    today, minute = reader.counts(int(start.timestamp() * 1e6)), reader.counts(now() - _MINUTE)
    last = reader.last()
    products = []
    for name in line.products.names:
        some = list(
            reader.rows(
                after=max(0, last - _LOOKED_THROUGH), limit=_TREND, newest_first=True, filters=Filters(product=name)
            )
        )
        products.append(
            {
                "name": name,
                **_model(line, name),
                "last": row_json(reader, some[0]) if some else None,
                "today": today.get(name, {}),
                "minute": sum(minute.get(name, {}).values()),
                "trend": [[row.seq, row.time // 1000, row.score, row.threshold, row.verdict] for row in some[::-1]],
            }
        )
    alarms = reader.rows(limit=_ALARMS, newest_first=True, filters=Filters(verdicts=ALARMS))
    return {
        "name": line.config.name,
        "time": utc(now()),
        "since": utc(int(start.timestamp() * 1e6)),
        "ready": line.board.ready(),
        "active": line.products.active,
        "products": products,
        "alarms": [row_json(reader, row) for row in alarms],
        "parts": [part.to_json() for part in line.board.parts()],
        "triggers": [
            source.name
            for source in line.config.sources
            if isinstance(source, CameraConfig) and source.trigger == "software"
        ],
        "latency": percentiles(line.latencies()),
        "last": last,
    }


def _model(line: Line, name: str) -> dict[str, Any]:
    """Return what is known of the loaded model of a product."""
    try:
        product = line.products.get(name)
    except PadimEdgeError:
        return {"loaded": False, "model": None, "revision": None}
    return {"loaded": True, "model": product.digest[:12], "revision": product.revision}


def row_json(reader: Reader, row: Row) -> dict[str, Any]:
    """Return a row for the page: with the word of a person, and whether the image is still kept."""
    mark = reader.mark_of(row.seq)
    found = row.to_json()
    found["mark"] = None if mark is None else {"mark": mark.mark, "who": mark.who, "time": utc(mark.time)}
    if row.image is not None and reader.image(row.seq) is None:
        found["image"] = None
    return found


def percentiles(latencies: Sequence[float]) -> dict[str, Any]:
    """Return three percentiles in ms, each one of the values, and how many values there were."""
    some = sorted(latencies)
    found = {f"p{p}": some[math.ceil(p / 100 * len(some)) - 1] if some else None for p in (50, 95, 99)}
    return {**found, "images": len(some)}
