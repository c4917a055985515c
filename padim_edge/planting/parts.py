"""Separation of part and background in images of parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from padim_edge.planting.values import Mask, Part, Pixels

__all__ = ["part_of"]

_SIDE = 128
"""Longer side in pixels of the reduced image that is looked at."""
_ASKED = 24
"""Largest number of images that decide whether there is a background."""
_CLEAR = 0.72
"""Least share of the variance that the difference of part and background explains. A single bell curve, cut in the
middle, has 2 / pi = 0.64."""
_BORDER = 0.35
"""Largest share of the image's border that the part may cover."""


def part_of(images: Iterable[Pixels]) -> Part:
    """Return the function that finds the part in images like these.

    The background is what looks like the image's border and is connected with it. Where most of the images have no such
    background, such as those of cloth, the part is everywhere.

    Args:
        images: Good images, `(H, W, 3)` uint8. Of a sequence about two dozen are looked at, all of an iterator.
    """
    asked = images[:: max(1, len(images) // _ASKED)] if isinstance(images, Sequence) else images
    found = [_found(image) is not None for image in asked]
    return partial(_part, background=2 * sum(found) > len(found))


def _part(image: Pixels, *, background: bool) -> Mask:
    """Return the part of one image; all True without background."""
    # Where images like this one have a background, one that shows it less clearly has one, too.
    found = _found(image) or _found(image, clearly=False) if background else None
    if found is None:
        return np.ones(image.shape[:2], np.bool_)
    coarse, colour, threshold = found
    height, width = image.shape[:2]
    grown = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    # The reduced image knows where the part is, the image itself knows where exactly its edge runs.
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (0.7, 0.7, 0))
    far = np.abs(smooth - colour).max(axis=-1) > threshold
    return np.asarray((grown > 0.98) | ((grown > 0.02) & far))


def _found(image: Pixels, *, clearly: bool = True) -> tuple[Mask, npt.NDArray[np.float32], float] | None:
    """Return the part in a reduced image, the background's colour and how far the part is from it at least.

    Returns `None` where there is no background, or no clear one if it has to be.
    """
    height, width = image.shape[:2]
    share = min(1.0, _SIDE / max(height, width))
    size = (max(8, round(width * share)), max(8, round(height * share)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), dtype=np.float32)
    small = ndimage.gaussian_filter(small, (0.7, 0.7, 0))
    border = np.ones(small.shape[:2], np.bool_)
    border[3:-3, 3:-3] = False
    colour = np.median(small[border], axis=0)
    distance = np.abs(small - colour).max(axis=-1)
    threshold, clear = _otsu(distance)
    far = distance > threshold
    # Something that is as frequent at the border as elsewhere is a texture and no part.
    if far[border].mean() > min(_BORDER, 0.5 * far[~border].mean()) or (clearly and clear < _CLEAR):
        return None
    # The edge of a part is about half way between the background and the part's plainest places. What parts its own
    # pixels best is taken near there, because that also leaves out shadows.
    plainest = float(np.quantile(distance[far], 0.8))
    threshold = float(np.clip(_otsu(distance[far])[0], 0.5 * plainest, 0.7 * plainest))
    far = ndimage.binary_closing(np.pad(distance > threshold, 3), iterations=2)[3:-3, 3:-3]
    names, count = ndimage.label(ndimage.binary_fill_holes(far))
    sizes = np.bincount(names.ravel(), minlength=count + 1)[1:]
    if not count:
        return None
    part = np.isin(names, 1 + np.flatnonzero(sizes >= max(1, sizes.max() // 5)))
    return (part, colour, threshold) if 0.01 <= part.mean() <= 0.97 else None


def _otsu(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the threshold that parts values into two groups best, and the share of variance that it explains."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.nan_to_num(below * above * gap**2)
    best = int(np.argmax(between))
    variance = float(values.var()) * float(values.size) ** 2
    return float(edges[best + 1]), float(between[best] / variance) if variance else 0.0
