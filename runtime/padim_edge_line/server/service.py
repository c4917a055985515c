"""State that all requests share: the line, the rights, the limits, and threads that read the record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

from starlette.requests import Request

from padim_edge_line.config import ServerConfig
from padim_edge_line.server.access import Access
from padim_edge_line.server.limits import Buckets, Memory

if TYPE_CHECKING:
    from padim_edge_line.line import Line
    from padim_edge_line.record import Reader

__all__ = ["Service", "service_of"]

_BURST = 4
"""Requests at once, as a multiple of the rate."""
_FAILURES = 10
"""Wrong tokens that one address may give at once."""
_FAILURE_RATE = 1 / 10
"""Further wrong tokens a second."""
_BODIES = 4
"""Largest posted images that are held at the same time."""
_READERS = 2
"""Threads that read the record. Their readers are closed with it."""

T = TypeVar("T")


class Service:
    """Everything that requests share.

    Args:
        line: The line.
        config: The server's keys in `line.toml`.
    """

    def __init__(self, line: Line, config: ServerConfig) -> None:
        self.line = line
        self.config = config
        self.access = Access(line.token, config)
        self.requests = Buckets(config.rate, _BURST * config.rate)
        self.failures = Buckets(_FAILURE_RATE, _FAILURES)
        self.most_bytes = config.most_mb * 1_000_000
        self.memory = Memory(_BODIES * self.most_bytes)
        self.streams = 0
        self.ending = asyncio.Event()
        self._threads = ThreadPoolExecutor(_READERS, "page")

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Answer a question from the record in a thread, so that the loop does not wait for the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(self.line.record.reader()))

    async def close(self) -> None:
        """End the threads."""
        self.ending.set()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)


def service_of(request: Request) -> Service:
    """Return the service that a request is made to."""
    return cast("Service", request.app.state.service)
