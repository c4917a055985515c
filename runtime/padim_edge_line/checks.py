"""`padim-edge run --check`: whether a line would start here, without judging anything."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import make_folder, reserved
from padim_edge_line.config import LineConfig
from padim_edge_line.products import load
from padim_edge_line.record import tables

__all__ = ["Check", "checks"]

_SECONDS = 15.0


@dataclass(frozen=True)
class Check:
    """Outcome for one part of the line."""

    what: str
    """Name of the part."""
    passed: bool
    """Whether it would work."""
    sentence: str
    """Findings, or the reason, in words."""


def checks(config: LineConfig) -> Iterator[Check]:
    """Try each part of a line: the folder, every model, every connection.

    Args:
        config: The line.
    """
    yield _tried("folder", lambda: _folder(config))
    for product in config.products:
        yield _tried(f"product {product.name}", lambda product=product: _model(product))
    from padim_edge_line import sinks, sources

    for source in config.sources:
        yield _tried(f"source {source.name}", lambda source=source: _awaited(sources.check(source)))
    for sink in config.sinks:
        yield _tried(f"sink {sink.name}", lambda sink=sink: _awaited(sinks.check(sink)))
    if config.server is not None:
        yield _tried("page", lambda: _page(config))


def _tried(what: str, work: Any) -> Check:
    try:
        return Check(what, True, work())
    except PadimEdgeError as error:
        return Check(what, False, str(error))
    except OSError as error:
        return Check(what, False, f"the system refused ({error.strerror or error})")


def _folder(config: LineConfig) -> str:
    make_folder(config.folder)
    with reserved([config.folder / tables.FILE]):
        return "can be written to, and no other process runs this line"


def _model(product: Any) -> str:
    found = load(product, product.model, None)
    return f"revision {found.revision}, passes its self-test on {found.detector.device}"


def _page(config: LineConfig) -> str:
    from padim_edge_line.server.serving import bound
    from padim_edge_line.service import token_of

    server = config.server
    assert server is not None
    token_of(config)
    bound(server.host, server.port).close()
    return f"port {server.port} on {server.host} is free"


def _awaited(work: Coroutine[Any, Any, str]) -> str:
    async def limited() -> str:
        try:
            return await asyncio.wait_for(work, _SECONDS)
        except asyncio.TimeoutError as error:
            raise PadimEdgeError(f"no answer within {_SECONDS:g} s; check the address and the network") from error

    return asyncio.run(limited())
