"""Answers that read: the state of the line, rows, images."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from padim_edge_line.record import Filters, Reader
from padim_edge_line.row import VERDICTS
from padim_edge_line.server.access import READ
from padim_edge_line.server.answers import RefusedError, answer
from padim_edge_line.server.asking import number, printable, queries, way
from padim_edge_line.server.service import service_of
from padim_edge_line.server.state import row_json, state

__all__ = ["MOST_ROWS", "routes"]

MOST_ROWS = 500
"""Most rows in one answer."""
_ROWS = 50
_MOST_VERDICTS = 8
_LARGEST = 10**15 - 1
_YOUNG = 64
"""Number of the last rows whose overlays may still be on their way."""
_TRIALS, _PAUSE_S = 15, 0.1
"""Number of looks for such an overlay, and the seconds between two of them."""

_TYPES: Mapping[str, str] = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "jp2": "image/jp2",
    "png": "image/png",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
}
"""Types of images by their endings; all others are sent as plain bytes."""


def routes() -> list[Route]:
    """Return the routes."""
    return [
        way("/api/state", whole, need=READ),
        way("/api/rows", rows, need=READ),
        way("/api/rows/{seq}", row, need=READ),
        way("/api/rows/{seq}/image", image, need=READ),
        way("/api/rows/{seq}/overlay", overlay, need=READ),
        way("/api/products/{name}/preview", preview, need=READ),
    ]


async def whole(request: Request) -> Response:
    """Answer with all that the page shows."""
    queries(request)
    service = service_of(request)
    found = await service.ask(lambda reader: state(service.line, reader))
    return answer({**found, "rights": {"change": request.state.holder, "post": service.config.images}})


async def rows(request: Request) -> Response:
    """Answer with rows, the newest first."""
    given = queries(request, "product", "verdict", "before", "limit")
    service = service_of(request)
    product = given.get("product")
    if product is not None and product not in service.line.products.names:
        raise RefusedError(404, f"product is {printable(product, 40)!r}; expected one of this line")
    verdicts = tuple(given["verdict"].split(",")) if "verdict" in given else ()
    if len(verdicts) > _MOST_VERDICTS:
        raise RefusedError(400, f"verdict has {len(verdicts)} words; expected {_MOST_VERDICTS} at most")
    if strange := sorted(set(verdicts) - set(VERDICTS)):
        expected = ", ".join(VERDICTS)
        raise RefusedError(400, f"verdict is {printable(strange[0], 40)!r}; expected some of {expected}")
    before = number(given.get("before"), "before", _LARGEST)
    limit = number(given.get("limit"), "limit", MOST_ROWS, _ROWS)
    filters = Filters(product=product, verdicts=verdicts)

    def found(reader: Reader) -> list[object]:
        some = reader.rows(before=before, limit=limit, newest_first=True, filters=filters)
        return [row_json(reader, each) for each in some]

    return answer({"rows": await service.ask(found)})


async def row(request: Request) -> Response:
    """Answer with one row."""
    queries(request)
    seq = number_of(request)

    def found(reader: Reader) -> object:
        each = reader.row(seq)
        return None if each is None else row_json(reader, each)

    data = await service_of(request).ask(found)
    if data is None:
        raise RefusedError(404, f"there is no row {seq}")
    return answer(data)


async def image(request: Request) -> Response:
    """Answer with a kept image."""
    queries(request, "key")
    seq = number_of(request)
    return _file(await service_of(request).ask(lambda reader: reader.image(seq)))


async def overlay(request: Request) -> Response:
    """Answer with the overlay of a kept image. It is made after the row, so a young one is waited for."""
    queries(request, "key")
    seq = number_of(request)
    service = service_of(request)
    for _ in range(_TRIALS):
        path, coming = await service.ask(partial(_overlay, seq))
        if not coming:
            break
        await asyncio.sleep(_PAUSE_S)
    return _file(path)


async def preview(request: Request) -> Response:
    """Answer with the picture of one of the last images of a product. It is drawn after the row, so it is waited for.

    Of images that come fast, not each one is drawn.
    """
    seq = number(queries(request, "seq").get("seq") or None, "seq", _LARGEST)
    service, name = service_of(request), request.path_params["name"]
    wanted = None if seq is None else await service.ask(lambda reader: reader.row(seq))
    for _ in range(_TRIALS // 3):
        found = service.line.preview(name) if name in service.line.products.names else None
        if found is not None and (seq is None or (wanted is not None and wanted.key == found.key)):
            return Response(found.content, media_type="image/jpeg")
        if seq is None or wanted is None:
            break
        await asyncio.sleep(_PAUSE_S)
    raise RefusedError(404, "there is no picture of this image")


def _overlay(seq: int, reader: Reader) -> tuple[Path | None, bool]:
    """Return the overlay of a row, and whether it may still come."""
    found, row = reader.overlay(seq), reader.row(seq)
    young = row is not None and row.image is not None and row.score is not None and seq > reader.last() - _YOUNG
    return found, found is None and young and reader.image(seq) is not None


def number_of(request: Request) -> int:
    """Return the number of the row in a path.

    Raises:
        RefusedError: It is no number.
    """
    found = number(request.path_params["seq"], "the number of the row", _LARGEST)
    assert found is not None
    return found


def _file(path: Path | None) -> Response:
    if path is None:
        raise RefusedError(404, "this image was not kept, or is no longer")
    ending = path.name.rpartition(".")[2]
    headers = {
        # What came from the network is shown as an image or not at all.
        "content-security-policy": "default-src 'none'; sandbox",
        "content-disposition": "inline" if ending in _TYPES else "attachment",
        "cache-control": "private, max-age=600",
    }
    return FileResponse(path, media_type=_TYPES.get(ending, "application/octet-stream"), headers=headers)
