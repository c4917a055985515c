"""How far a region stands out from what lies around it.

Plants and real defects are measured alike: from the image and the mask alone.

1. The region is predicted from its surroundings: a hole is filled smoothly. The residual is image minus prediction.
2. The same mask is laid at eight places around the region, and predicted there likewise. These residuals show what such
   a prediction misses where nothing is wrong.
3. The distance between two sets of residuals is that of their quantiles (Wasserstein, of order 2). So a shift of the
   mean counts, and so does a change of the texture, and a defect that fills half of its mask counts by more than half.
   Levels are the region's distance from its surroundings, less the median distance of the eight places. The rim of a
   region, which is predicted best, is also compared alone; the larger distance counts.
4. Contrast is levels in robust deviations of the local texture: the image less its Gaussian average over two pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.filling import filled
from padim_edge.planting.values import Mask, Measured, Pixels
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["Surroundings", "compared", "measure", "surroundings"]

FLOOR = 2.0
"""Least deviation of a texture in grey levels. Less is rounding and compression, and no eye sees it."""
FINE = 2.0
"""Standard deviation in pixels of the average that is taken from an image to get its texture."""

_SHARES = (np.arange(32) + 0.5) / 32
"""Shares at which two distributions are compared."""
_AT_ONCE = 2_000_000
"""Largest number of values that are filled at once."""
_FEW = 12
"""Least number of pixels around a region that say what the texture is."""
_RIM = 2
"""Width of a region's rim in pixels."""
_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=np.bool_)
"""Neighbours of a pixel, in each mask of a stack by itself."""
_DIRECTIONS = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1) if down or across)

_Residuals = npt.NDArray[np.float32]
"""`(K, C)`, image minus prediction."""


@dataclass(frozen=True, eq=False)
class _Share:
    """Pixels of a region that are looked at together, and what is usual of them nearby."""

    pixels: npt.NDArray[np.bool_]
    """`(K,)`, True for those of the region's K pixels that are looked at."""
    missed: _Residuals
    """`(32, C)`, quantiles of what a prediction misses nearby, where nothing is wrong."""
    usual: _Residuals
    """`(C,)`, distance in grey levels that is usual between one place and all; infinite where there are no others."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Expectation of a region from what lies around it."""

    predicted: _Residuals
    """`(K, C)`, values of the region's K pixels as the surroundings predict them."""
    shares: tuple[_Share, ...]
    """The whole region; and its rim, where the surroundings predict well, if it has more than that."""
    deviation: _Residuals
    """`(C,)`, robust deviation of the local texture in grey levels, `FLOOR` or more."""


