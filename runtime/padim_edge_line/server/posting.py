"""Images that other programs post."""

from __future__ import annotations

import hashlib
import re
import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_line.arrival import KEY_BYTES, Arrival
from padim_edge_line.errors import BusyError, StoppingError
from padim_edge_line.server.access import SUBMIT
from padim_edge_line.server.answers import RefusedError, answer
from padim_edge_line.server.asking import printable, queries, way
from padim_edge_line.server.limits import body
from padim_edge_line.server.service import service_of

__all__ = ["SOURCE", "routes"]

SOURCE = "http"
"""Name of the source of posted images."""

_KEY = re.compile(r"[!-~]{1,200}")


def routes() -> list[Route]:
    """Return the routes."""
    return [way("/api/images", post, need=SUBMIT, methods=["POST"])]


async def post(request: Request) -> Response:
    """Have a posted image judged, and answer with its row."""
    given = queries(request, "product", "part", "name")
    service = service_of(request)
    line = service.line
    if not service.config.images:
        raise RefusedError(403, "posting images is turned off; set images = true under [server]")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        raise RefusedError(
            415, "the body has no type that is read here; send the bytes of the image as application/octet-stream"
        )
    product = given.get("product", line.products.active)  # the one that is made now, not when the body is here
    if product not in line.products.names:
        raise RefusedError(404, f"product is {printable(product, 40)!r}; expected one of this line")
    text = request.headers.get("idempotency-key")
    if text is not None and not _KEY.fullmatch(text):
        raise RefusedError(400, "the Idempotency-Key is no text of 1 to 200 printable ASCII characters without blanks")
    key = secrets.token_bytes(KEY_BYTES) if text is None else hashlib.sha256(text.encode()).digest()[:KEY_BYTES]
    image = await body(request, service.most_bytes, service.memory)
    try:
        if not image:
            raise RefusedError(400, "the body is empty; send the bytes of the image")
        arrival = Arrival(
            source=SOURCE,
            name=printable(given.get("name", ""), 200) or f"request {key.hex()[:8]}",
            image=image,
            product=product,
            part=printable(given.get("part", ""), 120) or None,
            distrusted=True,
            key=key,
        )
        row = await line.judge(arrival, wait=False)
    except BusyError:
        raise RefusedError(429, "too many images wait to be judged; try again soon", wait=1) from None
    except StoppingError:
        raise RefusedError(503, "the service is ending; send the image again when it is back", wait=5) from None
    finally:
        service.memory.release(len(image))
    return answer(row.to_json())
