"""Server-sent events: what happens on the line, as it happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from padim_edge_line.arrival import now
from padim_edge_line.row import utc
from padim_edge_line.server.access import READ
from padim_edge_line.server.answers import RefusedError
from padim_edge_line.server.asking import queries, way
from padim_edge_line.server.service import Service, service_of

if TYPE_CHECKING:
    from padim_edge_line.news import Event
    from padim_edge_line.record import Reader

__all__ = ["BEAT_S", "MOST_STREAMS", "routes"]

BEAT_S = 2.0
"""Seconds after which a sign of life is sent where nothing else is. The page counts the connection as lost without."""
MOST_STREAMS = 64
"""Number of pages that may listen at the same time."""
_MOST_MISSED = 1000
"""Most rows that are told again to a page that comes back."""
_RETRY_MS = 1000


def routes() -> list[Route]:
    """Return the routes."""
    return [way("/api/events", events, need=READ)]


async def events(request: Request) -> Response:
    """Answer with events until the other end goes, or the service ends."""
    queries(request)
    service = service_of(request)
    last = request.headers.get("last-event-id")
    if last is not None and not re.fullmatch(r"[0-9]{1,15}", last):
        raise RefusedError(400, "the Last-Event-ID is not the number of a row")
    if service.streams >= MOST_STREAMS:
        raise RefusedError(503, f"{MOST_STREAMS} pages listen already; close some", wait=10)
    headers = {"x-accel-buffering": "no", "content-type": "text/event-stream; charset=utf-8"}
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_stream(service, None if last is None else int(last)), headers=headers)


async def _stream(service: Service, last: int | None) -> AsyncGenerator[bytes, None]:
    service.streams += 1
    listening = service.line.listen()
    # Listening begins before the rows are read, so that none falls between.
    coming = asyncio.ensure_future(_next(listening))
    ending = asyncio.ensure_future(service.ending.wait())
    try:
        await asyncio.sleep(0)
        yield f"retry: {_RETRY_MS}\n\n".encode() + _beat()
        for row in [] if last is None else await service.ask(partial(_missed, last)):
            last = int(row["seq"])
            yield _message("row", row, last)
        while True:
            done, _ = await asyncio.wait({coming, ending}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if ending in done:
                return
            if coming not in done:
                yield _beat()
                continue
            event = coming.result()
            if event is None:
                return
            coming = asyncio.ensure_future(_next(listening))
            seq = int(event.data["seq"]) if event.kind == "row" else None
            if seq is None or seq > (last or 0):
                yield _message(event.kind, event.data, seq)
    finally:
        service.streams -= 1
        coming.cancel()
        ending.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(coming, ending, return_exceptions=True)
            if isinstance(listening, AsyncGenerator):
                await listening.aclose()


async def _next(listening: AsyncIterator[Event]) -> Event | None:
    return await anext(listening, None)


def _missed(last: int, reader: Reader) -> list[dict[str, Any]]:
    first = max(last, reader.last() - _MOST_MISSED)
    return [row.to_json() for row in reader.rows(after=first)]


def _message(kind: str, data: dict[str, Any], seq: int | None) -> bytes:
    number = "" if seq is None else f"id: {seq}\n"
    return f"{number}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _beat() -> bytes:
    return _message("beat", {"time": utc(now())}, None)
