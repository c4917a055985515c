"""How far a region stands out from what lies around it.

Plants and real defects are measured alike: from the image and the mask alone.

1. The region is predicted from its surroundings: a hole is filled smoothly. The residual is image minus prediction.
2. The same mask is laid at eight places around the region, and predicted there likewise. These residuals are the local
   texture: what the prediction misses where nothing is wrong.
3. Levels are the Wasserstein distance between both distributions of residuals, so that both a shift of the mean and a
   change of the texture count. Contrast is this distance in robust deviations of the local texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.filling import filled
from padim_edge.planting.values import Mask, Measured, Pixels

__all__ = ["Surroundings", "compared", "measure", "surroundings"]

FLOOR = 1.0
"""Least deviation of a texture in grey levels. A camera's noise and rounding are about as much."""

_QUANTILES = ((np.arange(32) + 0.5) / 32).astype(np.float64)
"""Shares at which two distributions are compared."""
_FEW = 12
"""Least number of pixels around a region that say what the texture is."""
_DIRECTIONS = tuple((int(down), int(across)) for down in (-1, 0, 1) for across in (-1, 0, 1) if down or across)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the surroundings of a region let expect there."""

    predicted: npt.NDArray[np.float32]
    """`(K, C)`, values of the region's K pixels as the surroundings predict them."""
    residuals: npt.NDArray[np.float64]
    """`(32, C)`, quantiles of what such a prediction misses nearby, where nothing is wrong."""
    deviation: npt.NDArray[np.float64]
    """`(C,)`, robust deviation of the local texture in grey levels, 1 or more."""


def measure(image: Pixels, mask: Mask) -> Measured:
    """Measure size and contrast of a region.

    Args:
        image: `(H, W, 3)` or `(H, W)` uint8.
        mask: `(H, W)` bool, True in the region; not empty. Several regions are best measured one by one.
    """
    around = surroundings(image, mask)
    contrast, levels = compared(around, _channels(image)[mask])
    return Measured(extent(mask), contrast, levels)


def extent(mask: Mask) -> float:
    """Return the Feret diameter of a region in pixels, looked for in steps of 7.5 degrees."""
    inner = ndimage.binary_erosion(mask)
    rows, columns = np.nonzero(mask & ~inner)
    angles = np.arange(24) * (np.pi / 24)
    across = np.outer(np.cos(angles), columns) + np.outer(np.sin(angles), rows)
    return float(np.ptp(across, axis=1).max()) + 1.0


def surroundings(image: Pixels, mask: Mask) -> Surroundings:
    """Predict a region from what lies around it, and find out how good such a prediction is nearby.

    Args:
        image: `(H, W, 3)` or `(H, W)` uint8. The region's own pixels are not looked at.
        mask: `(H, W)` bool, True in the region; not empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    thickness = 2.0 * float(ndimage.distance_transform_cdt(np.pad(inside, 1), "chessboard").max())
    step = round(thickness) + 3
    reach = 2 * step + 2
    top, left = max(0, top - reach), max(0, left - reach)
    window = (slice(top, int(rows[-1]) + reach + 1), slice(left, int(columns[-1]) + reach + 1))
    values, region = _channels(image[window]), mask[window]
    hole = ndimage.binary_dilation(region, iterations=1)
    places = [_moved(region, down * step, across * step) & ~hole for down, across in _DIRECTIONS]
    blocked = [hole] + [hole | ndimage.binary_dilation(place) for place in places]
    predicted = filled(np.broadcast_to(values, (len(blocked), *values.shape)), ~np.stack(blocked))
    missed = [(values - guess)[place] for guess, place in zip(predicted[1:], places, strict=True)]
    residuals = np.concatenate(missed)
    if len(residuals) < _FEW:
        # The region fills the image: its surroundings say nothing.
        residuals = np.zeros((_FEW, values.shape[-1]), np.float32)
    quantiles = np.quantile(residuals, [*_QUANTILES, 0.16, 0.84], axis=0)
    deviation = np.maximum((quantiles[-1] - quantiles[-2]) / 2.0, FLOOR)
    return Surroundings(predicted[0][region], quantiles[:-2], deviation)


def compared(around: Surroundings, values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return contrast and levels of a region that shows `values`, `(K, C)`; the clearest channel counts."""
    quantiles = np.quantile(values - around.predicted, _QUANTILES, axis=0)
    levels = np.abs(quantiles - around.residuals).mean(axis=0)
    contrast = levels / around.deviation
    best = int(np.argmax(contrast))
    return float(contrast[best]), float(levels[best])


def _channels(image: Pixels) -> npt.NDArray[np.float32]:
    """Return `(H, W, 1)` for a grey image and `(H, W, 3)` for one in colour, float32."""
    if image.ndim == 2:
        image = image[..., None]
    elif (image[..., :1] == image[..., 1:]).all():
        image = image[..., :1]
    return image.astype(np.float32)


def _moved(mask: Mask, down: int, across: int) -> Mask:
    """Move a mask by whole pixels; what leaves the window is lost."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    moved[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] = mask[
        max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)
    ]
    return moved
