"""The square window of an image in which one defect is drawn.

A window has the coordinates of the sample's drawing code: -1 to 1 from left to right and from top to bottom. So defects
are drawn with the same tools, and cost what their own size costs, not what the image's does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.filling import filled
from padim_edge.planting.values import Mask, Pixels
from padim_edge.sample.field import Plane, grid

__all__ = ["Canvas", "Colours", "Drawn", "Scenery", "cut", "scenery"]

Colours = npt.NDArray[np.float32]
"""`(S, S, 3)` float32, RGB in grey levels, 0 to 255."""


@dataclass(frozen=True, eq=False)
class Scenery:
    """An image before anything is planted, and what all plants in it need to know of it."""

    image: Pixels
    """`(H, W, 3)` uint8."""
    part: Mask
    """`(H, W)` bool, True on the part."""
    background: npt.NDArray[np.float32] | None
    """`(3,)`, median colour of the background in grey levels; `None` where the part fills the image."""
    grey: bool
    """Whether the three channels are equal."""
    softness: float
    """Standard deviation of the lens blur in pixels, as the image's own edges show it; 0.5 to 1.5."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """Window of an image to draw in."""

    pixels: Colours
    """`(S, S, 3)`, the image; mirrored where the window leaves it."""
    part: Mask
    """`(S, S)`, True on the part; False outside the image."""
    scenery: Scenery
    """The whole image."""
    radius: float
    """Half the extent of the defect in window coordinates, in (0, 1)."""
    light: float
    """Direction of the lamp in radians."""

    @property
    def size(self) -> int:
        """Side of the window in pixels."""
        return len(self.part)

    @property
    def pixel(self) -> float:
        """Side of a pixel in window coordinates."""
        return 2.0 / self.size

    @property
    def soft(self) -> float:
        """Width of an edge as the lens draws it, in window coordinates."""
        return 2.0 * self.scenery.softness * self.pixel

    @cached_property
    def axes(self) -> tuple[Plane, Plane]:
        """X and y of all pixels in window coordinates."""
        return grid(self.size)

    @cached_property
    def inside(self) -> Plane:
        """`(S, S)`, how far a pixel belongs to the part, 0 to 1, with an edge as soft as the lens."""
        return self._softened(ndimage.binary_erosion(self.part, border_value=1))

    @cached_property
    def beyond(self) -> Plane:
        """`(S, S)`, `inside` of a part that is a little larger. What takes a piece away takes its soft edge, too."""
        return self._softened(ndimage.binary_dilation(self.part, iterations=1 + math.ceil(self.scenery.softness)))

    def _softened(self, mask: Mask) -> Plane:
        if mask.all():
            return np.ones(mask.shape, np.float32)
        return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), 0.6, truncate=2.0))

    @cached_property
    def smooth(self) -> Colours:
        """`(S, S, 3)`, the image without its texture."""
        sigma = max(1.5, 0.25 * self.radius * self.size / 2)
        return np.asarray(ndimage.gaussian_filter(self.pixels, (sigma, sigma, 0), truncate=2.0))

    @cached_property
    def behind(self) -> Colours:
        """`(S, S, 3)`, the background continued behind the part; a dark cavity where the image has no background."""
        background = self.scenery.background
        if background is None:
            return np.asarray(0.25 * np.quantile(self.pixels, 0.1, axis=(0, 1)) + np.zeros_like(self.pixels))
        # The edge of the part is a mixture of both, so it is not the background yet.
        known = ~ndimage.binary_dilation(self.part, iterations=1 + math.ceil(2 * self.scenery.softness))
        if known.mean() < 0.02:
            return np.asarray(background + np.zeros_like(self.pixels))
        return filled(self.pixels, known)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A defect on a canvas."""

    full: Colours
    """`(S, S, 3)`, the image where the defect is as plain as can be."""
    cover: Plane
    """`(S, S)`, share of each pixel that the defect covers, 0 to 1."""
    gap: bool = False
    """Whether it takes a piece of the part away, up to its edge, and the background shows."""
    fades: bool = True
    """Whether a fainter defect is a mixture of `full` and the image. Otherwise `full` is drawn for its strength."""


def scenery(image: Pixels, part: Mask | None) -> Scenery:
    """Look at an image once, for all plants in it."""
    whole = np.ones(image.shape[:2], np.bool_) if part is None else part
    beside = ~ndimage.binary_dilation(whole, iterations=3)
    background = np.median(image[beside], axis=0).astype(np.float32) if beside.mean() > 0.01 else None
    grey = bool((image[..., :1] == image[..., 1:]).all())
    return Scenery(image, whole, background, grey, _softness(image))


def _softness(image: Pixels) -> float:
    """Estimate the standard deviation of the lens blur from the steepest edges, in pixels.

    A step of height h that a Gaussian blurred has the slope h / (sigma sqrt(2 pi)); h is the range nearby.
    """
    plane = image[..., 1].astype(np.float32)
    rows, columns = (max(1, side // 512) for side in plane.shape)
    across = np.abs(plane[::rows, 2:] - plane[::rows, :-2]) / 2.0
    steep = np.quantile(across, 0.998)
    where = np.argwhere(across >= max(steep, 4.0))[:: max(1, columns)][:200]
    if not len(where):
        return 0.7
    heights = []
    for row, column in where:
        line = plane[row * rows, max(0, column - 6) : column + 9]
        heights.append((float(line.max()) - float(line.min())) / max(float(across[row, column]), 1.0))
    return float(np.clip(np.median(heights) / math.sqrt(2 * math.pi), 0.5, 1.5))


def cut(scene: Scenery, centre: tuple[int, int], extent: float, light: float) -> tuple[Canvas, tuple[int, int]]:
    """Cut the window around a defect out of an image.

    Args:
        scene: The image.
        centre: Row and column of the defect's centre.
        extent: Size of the defect in pixels.
        light: Direction of the lamp in radians.

    Returns:
        The canvas, and row and column of its first pixel, which may lie outside the image.
    """
    half = math.ceil(0.72 * extent + 3 * scene.softness + 3)
    top, left = centre[0] - half, centre[1] - half
    rows, columns = np.arange(top, top + 2 * half), np.arange(left, left + 2 * half)
    height, width = scene.part.shape
    at = np.ix_(_mirrored(rows, height), _mirrored(columns, width))
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))
    part = scene.part[at] & ~outside
    return Canvas(scene.image[at].astype(np.float32), part, scene, extent / (2 * half), light), (top, left)


def _mirrored(places: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Bring places outside 0 to size - 1 back inside, as if the image went on mirrored."""
    folded = places % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
