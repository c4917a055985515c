"""Orders that reach the line through the broker: take an image, make another product."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.sinks.mqtt_topics import Topics, part_of, text_of
from padim_edge_line.sinks.retrying import ended

if TYPE_CHECKING:
    import aiomqtt

    from padim_edge_line.line import Line

__all__ = ["Orders"]

_MOST = 16
"""Number of orders that may be under way; further ones are refused."""

_MOST_WAITING = 100
"""Number of orders that may wait to be looked at."""

_REFUSED = 128
"""Lowest code of a subscription that the broker refuses."""

_EXACTLY_ONCE = 2
"""QoS of the subscriptions: an order that comes twice would take two images of one part."""


class Orders:
    """Orders of one connection. There are none unless the sink names the source that they trigger.

    Args:
        client: The connection.
        line: The line.
        topics: Topics of the line.
        source: Source that is triggered; `None` where nobody may give orders.
    """

    def __init__(self, client: aiomqtt.Client, line: Line, topics: Topics, source: str | None) -> None:
        self._client = client
        self._line = line
        self._topics = topics
        self._source = source
        self._waiting: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(_MOST_WAITING)
        self._running: set[asyncio.Task[None]] = set()

    async def subscribe(self) -> str:
        """Ask the broker for orders, and return what is wrong with that; nothing where nothing is."""
        if self._source is None:
            return ""
        granted = await self._client.subscribe(
            [(self._topics.trigger, _EXACTLY_ONCE), (self._topics.product, _EXACTLY_ONCE)]
        )
        if any(_code(each) >= _REFUSED for each in granted):
            return "the broker lets nobody trigger; give the user the right to read the topics trigger and product/set"
        return ""

    def take(self, topic: str, payload: Any) -> None:
        """Take an order, which is carried out by `run`. One of a flood is dropped."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait((topic, payload))

    async def run(self) -> None:
        """Carry out orders as they come, and answer each, until it is cancelled."""
        try:
            while True:
                topic, payload = await self._waiting.get()
                if topic == self._topics.product:
                    await self._choose(payload)  # before the next trigger, which is meant for the new product
                elif topic == self._topics.trigger and len(self._running) >= _MOST:
                    error = f"{_MOST} triggers are under way already; wait for their results"
                    await self._answer(self._topics.trigger_result, {"part": None, "error": error})
                elif topic == self._topics.trigger:
                    task = asyncio.ensure_future(self._trigger(payload))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        finally:
            await ended(list(self._running))

    async def _trigger(self, payload: Any) -> None:
        """Take one image and answer with its verdict."""
        part: str | None = None
        try:
            part = part_of(payload)
            row = await self._line.trigger(self._source or "", part)
        except PadimEdgeError as error:
            await self._answer(self._topics.trigger_result, {"part": part, "error": str(error)})
        else:
            found = {"part": part, "seq": row.seq, "product": row.product, "verdict": row.verdict, "score": row.score}
            await self._answer(self._topics.trigger_result, found)

    async def _choose(self, payload: Any) -> None:
        """Make another product."""
        try:
            product = text_of(payload)
            await self._line.choose(product)
        except PadimEdgeError as error:
            await self._answer(self._topics.product_result, {"error": str(error)})
        else:
            await self._answer(self._topics.product_result, {"product": product})

    async def _answer(self, topic: str, content: dict[str, Any]) -> None:
        await self._client.publish(topic, json.dumps(content).encode(), qos=1)


def _code(granted: Any) -> int:
    """Return the number in the answer to a subscription, which differs between versions of the protocol."""
    return int(getattr(granted, "value", granted))
