"""Topics and payloads of a line on a broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from padim_edge_artifact import PadimEdgeError

__all__ = ["MOST_PART", "OFFLINE", "ONLINE", "Topics", "part_of", "text_of"]

ONLINE, OFFLINE = b"online", b"offline"
"""Retained payloads of the topic `available`."""

MOST_PART = 200
"""Longest part id in characters."""


@dataclass(frozen=True)
class Topics:
    """Topics of a line."""

    base: str
    """First part of all topics: `<topic>/<line>`."""

    @property
    def available(self) -> str:
        """Topic of `ONLINE` and `OFFLINE`, retained; the broker itself writes `OFFLINE` where the line vanishes."""
        return f"{self.base}/available"

    @property
    def state(self) -> str:
        """Topic of the state, retained: product, readiness, counts, failing parts."""
        return f"{self.base}/state"

    @property
    def row(self) -> str:
        """Topic of each row, not retained: in order, at least once."""
        return f"{self.base}/row"

    @property
    def trigger(self) -> str:
        """Topic that triggers an image. The payload is a part id, a JSON object with `part`, or nothing."""
        return f"{self.base}/trigger"

    @property
    def trigger_result(self) -> str:
        """Topic of the answers to triggers: `seq`, `part` and `verdict`, or `part` and `error`."""
        return f"{self.base}/trigger/result"

    @property
    def product(self) -> str:
        """Topic that changes the product. The payload is its name."""
        return f"{self.base}/product/set"

    @property
    def product_result(self) -> str:
        """Topic of the answers to changes of the product: `product`, or `error`."""
        return f"{self.base}/product/result"

    def last(self, product: str) -> str:
        """Return the topic of the last row of a product, retained."""
        return f"{self.base}/{product}/last"


def text_of(payload: Any) -> str:
    """Return a payload as text without white space at its ends.

    Raises:
        PadimEdgeError: It is no text, or too long.
    """
    if not isinstance(payload, (bytes, bytearray)) or len(payload) > 4 * MOST_PART + 100:
        raise PadimEdgeError(f"the message is too long; send at most {MOST_PART} characters")
    try:
        found = payload.decode().strip()
    except UnicodeDecodeError:
        raise PadimEdgeError("the message is no text in UTF-8; send it as text") from None
    return found


def part_of(payload: Any) -> str | None:
    """Return the part id in the payload of a trigger; `None` where it names none.

    Raises:
        PadimEdgeError: The payload is not understood.
    """
    text = text_of(payload)
    part: object = text or None
    if text.startswith("{"):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise PadimEdgeError('the message is no JSON; send a part id or {"part": "..."}') from None
        if set(content) - {"part"}:
            raise PadimEdgeError('the message has other keys than part; send {"part": "..."}')
        part = content.get("part")
    if isinstance(part, int) and not isinstance(part, bool):
        part = str(part)
    if part is None:
        return None
    if not isinstance(part, str) or not part.isprintable() or len(part) > MOST_PART:
        raise PadimEdgeError(f"the part id is not understood; send at most {MOST_PART} printable characters")
    return part
