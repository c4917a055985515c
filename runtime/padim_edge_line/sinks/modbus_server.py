"""pymodbus's server, with what a line needs beyond it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler

__all__ = ["MOST_CLIENTS", "Server"]

MOST_CLIENTS = 16
"""Number of connections at a time; more are closed at once."""


class Server(ModbusTcpServer):
    """A Modbus TCP server that answers requests sent without waiting, and limits the number of connections."""

    def callback_new_connection(self) -> _Connection:
        """Make the part that serves one connection."""
        return _Connection(self, self.trace_packet, self.trace_pdu, self.trace_connect)

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        listener: Any = self.transport
        port: int = listener.sockets[0].getsockname()[1]
        return port


class _Connection(ServerRequestHandler):
    """One connection. pymodbus 3.16 takes one request out of a packet, and lets further ones wait for the next."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)  # type: ignore[no-untyped-call]
        self._requests: deque[ModbusPDU] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or close it if there are too many."""
        super().connection_made(transport)
        if len(self.server.active_connections) > MOST_CLIENTS:
            self.close()

    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        """Take all requests that have arrived as a whole, and return their length."""
        used = 0
        while used < len(data):
            step = super().callback_data(data[used:], addr)
            if step == 0:
                break
            used += step
            if self.last_pdu:
                self._requests.append(self.last_pdu)
        return used

    async def handle_request(self) -> None:
        """Answer the oldest request. Nothing waits in between, so the answers keep the order."""
        if self._requests:
            self.last_pdu = self._requests.popleft()
            await super().handle_request()  # type: ignore[no-untyped-call]
