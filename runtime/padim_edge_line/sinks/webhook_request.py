"""The request that tells a webhook's target of a row, and what an answer means."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from padim_edge_line.row import Row

__all__ = [
    "DELIVERY",
    "SIGNATURE",
    "Answer",
    "answer_of",
    "body_of",
    "headers_of",
    "retry_after",
    "signature",
    "target",
]

SIGNATURE = "X-Padim-Edge-Signature"
"""Header with the time and the signature: `t=1733000000,v1=` and 64 hexadecimal digits."""

DELIVERY = "X-Padim-Edge-Delivery"
"""Header with the line and the number of the row. It is the same for every attempt, so that the target can tell a
repetition from a new row."""

_LATER = frozenset((408, 425, 429))
"""Refusals that pass by themselves: the request took too long, came too early, or was one too many."""


@dataclass(frozen=True)
class Answer:
    """Meaning of the target's answer."""

    taken: bool
    """Whether the target took the row."""
    sentence: str = ""
    """Reason why it did not."""
    passing: bool = True
    """Whether the reason may pass without a person."""
    wait_s: float | None = None
    """Seconds that the target wants to be left alone; `None` where it does not say."""


def body_of(row: Row) -> bytes:
    """Write a row as JSON in UTF-8."""
    return json.dumps(row.to_json(), allow_nan=False, separators=(",", ":")).encode()


def signature(secret: str, time: int, body: bytes) -> str:
    """Return the value of the header `SIGNATURE`.

    The signature is HMAC-SHA-256 over the time, a full stop and the body. A target recomputes it, compares in constant
    time, and refuses a time too long ago.

    Args:
        secret: The shared secret.
        time: Seconds since 1970.
        body: Content of the request.
    """
    digest = hmac.new(secret.encode(), b"%d." % time + body, hashlib.sha256).hexdigest()
    return f"t={time},v1={digest}"


def headers_of(line_name: str, row: Row) -> dict[str, str]:
    """Return the headers of a request but for the signature, which differs from attempt to attempt."""
    return {"Content-Type": "application/json", "User-Agent": "padim-edge", DELIVERY: f"{line_name}-{row.seq}"}


def target(url: str) -> str:
    """Return host and port of a URL. The rest may hold secrets, and is never shown."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "an address that is not understood"
    return f"{parts.hostname}:{port}"


def answer_of(status: int, headers: Mapping[str, str], now: datetime) -> Answer:
    """Tell what an answer means.

    Args:
        status: Status of the answer.
        headers: Headers of the answer, whose names are in lower case or compared without case.
        now: The present time, for a `Retry-After` that is a date.
    """
    if 200 <= status < 300:
        return Answer(taken=True)
    if status >= 500 or status in _LATER:
        return Answer(taken=False, sentence=f"it answers {status}", wait_s=retry_after(headers.get("retry-after"), now))
    advice = {
        401: "it does not accept the signature or the URL; correct secret_file or url",
        403: "it does not accept the signature or the URL; correct secret_file or url",
        404: "it does not know the URL; correct url",
        410: "it does not know the URL any more; correct url or take the sink out",
        413: "the row is too large for it; let it accept more",
    }.get(status, "redirects are not followed; correct url" if 300 <= status < 400 else "it refuses the row")
    return Answer(taken=False, sentence=f"it answers {status}: {advice}", passing=False)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a header `Retry-After` asks for; `None` where it is missing or not understood."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - now).total_seconds())
