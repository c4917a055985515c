"""News for listeners inside the process: new rows, states, marks, a change of product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "News"]

_MOST = 256
"""Number of events that a slow listener may be behind; then it loses the oldest."""


@dataclass(frozen=True)
class Event:
    """One piece of news."""

    kind: str
    """`row`, `health`, `product`, `mark` or `drift`."""
    data: dict[str, Any]
    """Content, ready for JSON."""


class News:
    """Events for any number of listeners. Everything happens in the thread of the event loop."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, event: Event) -> None:
        """Tell all listeners."""
        for each in self._queues:
            if each.full():
                each.get_nowait()
            each.put_nowait(event)

    async def listen(self) -> AsyncIterator[Event]:
        """Yield events from now on, without an end."""
        mine: asyncio.Queue[Event] = asyncio.Queue(_MOST)
        self._queues.add(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self._queues.discard(mine)
