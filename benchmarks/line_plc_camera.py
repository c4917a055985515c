"""A camera above a belt, for `benchmarks.line_plc`: it sees the part that a file names at this moment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the parts are drawn

import drawn_images

__all__ = ["BeltCamera", "camera", "picture"]


def picture(part: str) -> npt.NDArray[np.uint8]:
    """Draw a part by its id: `good-7-...` is good, `bad-7-...` has a defect, and 7 tells one image from another."""
    kind, number, *_ = part.split("-")
    drawn = drawn_images.good(int(number)) if kind == "good" else drawn_images.defective(int(number))[0]
    return np.array(drawn)


class BeltCamera:
    """Camera that takes an image on demand."""

    on_demand = True

    def __init__(self, url: str) -> None:
        self._belt = Path(url)

    def open(self) -> None:
        """Connect."""

    def grab(self) -> npt.NDArray[np.uint8] | None:
        """Take an image of the part that is below the camera now."""
        return picture(self._belt.read_text(encoding="ascii"))

    def close(self) -> None:
        """Disconnect."""


def camera(url: str, options: Mapping[str, Any]) -> BeltCamera:
    """Make the camera; `url` is the file that names the part."""
    del options
    return BeltCamera(url)
