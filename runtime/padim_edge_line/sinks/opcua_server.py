"""The server of the OPC UA sink. It needs asyncua, whose import takes a second: `opcua` has no need of it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.server.server import Server

from padim_edge_line.config import OpcUaConfig
from padim_edge_line.plc_address import try_port
from padim_edge_line.plc_exchange import Exchange
from padim_edge_line.plc_registers import Status
from padim_edge_line.sinks.opcua_access import Users, secure
from padim_edge_line.sinks.opcua_nodes import Nodes, make_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from padim_edge_line.line import Line

__all__ = ["serve"]

_BUFFER = 65535
_MOST_BYTES = 1024 * 1024
"""Size of the largest message: a PLC sends some hundred bytes, and browsing returns some more."""
_MOST_CLIENTS = 16

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each request, and what clients do wrong


async def serve(line: Line, config: OpcUaConfig, password: str, tell: Callable[[int], None]) -> None:
    """Serve until it is cancelled.

    Args:
        line: The line.
        config: The sink.
        password: Password of the user.
        tell: Called with the port as soon as the server listens.

    Raises:
        PadimEdgeError: The server cannot listen, or has no certificate.
    """
    server = await _server(line, config, password)
    nodes = await make_nodes(server)
    changed = asyncio.Event()
    exchange = Exchange(line, config, changed.set)
    nodes.serve(exchange.status, _Inputs(exchange).write)
    if config.port:
        try_port(config.name, config.host, config.port)
    await server.start()
    telling = asyncio.create_task(_tell(nodes, exchange, changed))
    try:
        assert server.bserver is not None
        tell(server.bserver.port)
        await exchange.run()
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await server.stop()


async def _server(line: Line, config: OpcUaConfig, password: str) -> Server:
    server = Server(user_manager=Users(config.username, password))
    server.disable_clock()  # the library's takes a second to stop; `_tell` sets the time
    server.iserver.max_connections = _MOST_CLIENTS
    server.limits = TransportLimits(
        max_recv_buffer=_BUFFER,
        max_send_buffer=_BUFFER,
        max_chunk_count=math.ceil(_MOST_BYTES / _BUFFER),
        max_message_size=_MOST_BYTES,
    )
    await server.init()
    await server.set_application_uri(f"urn:padim-edge:{line.config.name}")
    server.set_server_name("padim-edge")
    host = f"[{config.host}]" if ":" in config.host else config.host
    server.set_endpoint(f"opc.tcp://{host}:{config.port}/padim-edge")
    await secure(server, config, line.config.folder)
    return server


class _Inputs:
    """The inputs as the PLC wrote them last. A trigger takes the part id that stands there at this moment."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._part = b""

    def write(self, name: str, value: Any) -> None:
        """Take one input."""
        if name == "PartId":
            self._part = value.encode("utf-8", "surrogatepass")
        elif name == "Trigger":
            self._exchange.request(value, self._part)
        elif not self._exchange.choose(value):
            raise ua.uaerrors.BadOutOfRange


async def _tell(nodes: Nodes, exchange: Exchange, changed: asyncio.Event) -> None:
    """Tell subscribers of each change, and of the time once a second."""
    before, told = Status(), 0.0
    while True:
        await changed.wait()
        changed.clear()
        after = exchange.status()
        await nodes.tell(before, after)
        before = after
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            await nodes.tell_time()
