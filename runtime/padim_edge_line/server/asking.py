"""Routes that need a right, and what requests give: their rights, their queries and their JSON, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_line.server.access import OPEN
from padim_edge_line.server.answers import RefusedError
from padim_edge_line.server.limits import body
from padim_edge_line.server.service import Service, service_of

__all__ = ["Endpoint", "address", "cookie_name", "fields", "holder", "number", "printable", "queries", "way"]

Endpoint = Callable[[Request], Awaitable[Response]]

_NUMBER = re.compile(r"[0-9]{1,15}")
_MOST_JSON = 16_384
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def way(path: str, endpoint: Endpoint, *, need: str, methods: Sequence[str] = ("GET",)) -> Route:
    """Make a route that needs a right."""

    async def checked(request: Request) -> Response:
        service = service_of(request)
        request.state.holder = need != OPEN and holder(request, service)
        if not request.state.holder and not service.access.without_token(need):
            raise RefusedError(
                401,
                "this needs the token of the line; send it as 'Authorization: Bearer TOKEN', or open the link that "
                "padim-edge printed at its start",
                headers={"www-authenticate": "Bearer"},
            )
        return await endpoint(request)

    route = Route(path, checked, methods=list(methods), name=f"{endpoint.__module__}.{endpoint.__name__}")
    route.need = need  # type: ignore[attr-defined]
    return route


def address(request: Request) -> str:
    """Return the IP address that a request comes from."""
    return request.client.host if request.client else ""


def cookie_name(request: Request) -> str:
    """Return the name of the cookie. Cookies do not know of ports, so that two lines on a host need two names."""
    return f"padim_edge_{request.url.port or 80}"


def holder(request: Request, service: Service) -> bool:
    """Tell whether a request brings the token, or the cookie that stands for it.

    Raises:
        RefusedError: It brings a wrong token, or the address brought too many wrong ones.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _proven(request, service, service.access.holds(token.strip()))
    cookie = request.cookies.get(cookie_name(request))
    if cookie is None or service.failures.wait(address(request), take=0) > 0:
        return False
    held = service.access.holds_cookie(cookie)
    if not held:
        service.failures.wait(address(request))
    return held


def _proven(request: Request, service: Service, right: bool) -> bool:
    """Return whether a token is right; count wrong ones, and refuse all of them after too many."""
    wait = service.failures.wait(address(request), take=0 if right else 1)
    if wait > 0:
        raise RefusedError(429, "too many wrong tokens from this address; wait, and look the token up", wait=wait)
    if not right:
        raise RefusedError(401, "this is not the token of the line", headers={"www-authenticate": "Bearer"})
    return True


def queries(request: Request, *known: str) -> Mapping[str, str]:
    """Return the query.

    Raises:
        RefusedError: It holds something that is not known here, or one thing twice.
    """
    given = request.query_params
    strange = sorted(set(given) - set(known))
    if strange:
        expected = f"one of {', '.join(known)}" if known else "no query"
        raise RefusedError(400, f"the query holds {printable(strange[0], 40)!r}; expected {expected}")
    twice = [name for name in given if len(given.getlist(name)) > 1]
    if twice:
        raise RefusedError(400, f"the query holds {twice[0]!r} more than once; give it once")
    return given


def number(text: str | None, name: str, most: int, default: int | None = None) -> int | None:
    """Read a whole number from 1 to `most`.

    Raises:
        RefusedError: It is something else.
    """
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise RefusedError(400, f"{name} is {printable(text, 40)!r}; expected a whole number from 1 to {most}")
    return int(text)


def printable(text: str, most: int) -> str:
    """Return a text without control characters, not longer than `most`."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)[:most]


async def fields(request: Request, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str | None]:
    """Read a JSON object of texts.

    Raises:
        RefusedError: The body is something else.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "the body has no type that is read here; send application/json")
    service = service_of(request)
    content = await body(request, _MOST_JSON, service.memory)
    service.memory.release(len(content))
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON") from None
    if not isinstance(found, dict) or not set(required) <= set(found) <= {*required, *optional}:
        expected = ", ".join([*required, *(f"{name} (optional)" for name in optional)])
        raise RefusedError(400, f"the body holds other fields; expected an object with {expected}")
    for name, value in found.items():
        if not (isinstance(value, str) or (value is None and name in optional)):
            raise RefusedError(400, f"{name} is not text; expected text")
        if value is not None and (not value or _CONTROL.search(value) or len(value) > 200):
            raise RefusedError(400, f"{name} is empty, too long or holds control characters; expected up to 200 others")
    return {name: found.get(name) for name in (*required, *optional)}
