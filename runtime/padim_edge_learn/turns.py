"""Flipped and turned copies of images, for a memory of parts that lie at any angle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["turned"]

Frame = npt.NDArray[np.uint8]


def turned(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Yield the frames `(H, W, 3)` in each other position: flipped, turned by quarters, and both.

    Square frames have seven other positions. Others have three, because the model's frame keeps its size.
    """
    height, width = frames[0].shape[:2]
    quarters = range(4) if height == width else (0, 2)
    for flipped in (False, True):
        for quarter in quarters:
            if flipped or quarter:
                yield [np.rot90(frame[:, ::-1] if flipped else frame, quarter) for frame in frames]
