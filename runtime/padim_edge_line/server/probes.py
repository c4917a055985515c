"""Answers for machines that look after the service: liveness, readiness, metrics, and the interface's description."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_line.health import FAILING
from padim_edge_line.server.access import OPEN, READ
from padim_edge_line.server.answers import answer
from padim_edge_line.server.asking import way
from padim_edge_line.server.openapi import description
from padim_edge_line.server.service import service_of

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the routes."""
    return [
        way("/live", live, need=OPEN),
        way("/ready", ready, need=OPEN),
        way("/metrics", metrics, need=READ),
        way("/openapi.json", openapi, need=READ),
    ]


async def live(_: Request) -> Response:
    """Tell that the event loop turns."""
    return answer({"live": True})


async def ready(request: Request) -> Response:
    """Tell whether images can be judged and recorded, and which parts fail: 200 or 503.

    A failing source or sink is named and leaves the service ready: the others go on.
    """
    board = service_of(request).line.board
    found = board.ready()
    failing = [part.to_json() for part in board.parts() if part.state == FAILING and part.kind != "drift"]
    return answer({"ready": found, "failing": failing}, 200 if found else 503)


async def metrics(request: Request) -> Response:
    """Answer with the metrics for Prometheus."""
    from padim_edge_line.metrics import exposition

    content, kind = exposition(service_of(request).line)
    return Response(content, headers={"content-type": kind})


async def openapi(_: Request) -> Response:
    """Answer with the description of the interface."""
    return answer(description())
