"""Answers of the HTTP interface: JSON, and refusals in one sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from padim_edge_artifact import PadimEdgeError

__all__ = ["RefusedError", "answer", "refused", "sentence"]

_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:;,'\"()]+[\\/])+[^\s\\/:;,'\"()]*")
"""A path of two folders or more from the root."""


class RefusedError(PadimEdgeError):
    """A request that is refused.

    Args:
        status: HTTP status.
        text: Reason in one sentence.
        wait: Seconds after which to try again.
        close: Whether the connection ends, since the rest of the body is not read.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        wait: float | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})
        if wait is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(wait)))
        if close:
            self.headers["connection"] = "close"


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a JSON answer."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Response(text, status, headers, media_type="application/json")


def refused(error: RefusedError) -> Response:
    """Make the answer to a request that is refused."""
    return answer({"error": str(error)}, error.status, error.headers)


def sentence(error: Exception) -> str:
    """Return the sentence of an error without paths, which concern nobody at the other end."""
    return _PATH.sub("a file of the line", str(error))
