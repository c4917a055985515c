"""The look of the good images in a few numbers; `padim_edge_model.comparable` compares images with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.schema import MOST_IMAGES, Distance, Number, Several, Text, Whole, check

__all__ = ["Likeness", "Reference", "Seen"]

_Grey: TypeAlias = Annotated[float, Number(0, 255)]
_Plane: TypeAlias = Annotated[str, Text(6_000_000, "[A-Za-z0-9+/]*={0,2}", "base64")]
_Images: TypeAlias = Annotated[int, Whole(0, MOST_IMAGES)]
_Sum: TypeAlias = Annotated[float, Number(0, 1e15)]


@dataclass(frozen=True)
class Reference:
    """Mean thumbnail of the good images, and the ranges that they kept."""

    mean: _Plane
    """Base64 of the mean thumbnail: `(h, w)` uint8 grey levels."""
    brightness: tuple[_Grey, _Grey]
    """Lowest and highest mean grey level of a good image, 0 to 255."""
    contrast: tuple[_Grey, _Grey]
    """Lowest and highest standard deviation of the grey levels of a good image's thumbnail."""
    shift: Annotated[int, Whole(0, 16384)]
    """Largest translation of a good image against the mean, in patches along an axis."""
    deviation: _Plane = ""
    """Base64 of the standard deviation of each patch in the thumbnails: `(h, w)` uint8 in quarters of a grey level.
    Empty in models without it."""
    turned: Annotated[tuple[Distance, ...], Several(0, 3)] = ()
    """Leans towards the mean thumbnail turned by 90, 180 and 270 degrees above which an image counts as turned. 0 where
    a turn cannot be told; empty in models without them."""
    unlike: Distance = 0.0
    """Lower quartile of the patch distances above which an image is unlike the good ones; 0 where it is not known."""


@dataclass(frozen=True)
class Likeness:
    """Sums over good images that were compared with the model, which can be added up."""

    leaning: _Images = 0
    """Number of images whose leans were measured."""
    leans: tuple[_Sum, _Sum, _Sum] = (0.0, 0.0, 0.0)
    """Sums of the squared leans towards the mean thumbnail turned by 90, 180 and 270 degrees."""
    judged: _Images = 0
    """Number of images whose patch distances outside the fit were measured."""
    logs: Annotated[float, Number(-1e12, 1e12)] = 0.0
    """Sum of the logarithms of the lower quartiles of their patch distances."""
    highest: Distance = 0.0
    """Highest lower quartile of the patch distances."""

    def __post_init__(self) -> None:
        check(self)


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
    squares: npt.NDArray[np.float64]
    """`(h, w)` sum of the squares of the thumbnails."""
    likeness: Likeness = Likeness()
    """Sums of the second pass."""

    @classmethod
    def nothing(cls, grid: tuple[int, int]) -> Seen:
        """Return the sums over no image, the neutral element of the merge."""
        return cls(0, np.zeros(grid), (np.inf, -np.inf), (np.inf, -np.inf), 0, np.zeros(grid))

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """`(h, w)` mean thumbnail."""
        return self.total / max(self.count, 1)

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """`(h, w)` standard deviation of the thumbnails."""
        variance = self.squares / max(self.count, 1) - self.mean**2
        return np.asarray(np.sqrt(variance.clip(0)))
