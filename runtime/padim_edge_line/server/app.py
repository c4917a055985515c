"""The application: its routes, its checks, its beginning and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from padim_edge_line.config import ServerConfig
from padim_edge_line.server import changing, events, kserve, posting, probes, reading, static
from padim_edge_line.server.guard import Guard, missing
from padim_edge_line.server.service import Service

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["application"]


def application(line: Line, config: ServerConfig | None = None) -> Starlette:
    """Make the application of a line.

    Args:
        line: The line.
        config: The server's keys, where they are not those of `line.config`.
    """
    service = Service(line, config or line.config.server or ServerConfig())
    inference = kserve.Inference(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.close()
            await inference.close()

    found = Starlette(
        routes=[
            *static.routes(),
            *probes.routes(),
            *reading.routes(),
            *events.routes(),
            *posting.routes(),
            *changing.routes(),
            *kserve.routes(),
        ],
        middleware=[Middleware(Guard, service=service)],
        exception_handlers={HTTPException: missing},  # type: ignore[dict-item]
        lifespan=lifespan,
    )
    found.router.redirect_slashes = False
    found.state.service, found.state.inference = service, inference
    return found
