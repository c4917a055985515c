"""One row of the record: the verdict on one image, which never changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE, UNREADABLE

__all__ = ["FAILED", "GENESIS", "VERDICTS", "Place", "Row", "chained", "utc"]

FAILED = "failed"
"""Verdict on an image that the device could not judge."""

VERDICTS = (GOOD, ANOMALOUS, NOT_COMPARABLE, UNREADABLE, FAILED)
"""All verdicts. A PLC is told to accept the part for the first one only."""

GENESIS = bytes(32)
"""Digest in front of the first row."""


def utc(time: int) -> str:
    """Write a time in microseconds since 1970 as ISO 8601, UTC, to the millisecond."""
    found = datetime.fromtimestamp(time // 1000 / 1000, timezone.utc)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Place:
    """A region of the anomaly map above the threshold, in pixels of the image."""

    x: int
    """Left column."""
    y: int
    """Upper row."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    area: int
    """Area in square pixels."""
    score: float
    """Highest value in the map."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Verdict on one image."""

    seq: int
    """Number of the row: 1 for the first, without gaps."""
    time: int
    """Time of the image's arrival in microseconds since 1970, UTC."""
    source: str
    """Name of the source."""
    name: str
    """Name of the image within its source."""
    part: str | None
    """Identity of the part; `None` where nobody gave one."""
    product: str
    """Name of the product."""
    model: str
    """SHA-256 of the model file in hexadecimal digits."""
    revision: int
    """Revision of the model, 1 or more."""
    verdict: str
    """One of `VERDICTS`."""
    score: float | None = None
    """Maximum of the anomaly map; `None` where the image was not judged, as in the next two."""
    p_value: float | None = None
    """Share of good images expected to score at least as high, in (0, 1]."""
    threshold: float | None = None
    """Score above which an image is anomalous."""
    regions: tuple[Place, ...] = ()
    """Regions above the threshold, the highest first; at most `judging.MOST_REGIONS`."""
    warnings: tuple[str, ...] = ()
    """Reasons why the image is not comparable with the good ones."""
    width: int = 0
    """Width of the image in pixels; 0 where it is unknown."""
    height: int = 0
    """Height of the image in pixels; 0 where it is unknown."""
    model_ms: float = 0.0
    """Milliseconds in the model."""
    latency_ms: float = 0.0
    """Milliseconds from the arrival to the moment before the row was written."""
    image: str | None = None
    """Ending of the file that keeps the image, such as `png`; `None` where it was not kept."""
    error: str | None = None
    """Reason why there is no score, in one sentence."""
    key: bytes = b""
    """Identity of the image within its source."""
    chain: bytes = GENESIS
    """SHA-256 over the row before and this one."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `padim-edge log --json`, the sinks and the page give for this row."""
        found = asdict(self)
        found["time"] = utc(self.time)
        found["key"] = self.key.hex()
        found["chain"] = self.chain.hex()
        found["regions"] = list(found["regions"])
        found["warnings"] = list(self.warnings)
        return found


def chained(before: bytes, row: Row) -> Row:
    """Return the row with its digest: SHA-256 of the digest before and of all other fields in JSON.

    Whoever changes a row later has to change all rows behind it, and with them the last digest, which the sinks have
    told to others.
    """
    content = asdict(replace(row, chain=b""))
    content["key"] = row.key.hex()
    del content["chain"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return replace(row, chain=hashlib.sha256(before + text.encode()).digest())
