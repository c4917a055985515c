"""Checks of every request before it reaches a route, and headers of every answer."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.server.access import loopback
from padim_edge_line.server.answers import RefusedError, refused
from padim_edge_line.server.service import Service

__all__ = ["Guard", "missing"]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Headers of every answer that does not set them itself."""

_READING = ("GET", "HEAD", "OPTIONS")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_log = logging.getLogger("padim_edge_line.server")


class Guard:
    """ASGI middleware: limits the rate, refuses foreign names and foreign pages, and sets the headers.

    Args:
        app: What comes behind it.
        service: What all requests share.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._local = loopback(service.config.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            if begun:
                raise
            await refused(_refusal(error))(scope, receive, with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        wait = self._service.requests.wait((scope.get("client") or ("", 0))[0])
        if wait > 0:
            raise RefusedError(429, "too many requests from this address; ask less often", wait=wait, close=True)
        host = headers.get("host", "")
        if self._local and _name(host) not in (*_LOCAL_NAMES, self._service.config.host):
            raise RefusedError(421, "this line answers to localhost only; open it by that name", close=True)
        if scope["method"] not in _READING and _foreign(headers, host):
            raise RefusedError(403, "this request comes from another site's page; only the line's own may send it")


def missing(_: Request, error: Exception) -> object:
    """Turn Starlette's own refusals, such as 404, into ours."""
    assert isinstance(error, HTTPException)
    sentences = {404: "there is nothing under this address", 405: "this address has no such method"}
    text = sentences.get(error.status_code, "this request cannot be answered")
    return refused(RefusedError(error.status_code, text, headers=error.headers))


def _refusal(error: Exception) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, PadimEdgeError):
        _log.warning("a request failed: %s", error)
        return RefusedError(503, "the line cannot answer at the moment; its states tell why", wait=5)
    _log.error("a request failed", exc_info=error)
    return RefusedError(500, "something went wrong inside the service; its log tells what")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _foreign(headers: Headers, host: str) -> bool:
    """Tell whether a browser sends this for the page of another site."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() != host.lower()
        except ValueError:
            return True
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
