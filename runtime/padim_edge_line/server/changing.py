"""Changes that a person makes: marks, the product that is made, triggers, and the session that allows them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.errors import BusyError, StoppingError
from padim_edge_line.record import MARKS
from padim_edge_line.server.access import CHANGE, COOKIE_SECONDS, OPEN
from padim_edge_line.server.answers import RefusedError, answer, sentence
from padim_edge_line.server.asking import address, cookie_name, fields, printable, queries, way
from padim_edge_line.server.reading import number_of
from padim_edge_line.server.service import service_of

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the routes."""
    return [
        way("/api/rows/{seq}/mark", mark, need=CHANGE, methods=["POST"]),
        way("/api/product", choose, need=CHANGE, methods=["POST"]),
        way("/api/trigger", trigger, need=CHANGE, methods=["POST"]),
        way("/api/session", session, need=OPEN, methods=["POST", "DELETE"]),
    ]


async def mark(request: Request) -> Response:
    """Note what a person says about a verdict."""
    queries(request)
    seq = number_of(request)
    given = await fields(request, ["mark"], ["who"])
    word, who = given["mark"] or "", given["who"] or "page"
    if word not in MARKS:
        raise RefusedError(400, f"mark is {printable(word, 40)!r}; expected {', '.join(MARKS)}")
    service = service_of(request)
    if await service.ask(lambda reader: reader.row(seq)) is None:
        raise RefusedError(404, f"there is no row {seq}")
    try:
        await service.line.mark(seq, word, who)
    except PadimEdgeError as error:
        raise RefusedError(409, sentence(error)) from error
    return answer({"seq": seq, "mark": word, "who": who})


async def choose(request: Request) -> Response:
    """Change the product that is made."""
    queries(request)
    product = (await fields(request, ["product"]))["product"] or ""
    line = service_of(request).line
    if product not in line.products.names:
        raise RefusedError(404, f"product is {printable(product, 40)!r}; expected one of this line")
    try:
        await line.choose(product)
    except PadimEdgeError as error:
        raise RefusedError(409, sentence(error)) from error
    return answer({"product": line.products.active})


async def trigger(request: Request) -> Response:
    """Have a source take an image, and answer with its row."""
    queries(request)
    given = await fields(request, ["source"], ["part"])
    line = service_of(request).line
    source = given["source"] or ""
    if source not in [each.name for each in line.config.sources]:
        raise RefusedError(404, f"source is {printable(source, 40)!r}; expected one of this line")
    try:
        row = await line.trigger(source, given["part"])
    except BusyError:
        raise RefusedError(429, "too many images wait to be judged; try again soon", wait=1) from None
    except StoppingError:
        raise RefusedError(503, "the service is ending", wait=5) from None
    except PadimEdgeError as error:
        raise RefusedError(409, sentence(error)) from error
    return answer(row.to_json())


async def session(request: Request) -> Response:
    """Give a cookie for the token, so that no script keeps the token, or take it away."""
    queries(request)
    return await (_begun if request.method == "POST" else _ended)(request)


async def _begun(request: Request) -> Response:
    service = service_of(request)
    token = (await fields(request, ["token"]))["token"] or ""
    right = service.access.holds(token)
    wait = service.failures.wait(address(request), take=0 if right else 1)
    if wait > 0:
        raise RefusedError(429, "too many wrong tokens from this address; wait, and look the token up", wait=wait)
    if not right:
        raise RefusedError(401, "this is not the token of the line", headers={"www-authenticate": "Bearer"})
    found = Response(status_code=204)
    found.set_cookie(
        cookie_name(request),
        service.access.cookie(),
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return found


async def _ended(request: Request) -> Response:
    found = Response(status_code=204)
    found.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return found
