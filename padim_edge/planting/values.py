"""Values that planting returns: a plant, and how far a region stands out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Mask", "Measured", "Part", "Pixels", "Plant"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8, RGB; grey images have three equal channels."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""`(H, W)` bool."""

Part: TypeAlias = Callable[[Pixels], Mask]
"""Function from an image to a mask of the same height and width, True on the part."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Size of a region and how far it stands out, measured from image and mask alone."""

    extent: float
    """Feret diameter: largest distance between two pixels of the region, both included, in pixels of the image."""
    contrast: float
    """Distance from what the surroundings let expect, in deviations of the local texture; 0 or more."""
    levels: float
    """The same distance in grey levels, 0 to 255."""
    area: float
    """Number of pixels of the region. A thin scratch and a stain of the same extent are not equally easy to find."""


@dataclass(frozen=True, eq=False)
class Plant:
    """A good image with one defect drawn into it."""

    kind: str
    """Kind of the defect, one of `KINDS`."""
    image: Pixels
    """`(H, W, 3)` uint8, image with the defect."""
    mask: Mask
    """`(H, W)` bool, pixels of the defect; never empty."""
    measured: Measured
    """Size and contrast of the defect, measured on the finished image."""
    place: tuple[float, float]
    """Centre of the mask as (row, column) in shares of height and width, 0 to 1."""
