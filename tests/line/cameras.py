"""A running line with one camera, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from line.lines import config_of, running

from padim_edge_line.config import CameraConfig
from padim_edge_line.line import Line
from padim_edge_line.sources.camera import CameraSource

__all__ = ["seeing"]


@asynccontextmanager
async def seeing(folder: Path, config: CameraConfig) -> AsyncIterator[tuple[Line, CameraSource, asyncio.Task[None]]]:
    """A line with one camera, the source, and the task that runs it."""
    source = CameraSource(config)
    async with running(config_of(folder), {"cam": source}) as line:
        task = asyncio.create_task(source.run(line))
        try:
            yield line, source, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
