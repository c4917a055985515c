"""A running line with the golden models, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import golden
import numpy as np
from PIL import Image

from padim_edge_line.configuration import line_of
from padim_edge_line.line import Line

__all__ = ["TOKEN", "config_of", "drawn", "eventually", "pictures", "running"]

TOKEN = "a-token-for-tests-only"


def config_of(folder: Path, **parts: Any) -> Any:
    """The configuration of a line with two products; `parts` are tables as in line.toml."""
    found = {
        "name": "test",
        "folder": str(folder / "line"),
        "products": {
            "whole": {"model": str(golden.WHOLE)},
            "cropped": {"model": str(golden.CROPPED)},
        },
        "server": {"port": 0},
        **parts,
    }
    return line_of(found, folder)


@asynccontextmanager
async def running(config: Any, sources: Any = None) -> AsyncIterator[Line]:
    """A line that judges, without sources, sinks and page."""
    line = Line(config, TOKEN, sources)
    try:
        await line.loading.first()
        loading = asyncio.create_task(line.loading.run())
        try:
            await eventually(lambda: all(line.products.loaded(name) for name in line.products.names))
            yield line
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
    finally:
        await line.close()


async def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    for _ in range(round(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds:g} s")


def drawn(number: int, side: int = 64) -> np.ndarray:
    """A drawn image, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Files of drawn images."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(first, first + count):
        path = folder / f"{number:05}.png"
        Image.fromarray(drawn(number)).save(path)
        found.append(path)
    return found
