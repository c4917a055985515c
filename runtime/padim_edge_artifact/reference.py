"""The look of the good images in a few numbers; `padim_edge_model.comparable` compares images with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Reference", "Seen"]


@dataclass(frozen=True)
class Reference:
    """Mean thumbnail of the good images, and the ranges that they kept."""

    mean: str
    """Base64 of the mean thumbnail: `(h, w)` uint8 grey levels."""
    brightness: tuple[float, float]
    """Lowest and highest mean grey level of a good image, 0 to 255."""
    contrast: tuple[float, float]
    """Lowest and highest standard deviation of the grey levels of a good image's thumbnail."""
    shift: int
    """Largest translation of a good image against the mean, in patches along an axis."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Sums over the thumbnails of good images, which can be added up."""

    count: int
    """Number of images, 0 or more."""
    total: npt.NDArray[np.float64]
    """`(h, w)` sum of the thumbnails."""
    brightness: tuple[float, float]
    """Lowest and highest mean grey level; (inf, -inf) without images."""
    contrast: tuple[float, float]
    """Lowest and highest standard deviation of the grey levels; (inf, -inf) without images."""
    shift: int
    """Largest translation against the mean in patches; 0 until it is measured."""

    @classmethod
    def nothing(cls, grid: tuple[int, int]) -> Seen:
        """Return the sums over no image, the neutral element of the merge."""
        return cls(0, np.zeros(grid), (np.inf, -np.inf), (np.inf, -np.inf), 0)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """`(h, w)` mean thumbnail."""
        return self.total / max(self.count, 1)
