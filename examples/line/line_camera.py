"""A camera of one's own for a line: copy this file, and put the calls of your SDK in.

Try it as it is:

    PYTHONPATH=examples/line padim-edge run --check line.toml

where `line.toml` has

    [[sources]]
    kind = "camera"
    name = "belt"
    camera = "line_camera:camera"
    url = "demo"
    options = { rate = 10 }

A package of your own names it as an entry point instead, `[project.entry-points."padim_edge.cameras"]` with
`belt = "my_package:camera"`, and `camera = "belt"` is then enough.

A GenICam camera needs these calls of Harvester:

    open   harvester = Harvester(); harvester.add_file("vendor.cti"); harvester.update()
           acquirer = harvester.create({"serial_number": url}); acquirer.start()
    grab   with acquirer.fetch(timeout=5) as buffer:
               part = buffer.payload.components[0]
               return part.data.reshape(part.height, part.width).copy()  # its memory is used again
    close  acquirer.destroy(); harvester.reset()
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DemoCamera", "camera"]


class DemoCamera:
    """Camera that draws a moving bar.

    Args:
        url: Anything that tells one camera from another, such as a serial number.
        options: `width` and `height` in pixels, and `rate` in frames a second.
    """

    on_demand = False
    """Set it to true where `grab` itself releases the shutter: it is then called for a wanted frame only."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._name = url
        self._size = (int(options.get("height", 64)), int(options.get("width", 64)))
        self._period = 1 / float(options.get("rate", 10))
        self._number = 0
        self.captured = 0.0
        """Time of the exposure of the last frame, on the clock of `time.monotonic`. It may be left out. Then a frame
        counts as taken when `grab` was called, so a camera with a queue of its own should tell it."""

    def open(self) -> None:
        """Connect. Any exception is shown on the page, without addresses and passwords, and it is tried again."""
        if not self._name:
            raise ValueError("there is no camera without a serial number; set `url`")
        self._number = 0

    def grab(self) -> npt.NDArray[np.uint8] | None:
        """Wait for the next frame and return it in an array of its own: `(H, W)`, or `(H, W, 3)` in RGB."""
        time.sleep(self._period)
        self.captured = time.monotonic()
        height, width = self._size
        frame = np.full((height, width, 3), 128, np.uint8)
        frame[:, self._number % width] = 255
        self._number += 1
        return frame

    def close(self) -> None:
        """Disconnect."""


def camera(url: str, options: Mapping[str, Any]) -> DemoCamera:
    """Make the camera. The line calls this in a process that belongs to the camera alone."""
    return DemoCamera(url, options)
