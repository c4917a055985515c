"""Display matrices of videos, which say how their frames are to be turned and mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["matrix_of", "on_its_side", "upright"]


def matrix_of(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Read the display matrix of a frame. Only one frame per video is asked: its side data keeps a frame in memory."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(found, np.int32)[:5].tolist()
    return a, b, c, d


def on_its_side(matrix: tuple[int, int, int, int]) -> bool:
    """Tell whether a display matrix swaps width and height."""
    a, b, c, d = matrix
    return abs(a) + abs(d) < abs(b) + abs(c)


def upright(pixels: npt.NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Mirror and turn a frame by right angles, as near as they come to its display matrix."""
    a, b, c, d = matrix
    if on_its_side(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