def measure(image: Pixels, mask: Mask) -> Measured:
    """Measure size and contrast of a region.

    Args:
        image: `(H, W, 3)` or `(H, W)` uint8.
        mask: `(H, W)` bool, True in the region. Several regions are best measured one by one.

    Raises:
        PadimEdgeError: The mask is empty or has another size than the image.
    """
    if mask.shape != image.shape[:2]:
        raise PadimEdgeError(f"the mask is {mask.shape}, expected {image.shape[:2]} as the image; resize one of them")
    if not mask.any():
        raise PadimEdgeError("the mask is empty, expected a region to measure; leave out images without a defect")
    around = surroundings(image, mask)
    contrast, levels = compared(around, _channels(image)[mask])
    return Measured(extent(mask), contrast, levels, float(np.count_nonzero(mask)))


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
    # The eight places are as near as they can be: they overlap the region a little, and leave that out.
    step = round(0.7 * thickness) + 3
    reach = step + max(4, round(0.4 * thickness))
    top, left = max(0, top - reach), max(0, left - reach)
    window = (slice(top, int(rows[-1]) + reach + 1), slice(left, int(columns[-1]) + reach + 1))
    values, region = _channels(image[window]), mask[window]
    hole = ndimage.binary_dilation(region)
    moves = [(down * step, across * step) for down, across in _DIRECTIONS]
    places = [_moved(region, *move) & ~hole for move in moves]
    rim = region & ~ndimage.binary_erosion(region, iterations=_RIM)
    looked_at = [region]
    if np.count_nonzero(rim) < 0.7 * np.count_nonzero(region):
        looked_at.append(rim)
    missed: list[list[_Residuals]] = [[] for _ in looked_at]
    # A few places at a time: those of a large region in a large image would take gigabytes together.
    some = max(1, _AT_ONCE // values.size)
    for first in range(0, len(places), some):
        blocked = hole | ndimage.binary_dilation(np.stack(places[first : first + some]), _CROSS)
        guesses = filled(np.broadcast_to(values, (len(blocked), *values.shape)), ~blocked)
        for guess, place, move in zip(guesses, places[first:], moves[first:], strict=False):
            missed[0].append((values - guess)[place])
            if len(looked_at) > 1:
                missed[1].append((values - guess)[_moved(rim, *move) & ~hole])
    shares = tuple(_share(each[region], found) for each, found in zip(looked_at, missed, strict=True))
    texture = np.abs(_texture(values, ~hole)[np.logical_or.reduce(places)])
    deviation = np.full(values.shape[-1], FLOOR, np.float32)
    if len(texture):
        deviation = np.maximum(1.4826 * np.median(texture, axis=0), FLOOR).astype(np.float32)
    return Surroundings(filled(values, ~hole)[region], shares, deviation)


def _share(pixels: npt.NDArray[np.bool_], missed: list[_Residuals]) -> _Share:
    """Return what predictions miss at the eight places, `(K, C)` each; `pixels` is for `_Share.pixels`."""
    together = np.concatenate(missed)
    if len(together) < _FEW:  # the region fills the image, and its surroundings say nothing
        nothing = np.zeros((len(_SHARES), together.shape[-1]), np.float32)
        return _Share(pixels, nothing, nothing[0] + np.float32(np.inf))
    quantiles = _quantiles(together)
    whole = [each for each in missed if len(each) >= 0.3 * np.count_nonzero(pixels)] or [together]
    return _Share(pixels, quantiles, np.median([_distance(_quantiles(each), quantiles) for each in whole], axis=0))


def compared(around: Surroundings, values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return contrast and levels of a region that shows `values`, `(K, C)`; the clearest channel counts."""
    residuals = values - around.predicted
    distances = [_distance(_quantiles(residuals[each.pixels]), each.missed) - each.usual for each in around.shares]
    levels = np.maximum(np.max(distances, axis=0), 0.0)
    contrast = levels / around.deviation
    best = int(np.argmax(contrast))
    return float(contrast[best]), float(levels[best])


def _quantiles(values: _Residuals) -> _Residuals:
    """Return the quantiles of each channel at `_SHARES`, `(32, C)`; numpy's own function takes ten times as long."""
    ordered = np.sort(values, axis=0)
    at = _SHARES * (len(values) - 1)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(ordered[low] + (ordered[high] - ordered[low]) * share, dtype=np.float32)


def _distance(a: _Residuals, b: _Residuals) -> _Residuals:
    """Return the Wasserstein distance of order 2 between two sets of quantiles, for each channel."""
    return np.asarray(np.sqrt(((a - b) ** 2).mean(axis=0)), dtype=np.float32)


def _texture(values: npt.NDArray[np.float32], known: Mask) -> _Residuals:
    """Return the image less its local average, which takes no part in what is not known."""
    weight = ndimage.gaussian_filter(known.astype(np.float32), FINE, truncate=3.0)[..., None]
    total = ndimage.gaussian_filter(values * known[..., None], (FINE, FINE, 0), truncate=3.0)
    return np.asarray(values - total / np.maximum(weight, 1e-3), dtype=np.float32)


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
    if abs(down) >= height or abs(across) >= width:
        return moved
    moved[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] = mask[
        max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)
    ]
    return moved
