"""A line for tests of sinks: the real record and board, and rows that no model has judged."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import RecordConfig
from padim_edge_line.health import WORKING, Board, Health
from padim_edge_line.record import Record
from padim_edge_line.record.store import Entry
from padim_edge_line.row import Row

if TYPE_CHECKING:
    from typing import Self

__all__ = ["SECONDS", "SinkLine", "drive", "running", "soon", "told"]

SECONDS = 30.0
"""Generous limit for anything to happen."""


class SinkLine:
    """The part of a line that sinks see."""

    def __init__(self, folder: Path) -> None:
        self.board = Board()
        for kind in ("model", "record"):
            self.board.set(kind, kind, WORKING)
        self.record = Record(folder, RecordConfig(), wrote=self._wrote)
        self.products = SimpleNamespace(active="bottle", names=("bottle", "can.1"))
        self.triggered: list[str | None] = []
        self._grown = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def rows_after(self, seq: int) -> AsyncIterator[Row]:
        while True:
            grown = self._grown
            found = list(self.record.reader().rows(after=seq, limit=200))
            for row in found:
                yield row
                seq = row.seq
            if not found:
                await grown.wait()

    async def trigger(self, source: str, part: str | None) -> Row:
        assert source == "camera"
        if part == "nothing":
            raise PadimEdgeError("there is no image")
        self.triggered.append(part)
        return (await self.add(1, part=part))[0]

    async def choose(self, product: str) -> None:
        if product not in self.products.names:
            raise PadimEdgeError(f"there is no product {product}")
        self.products.active = product

    async def add(self, number: int, verdict: str = "good", part: str | None = None) -> list[Row]:
        """Put rows on record."""
        futures = [self.record.add(Entry(self._row(verdict, part))) for _ in range(number)]
        return [(await asyncio.wrap_future(each)).row for each in futures]

    def health(self, name: str) -> Health:
        """State of a sink."""
        found = (part for part in self.board.parts() if (part.kind, part.name) == ("sink", name))
        return next(found, Health("sink", name))

    def _row(self, verdict: str, part: str | None) -> Row:
        return Row(
            seq=0,
            time=time.time_ns() // 1000,
            source="camera",
            name="frame",
            part=part,
            product=self.products.active,
            model="0" * 64,
            revision=1,
            verdict=verdict,
            score=0.25,
            p_value=0.5,
            threshold=0.5,
            key=secrets.token_bytes(16),
        )

    def _wrote(self, _: object) -> None:
        self._loop.call_soon_threadsafe(self._grow)

    def _grow(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


def told(row: Row) -> Any:
    """The object that arrives at the other end of a sink."""
    return json.loads(json.dumps(row.to_json()))


async def soon(condition: Callable[[], object], what: str = "the condition", seconds: float = SECONDS) -> None:
    """Wait for a condition without holding up the sinks."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.01)


def drive(folder: Path, test: Callable[[SinkLine], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a line, and see to it that no thread of a sink is left."""

    async def whole() -> None:
        line = SinkLine(folder)
        try:
            await test(line)
        finally:
            await asyncio.to_thread(line.record.close)

    before = set(threading.enumerate())
    asyncio.run(whole())
    left = {thread for thread in set(threading.enumerate()) - before if "stdout" in thread.name}
    for thread in left:
        thread.join(SECONDS)
        assert not thread.is_alive()


class running:  # noqa: N801 - it reads as a word of the language
    """Sinks that run for the length of a block, and are then cancelled, as at the end of the service."""

    def __init__(self, line: SinkLine, *sinks: Any) -> None:
        self._line, self._sinks = line, sinks
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.ensure_future(sink.run(self._line)) for sink in self._sinks]
        await asyncio.sleep(0)  # a new sink's position begins here
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        done = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done), done
