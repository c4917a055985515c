"""Means of blocks of pixels, as cameras that bin give them: a fast way to a smaller image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["binned"]

Pixels = npt.NDArray[np.uint8]


def binned(pixels: Pixels, bins: tuple[int, int]) -> Pixels:
    """Average the blocks of an image, rounded to whole grey levels, halves up.

    The border of the image may cut the last row and the last column of blocks. Their means are over the pixels that
    exist.

    Args:
        pixels: `(H, W)` or `(H, W, C)`.
        bins: (rows, columns) of pixels in a block, 1 to `padim_edge_artifact.preprocessing.MOST_BINNED` each.
    """
    if pixels.ndim == 3 and pixels.strides[2] < 0:  # BGR that is looked at as RGB: numpy is slow in this direction
        return binned(pixels[..., ::-1], bins)[..., ::-1]
    rows, columns = (_parts(side, block) for side, block in zip(pixels.shape[:2], bins, strict=True))
    strips = [
        np.concatenate([_whole(pixels[down, across], (height, width)) for across, width in columns], axis=1)
        for down, height in rows
    ]
    return np.concatenate(strips)


def _parts(side: int, block: int) -> list[tuple[slice, int]]:
    """Return the part of a side that whole blocks cover, and the rest of it, each with the size of its blocks."""
    whole = side // block * block
    parts = ((slice(0, whole), block), (slice(whole, side), side - whole))
    return [(part, size) for part, size in parts if part.start < part.stop]


def _whole(pixels: Pixels, bins: tuple[int, int]) -> Pixels:
    """Average blocks that cover the pixels and nothing beyond."""
    (down, across), (height, width) = bins, pixels.shape[:2]
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    # Rows first, since they lie together in memory. The sum of a block fits into 16 bits.
    strips = np.add.reduce(planes.reshape(height // down, down, width, -1), axis=1, dtype=np.uint16)
    sums = np.empty((height // down, width // across, planes.shape[2]), np.uint16)
    for channel in range(planes.shape[2]):  # one by one, because numpy is slow where its innermost loop has three steps
        sums[..., channel] = strips[:, ::across, channel]
        for column in range(1, across):
            sums[..., channel] += strips[:, column::across, channel]
    sums += np.uint16(down * across // 2)
    sums //= np.uint16(down * across)
    return sums.astype(np.uint8).reshape(sums.shape[: pixels.ndim])
