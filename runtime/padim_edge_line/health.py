"""State of each part of the line: model, record, sources, sinks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from padim_edge_line.arrival import now
from padim_edge_line.row import utc

__all__ = ["ESSENTIAL", "FAILING", "STARTING", "WORKING", "Board", "Health"]

STARTING, WORKING, FAILING = "starting", "working", "failing"
"""States of a part."""

ESSENTIAL = ("model", "record")
"""Kinds of parts without which no image can be judged, so that the service is not ready."""


@dataclass(frozen=True)
class Health:
    """State of one part."""

    kind: str
    """`model`, `record`, `source`, `sink`, `store` (of kept images), `drift` or `server`."""
    name: str
    """Name of the part."""
    state: str = STARTING
    """`STARTING`, `WORKING` or `FAILING`."""
    sentence: str = ""
    """Reason and remedy, without secrets and without paths; blank where nothing is wrong."""
    since: int = field(default_factory=now)
    """Time of the last change of the state, in microseconds since 1970."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Numbers to show, such as `dropped` frames or `waiting` messages."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that the page and `/ready` give."""
        return {
            "kind": self.kind,
            "name": self.name,
            "state": self.state,
            "sentence": self.sentence,
            "since": utc(self.since),
            "counts": dict(self.counts),
        }


class Board:
    """States of all parts. Any thread may read and write it.

    Args:
        changed: Called with the state before and the new one, in the thread that noted it.
    """

    def __init__(self, changed: Callable[[Health, Health], object] = lambda _, __: None) -> None:
        self._lock = threading.Lock()
        self._parts: dict[tuple[str, str], Health] = {}
        self._changed = changed

    def set(self, kind: str, name: str, state: str, sentence: str = "") -> None:
        """Note the state of a part. The counts stay."""
        with self._lock:
            before = self._parts.get((kind, name), Health(kind, name, state="", sentence=""))
            if (before.state, before.sentence) == (state, sentence):
                return
            since = before.since if before.state == state else now()
            after = self._parts[kind, name] = replace(before, state=state, sentence=sentence, since=since)
        self._changed(before, after)

    def count(self, kind: str, name: str, **counts: float) -> None:
        """Note numbers of a part, which must have a state."""
        with self._lock:
            before = self._parts.get((kind, name), Health(kind, name))
            self._parts[kind, name] = replace(before, counts={**before.counts, **counts})

    def remove(self, kind: str, name: str) -> None:
        """Forget a part."""
        with self._lock:
            self._parts.pop((kind, name), None)

    def parts(self) -> tuple[Health, ...]:
        """Return the states of all parts, by kind and name."""
        with self._lock:
            return tuple(self._parts[key] for key in sorted(self._parts))

    def ready(self) -> bool:
        """Tell whether images can be judged and recorded."""
        essential = [part for part in self.parts() if part.kind in ESSENTIAL]
        return {part.kind for part in essential} == set(ESSENTIAL) and all(part.state == WORKING for part in essential)
