"""The image of the self-test, drawn by integer arithmetic: the same on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["probe_image", "sample_points"]

_ROWS = 64
"""Number of rows drawn at a time."""


def probe_image(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Draw the image `(H, W, 3)` uint8: ramps, gratings and a hashed grain give contrast at every scale."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    columns = np.arange(width, dtype=np.uint64)[None]
    for start in range(0, height, _ROWS):  # a frame of a hundred megapixels at once would take gigabytes
        rows = np.arange(start, min(start + _ROWS, height), dtype=np.uint64)[:, None]
        for channel in range(3):
            ramp = (rows * (channel + 1) + columns * (3 - channel)) // 5 % 128
            grating = (rows + columns * (channel + 2)) // 8 % 2 * 64
            grain = (rows * 73856093 + columns * 19349663 + channel * 83492791) % 1000003 % 64
            image[start : start + len(rows), :, channel] = ramp + grating + grain
    return image


def sample_points(size: tuple[int, int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows and columns of a 4 x 4 lattice over the anomaly map, borders included."""
    rows, columns = np.meshgrid(
        np.linspace(0, size[0] - 1, 4).astype(np.intp), np.linspace(0, size[1] - 1, 4).astype(np.intp), indexing="ij"
    )
    return rows.ravel(), columns.ravel()
