"""The page and its files: a fixed table, read once from the wheel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_line.server.access import OPEN
from padim_edge_line.server.answers import RefusedError
from padim_edge_line.server.asking import way

__all__ = ["FILES", "routes"]

FILES: Mapping[str, str] = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in ("app", "api", "chart", "dom", "gallery", "live", "parts", "products", "viewer", "words")
    },
}
"""Names of the files, and their types."""


def routes() -> list[Route]:
    """Return the routes of the page, which hold nothing of the line and are open to all."""
    return [way("/", index, need=OPEN), way("/static/{name}", file, need=OPEN)]


async def index(request: Request) -> Response:
    """Answer with the page."""
    return _answer(request, "index.html")


async def file(request: Request) -> Response:
    """Answer with a file of the page."""
    name = request.path_params["name"]
    if name not in FILES:
        raise RefusedError(404, "there is nothing under this address")
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    content, tag = _read(name)
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": FILES[name]})


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = resources.files("padim_edge_line.server").joinpath("page", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
