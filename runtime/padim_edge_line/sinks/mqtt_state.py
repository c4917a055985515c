"""State of the line as a retained message, for those who come later."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from padim_edge_line.health import FAILING
from padim_edge_line.sinks.mqtt_topics import Topics

if TYPE_CHECKING:
    import aiomqtt

    from padim_edge_line.line import Line

__all__ = ["states"]

_EVERY_S = 1.0
"""Seconds between two looks."""

_SHARE = 0.05
"""Largest share of the time that counting rows may take: large records are counted more rarely."""


async def states(client: aiomqtt.Client, line: Line, topics: Topics) -> None:
    """Send the state at once and whenever it has changed, once a second at most."""
    loop = asyncio.get_running_loop()
    before: dict[str, Any] | None = None
    counts: dict[str, dict[str, int]] = {}
    counted, again = -1, loop.time()
    while True:
        last = line.record.reader().last()
        if last != counted and loop.time() >= again:
            began = loop.time()
            # In a thread, which has a reader of its own: millions of rows take a while.
            counts = await asyncio.to_thread(lambda: line.record.reader().counts())
            counted, again = last, loop.time() + (loop.time() - began) / _SHARE
        state = _state(line, counts)
        if state != before:
            await client.publish(topics.state, json.dumps(state).encode(), qos=1, retain=True)
            before = state
        await asyncio.sleep(_EVERY_S)


def _state(line: Line, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return the content of the message."""
    failing = [
        {"kind": part.kind, "name": part.name, "sentence": part.sentence}
        for part in line.board.parts()
        if part.state == FAILING
    ]
    return {
        "product": line.products.active,
        "products": list(line.products.names),
        "ready": line.board.ready(),
        "counts": counts,
        "failing": failing,
    }
