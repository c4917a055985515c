"""Messages to a broker: each row once at least and in order, the state retained, and triggers from others."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import aiomqtt

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import MqttConfig
from padim_edge_line.health import FAILING, STARTING, WORKING
from padim_edge_line.sinks.mqtt_connection import WINDOW, connection, identifier
from padim_edge_line.sinks.mqtt_home import BIRTH, announcements
from padim_edge_line.sinks.mqtt_orders import Orders
from padim_edge_line.sinks.mqtt_state import states
from padim_edge_line.sinks.mqtt_topics import OFFLINE, ONLINE, Topics
from padim_edge_line.sinks.retrying import Pauses, count_waiting, ended, pause, together

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["MqttSink", "check"]

_LEAVE_S = 0.5
"""Seconds for the last message of a service that stops."""

Sent = set["asyncio.Future[None]"]
"""Messages that the broker has not acknowledged."""

Flying = asyncio.Queue[tuple[int, tuple["asyncio.Future[None]", ...]]]
"""Rows on their way: number and messages of each."""


class MqttSink:
    """Client of the broker.

    Args:
        config: The sink.
        line_name: Name of the line.
        pauses: Pauses between attempts to connect.
    """

    def __init__(self, config: MqttConfig, line_name: str, pauses: Pauses | None = None) -> None:
        self._config = config
        self._line_name = line_name
        self._topics = Topics(f"{config.topic}/{line_name}")
        self._pauses = pauses or Pauses()

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Tell of rows until it is cancelled, and connect again whenever the connection is lost."""
        line.board.set("sink", self.name, STARTING)
        line.record.position(self.name)  # a new sink's position begins now, and not when the broker is there
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                await self._connected(line)
            except PadimEdgeError as error:
                line.board.set("sink", self.name, FAILING, f"{error}; rows wait")
            failures = 1 if loop.time() - began > self._pauses.most_s else failures + 1
            await pause(line, self.name, self._pauses.after(failures))

    async def _connected(self, line: Line) -> None:
        """Connect once, and tell of rows until the connection is lost."""
        topics = self._topics
        will = aiomqtt.Will(topics.available, OFFLINE, qos=1, retain=True)
        async with connection(self._config, identifier(topics.base, self.name), will) as client:
            orders = Orders(client, line, topics, self._config.triggers)
            try:
                await together(self._greet(client, line, orders))
                await together(
                    self._listen(client, line, orders),
                    orders.run(),
                    states(client, line, topics),
                    self._tell(client, line),
                )
            except asyncio.CancelledError:
                last = asyncio.ensure_future(client.publish(topics.available, OFFLINE, qos=1, retain=True))
                await asyncio.wait([last], timeout=_LEAVE_S)
                await ended([last])
                raise

    async def _greet(self, client: aiomqtt.Client, line: Line, orders: Orders) -> None:
        """Begin a connection."""
        sentence = await orders.subscribe()
        if self._config.home_assistant:
            await client.subscribe(BIRTH, qos=1)
        await self._announce(client, line)
        line.board.set("sink", self.name, WORKING, sentence)

    async def _announce(self, client: aiomqtt.Client, line: Line) -> None:
        """Say that the line is there, and what it consists of."""
        if self._config.home_assistant:
            ours = version("padim-edge-runtime")
            for topic, payload in announcements(self._topics, self._line_name, line.products.names, ours):
                await client.publish(topic, payload, qos=1, retain=True)
        await client.publish(self._topics.available, ONLINE, qos=1, retain=True)

    async def _listen(self, client: aiomqtt.Client, line: Line, orders: Orders) -> None:
        """Take messages until the connection is lost, which raises."""
        async for message in client.messages:
            if message.topic.value == BIRTH:
                if message.payload == ONLINE:
                    await self._announce(client, line)
            elif not message.retain:  # a retained order was meant for another moment
                orders.take(message.topic.value, message.payload)

    async def _tell(self, client: aiomqtt.Client, line: Line) -> None:
        """Send rows, some at a time without waiting, and acknowledge each when all before it have arrived."""
        flying: Flying = asyncio.Queue(maxsize=WINDOW // 2)
        sent: Sent = set()
        try:
            await together(self._send(client, line, flying, sent), self._confirm(line, flying, sent))
        finally:
            await ended(sent)

    async def _send(self, client: aiomqtt.Client, line: Line, flying: Flying, sent: Sent) -> None:
        """Hand rows to the broker in order."""
        async for row in line.rows_after(line.record.position(self.name)):
            content = json.dumps(row.to_json(), allow_nan=False).encode()
            # Tasks start in the order in which they were made, and each writes its message before it waits.
            both = (
                asyncio.ensure_future(client.publish(self._topics.row, content, qos=1)),
                asyncio.ensure_future(client.publish(self._topics.last(row.product), content, qos=1, retain=True)),
            )
            sent.update(both)
            await flying.put((row.seq, both))

    async def _confirm(self, line: Line, flying: Flying, sent: Sent) -> None:
        """Note how far the broker has acknowledged without a gap."""
        while True:
            seq, both = await flying.get()
            await asyncio.gather(*both)
            sent.difference_update(both)
            line.record.acknowledge(self.name, seq)
            if flying.empty():
                count_waiting(line, self.name)


async def check(config: MqttConfig) -> str:
    """Connect to the broker and leave again, without a message.

    Raises:
        PadimEdgeError: The broker cannot be reached or refuses the client.
    """
    async with connection(config, identifier(config.topic, config.name, "check")):
        return f"{config.name}: the broker at {config.host}:{config.port} takes the connection"
