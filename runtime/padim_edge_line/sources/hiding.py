"""Sentences about cameras without what nobody else may know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["hidden"]

_SECRET = re.compile(r"pass|secret|token|key|user|login|auth|pin", re.IGNORECASE)
"""Names of options whose values are secret."""
_LONGEST = 200
"""Longest sentence in characters."""


def hidden(text: str, url: str, options: Mapping[str, Any]) -> str:
    """Return a text without the camera's address, passwords and paths, in one line."""
    found = text.replace(url, "the camera") if url else text
    found = re.sub(r"[\w+.-]+://\S+", "the camera", found)
    for secret in sorted(_secrets(url, options), key=len, reverse=True):
        found = found.replace(secret, "...")
    found = re.sub(r"(?<![\w/])/[^\s'\",;:]+", "...", found)
    found = re.sub(r"\b[A-Za-z]:\\[^\s'\",;]+", "...", found)
    return " ".join(found.split())[:_LONGEST]


def _secrets(url: str, options: Mapping[str, Any]) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        for each in (parts.netloc.rpartition("@")[0], parts.username, parts.password, parts.query):
            if each:
                yield from {each, unquote(each)}
    except ValueError:  # no address
        pass
    for name, value in options.items():
        if isinstance(value, str) and value and _SECRET.search(name):
            yield value
