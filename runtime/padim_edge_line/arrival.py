"""An image that has arrived on the line and waits for its verdict."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["KEY_BYTES", "Arrival", "now"]

KEY_BYTES = 16
"""Number of bytes in the key of an image."""


def now() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrival:
    """One image with all that is known before it is judged."""

    source: str
    """Name of the source."""
    name: str
    """Name by which a person knows the image: a relative path, the number of a frame, the id of a request."""
    image: Path | bytes | npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    """A file, an encoded image, or pixels of the shape (H, W) or (H, W, 3), RGB."""
    product: str
    """Name of the product, chosen when the image arrived: a later change of recipe does not concern it."""
    part: str | None = None
    """Identity of the part, as a PLC or a request gives it."""
    distrusted: bool = False
    """Whether an encoded image comes from the network, so that it is decoded in a child process."""
    patient: bool = False
    """Whether the image stays where it is, so that `LaterError` is better than a row that says `failed`."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    """`KEY_BYTES` bytes that identify the image within its source. The record takes each key once."""
    time: int = field(default_factory=now)
    """Time of the arrival in microseconds since 1970, UTC."""
