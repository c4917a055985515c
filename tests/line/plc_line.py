"""A line for the tests of the PLC's servers: each trigger takes as long, and ends as badly, as its part id says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import LineConfig, ModbusConfig, OpcUaConfig, ProductConfig
from padim_edge_line.errors import BusyError, LaterError, StoppingError
from padim_edge_line.health import WORKING, Board
from padim_edge_line.row import Row
from padim_edge_line.sinks import sink_of

__all__ = ["FakeLine", "eventually", "row", "serving", "verdict_of"]


def verdict_of(part: str | None) -> str:
    """`good-1` is good, and so on; everything else is anomalous."""
    word = (part or "").split("-")[0]
    return {"good": "good", "dark": "not comparable", "torn": "unreadable", "broken": "failed"}.get(word, "anomalous")


def row(part: str | None, *, seq: int = 1, verdict: str | None = None, product: str = "bottle") -> Row:
    return Row(
        seq=seq,
        time=seq,
        source="camera",
        name=str(seq),
        part=part,
        product=product,
        model="0" * 64,
        revision=1,
        verdict=verdict or verdict_of(part),
        score=1.5,
        threshold=2.25,
    )


class FakeProducts:
    names = ("bottle", "nut")

    def __init__(self) -> None:
        self.active = "bottle"


class FakeLine:
    def __init__(self, folder: Path, delay: float = 0.0) -> None:
        self.config = LineConfig(folder=folder, products=(ProductConfig(name="bottle", model=folder / "none.onnx"),))
        self.board = Board()
        self.board.set("model", "bottle", WORKING)
        self.board.set("record", "record", WORKING)
        self.board.set("source", "camera", WORKING)
        self.products: Any = FakeProducts()
        self.delay = delay
        self.rows: list[Row] = []
        self.gates: dict[str, asyncio.Event] = {}
        """Part ids that wait until somebody sets their event."""
        self.choosing = asyncio.Event()
        self.choosing.set()
        self.running = 0

    async def trigger(self, source: str, part: str | None) -> Row:
        assert source == "camera"
        self.running += 1
        try:
            if part in self.gates:
                await self.gates[part].wait()
            await asyncio.sleep(self.delay)
            if part is not None and part.startswith("lost"):
                raise PadimEdgeError("there is no camera")
            errors = {"crash": ZeroDivisionError, "busy": BusyError, "end": StoppingError, "later": LaterError}
            word = (part or "").split("-")[0]
            if word in errors:
                raise errors[word]
            found = row(part, seq=len(self.rows) + 1, product=self.products.active)
            self.rows.append(found)
            return found
        finally:
            self.running -= 1

    async def choose(self, product: str) -> None:
        await self.choosing.wait()
        self.products.active = product

    def sink(self, name: str) -> SimpleNamespace:
        """State and counts of a sink on the board."""
        found = [part for part in self.board.parts() if (part.kind, part.name) == ("sink", name)]
        return SimpleNamespace(state=found[0].state, sentence=found[0].sentence, counts=dict(found[0].counts))


async def eventually(holds: Callable[[], Awaitable[bool] | bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        assert asyncio.get_running_loop().time() < end, "the condition does not come true"
        await asyncio.sleep(0.005)


async def serving(line: Any, config: ModbusConfig | OpcUaConfig, use: Callable[[int], Awaitable[None]]) -> None:
    """Run a sink, use its port, and stop it."""
    sink: Any = sink_of(config, "line")
    task = asyncio.create_task(sink.run(line))
    try:
        await eventually(lambda: sink.port != 0 or task.done(), 60)
        if task.done():
            task.result()
        await use(sink.port)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
