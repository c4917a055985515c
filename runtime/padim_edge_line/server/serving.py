"""The server, in the loop of the line."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import ServerConfig
from padim_edge_line.health import WORKING
from padim_edge_line.server.app import application

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["HEAD_S", "bound", "serve"]

HEAD_S = 10.0
"""Seconds within which the head of a request must be there."""
_MOST_CONNECTIONS = 512
_KEEP_ALIVE_S = 30
_END_S = 1
"""Seconds that requests have at the end."""


async def serve(line: Line, config: ServerConfig, ready: Callable[[str], object]) -> None:
    """Serve until cancelled; then let running requests end, at most about a second.

    Args:
        line: The line.
        config: The server's keys in `line.toml`.
        ready: Called with the URL of the page when the server listens.

    Raises:
        PadimEdgeError: The address cannot be listened on.
    """
    listening = bound(config.host, config.port)
    app = application(line, config)
    server = _Server(
        uvicorn.Config(
            app,
            http=_Patient,
            ws="none",
            loop="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_END_S,
        ),
        lambda: _listens(line, ready, _url(config.host, listening.getsockname()[1])),
    )
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        app.state.service.ending.set()
        server.should_exit = True
        await asyncio.wait({running}, timeout=2 * _END_S)
        raise
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        listening.close()


def bound(host: str, port: int) -> socket.socket:
    """Bind an address.

    Raises:
        PadimEdgeError: It cannot be bound.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(place[:2], family=family, backlog=256)
        # asyncio does that only for sockets that were made with the number of TCP. Without it, the body of an answer
        # waits some 40 ms for the client's acknowledgement of the head. Connections inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except socket.gaierror:
        raise PadimEdgeError(f"the server's host is {host!r}; expected an address of this machine") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} is in use; end the other program, or set another port under [server]",
            errno.EACCES: f"port {port} needs rights; set one above 1023 under [server]",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine; set another host under [server]",
        }
        found = reasons.get(error.errno or 0, f"{host}:{port} cannot be listened on ({os.strerror(error.errno or 0)})")
        raise PadimEdgeError(found) from error


def _listens(line: Line, ready: Callable[[str], object], url: str) -> None:
    line.board.set("server", "page", WORKING)
    ready(url)


def _url(host: str, port: int) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - only compared
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


class _Server(uvicorn.Server):
    """Server that leaves the signals alone and tells when it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], object]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(list(sockets or []))
        if self.started:
            self._listens()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Patient(H11Protocol):
    """Protocol that waits for the head of a request, but not for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _look(self) -> None:
        """Start the clock where a head is expected or begun, and stop it where it is complete."""
        idle = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        if not idle:
            self._stop()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self._end)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
