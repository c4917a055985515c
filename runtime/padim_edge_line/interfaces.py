"""Interfaces of sources, sinks and cameras, for those who write one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from padim_edge_line.line import Line
    from padim_edge_line.row import Row

__all__ = ["Camera", "Sink", "Source", "Triggered"]


class Camera(Protocol):
    """A camera of any make. Entry points of the group `padim_edge.cameras` name a function that makes one.

    The function is called with the `url` and the `options` of `line.toml`. The camera lives in a process of its own, so
    that neither a crash nor a hang of its driver stops the line. All calls come from one thread.
    """

    def open(self) -> None:
        """Connect. Any exception counts as lost, and is tried again."""

    def grab(self) -> npt.NDArray[np.uint8] | None:
        """Wait for the next frame and return it as `(H, W)` or `(H, W, 3)` uint8 in RGB; `None` at the end."""

    def close(self) -> None:
        """Disconnect."""


class Source(Protocol):
    """A part that makes arrivals of its own accord."""

    @property
    def name(self) -> str:
        """Name of the source."""

    async def run(self, line: Line) -> None:
        """Judge images through `line.judge` until it is cancelled."""


class Triggered(Source, Protocol):
    """A source that can take one image on demand."""

    async def trigger(self, line: Line, part: str | None) -> Row:
        """Take a new image, have it judged, and return its row.

        Raises:
            PadimEdgeError: There is no image.
        """


class Sink(Protocol):
    """A part that tells others about rows."""

    @property
    def name(self) -> str:
        """Name of the sink."""

    async def run(self, line: Line) -> None:
        """Tell of rows until it is cancelled. An exception is logged, and the sink is started again."""
