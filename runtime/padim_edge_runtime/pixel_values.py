"""Pixel values of more than 8 bits a channel: what they reach, and how they become 8 bits.

A container of 16 bits says little about the signal inside. Many cameras write 10 or 12 bits into it, so that the
container's own range would leave 4 or 16 grey levels. The range of the signal is therefore stored with a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError
from padim_edge_artifact.preprocessing import Levels

__all__ = ["REMEDY", "DeepPixels", "Extent", "eight_bits", "of_array", "range_words"]

REMEDY = "export or fit with --levels MIN:MAX, such as --levels 0:1023 for 10 bits"
"""Next step for a user whose images have an unknown range."""

NARROW = 4
"""An image whose values stay below this part of its container may come from a camera of fewer bits."""
DIM = 16
"""An image that stays below this part of the model's range is worth a note."""

_WORDS = 65_536
"""Number of values of 16 bits."""
_CONTAINERS = (4095, 65_535)
"""Ceilings of containers whose own range may be taken for that of the signal: 12 and 16 bits without a sign."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Extent:
    """Lowest and highest value of an image of more than 8 bits a channel."""

    lowest: float
    """Smallest value."""
    highest: float
    """Largest value. Where zero is white, both are counted from the end of the container that they lie at."""
    ceiling: int | None
    """Largest value that the container holds; `None` for floats."""

    @property
    def narrow(self) -> bool:
        """Whether the values may be of a camera of fewer bits than the container has."""
        return self.ceiling is not None and self.highest * NARROW < self.ceiling + 1


@dataclass(frozen=True, eq=False)
class DeepPixels:
    """Pixels of more than 8 bits a channel, as they are stored."""

    values: npt.NDArray[Any]
    """`(H, W)` or `(H, W, 3)`, whole numbers or floats; finite."""
    ceiling: int | None
    """Largest value that the container holds; `None` for floats."""
    white_is_zero: bool = False
    """Whether the lowest value is white."""

    @property
    def extent(self) -> Extent:
        """Lowest and highest value."""
        lowest, highest = float(self.values.min()), float(self.values.max())
        if self.white_is_zero and self.ceiling is not None and self.ceiling - lowest < highest:
            lowest, highest = self.ceiling - highest, self.ceiling - lowest
        return Extent(lowest, highest, self.ceiling)


def of_array(
    values: npt.NDArray[Any], name: str, *, ceiling: int | None = None, white_is_zero: bool = False
) -> DeepPixels:
    """Check numbers and name their container.

    Args:
        values: `(H, W)` or `(H, W, 3)`, whole numbers of more than 8 bits or floats.
        name: Stands for the image in errors.
        ceiling: Largest value that the container holds; `None` takes that of the array's type.
        white_is_zero: Whether the lowest value is white.

    Raises:
        ImageError: A float is infinite or no number.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ImageError(
                f"{name} holds values that are infinite or no numbers, expected finite ones; correct or leave out the "
                "image"
            )
        return DeepPixels(values, None, white_is_zero)
    return DeepPixels(values, int(np.iinfo(values.dtype).max) if ceiling is None else ceiling, white_is_zero)


def range_words(levels: Levels) -> str:
    """Return a range in words: `0 to 1023`."""
    return f"{levels[0]:.6g} to {levels[1]:.6g}"


def eight_bits(pixels: DeepPixels, levels: Levels | None, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Scale pixel values to 0 to 255, rounded, and say what was done beyond the usual.

    Args:
        pixels: The stored values.
        levels: Range of the signal; `None` takes that of the container.
        name: Stands for the image in errors.

    Raises:
        ImageError: The range is not given, and the container does not tell it; or the values are of another kind than
            the range.
    """
    extent = pixels.extent
    if levels is None:
        levels, ceiling = _of_container(extent, name)
        notes: tuple[str, ...] = (f"{ceiling.bit_length()} bits a pixel were scaled to 8",)
    else:
        _check_kind(extent, levels, name)
        notes = _remarks(pixels, extent, levels)
    flipped_at = _flipped_at(pixels, levels)
    scaled = np.empty(pixels.values.shape, np.uint8)
    for part, out in zip(_bands(pixels.values), _bands(scaled), strict=True):
        if part.dtype == np.uint16:
            out[:] = np.take(_table(levels, flipped_at), part)
        else:
            out[:] = _scaled(part, levels, flipped_at)
    return scaled, notes


def _of_container(extent: Extent, name: str) -> tuple[Levels, int]:
    """Return the range of a container, and its ceiling."""
    if extent.ceiling is None or extent.ceiling not in _CONTAINERS:
        raise ImageError(
            f"{name} holds {_kind(extent)} from {range_words((extent.lowest, extent.highest))}, whose range is not "
            f"known; expected 8 or 16 bits a channel without a sign, or {REMEDY}"
        )
    if extent.narrow:
        raise ImageError(
            f"{name} has {extent.ceiling.bit_length()} bits a pixel, but its values end at {extent.highest:g}, as of a "
            f"camera of fewer bits or in the dark, and the range of its signal is not known; {REMEDY}"
        )
    return (0.0, float(extent.ceiling)), extent.ceiling


def _check_kind(extent: Extent, levels: Levels, name: str) -> None:
    """Refuse floats from 0 to 1 where larger numbers are expected, and whole numbers where such floats are."""
    shares = extent.ceiling is None and 0 <= extent.lowest <= extent.highest <= 1
    if (shares and levels[1] > 1) or (extent.ceiling is not None and levels[1] <= 1):
        raise ImageError(
            f"{name} holds {_kind(extent)} from {range_words((extent.lowest, extent.highest))}, but the range of the "
            f"model is {range_words(levels)}; bring the image to that range, or {REMEDY}"
        )


def _kind(extent: Extent) -> str:
    return "floating-point numbers" if extent.ceiling is None else "whole numbers"


def _flipped_at(pixels: DeepPixels, levels: Levels) -> float | None:
    """Return the sum of a stored value and the value it means where zero is white; `None` where zero is black."""
    if not pixels.white_is_zero:
        return None
    # Some writers count from the end of the container, others from the end of the signal.
    if pixels.ceiling is not None and float(pixels.values.max()) > levels[1]:
        return float(pixels.ceiling)
    return levels[0] + levels[1]


def _remarks(pixels: DeepPixels, extent: Extent, levels: Levels) -> tuple[str, ...]:
    """Return notes on values outside of the range, and on an image that fills little of it."""
    lowest, highest = levels
    if extent.lowest < lowest or extent.highest > highest:
        flipped_at, count = _flipped_at(pixels, levels), 0
        for part in _bands(pixels.values):
            values = part if flipped_at is None else flipped_at - part.astype(np.float64)
            count += int(np.count_nonzero((values < lowest) | (values > highest)))
        outside = 100 * count / pixels.values.size
        return (f"{outside:.3g} % of the values lie outside of {range_words(levels)} and were clipped",)
    if (extent.highest - lowest) * DIM <= highest - lowest:
        low = f"the values end at {extent.highest:.6g}, far below {highest:.6g}, the end of the model's range"
        return (f"{low}; check that the camera writes the same format as for the good images",)
    return ()


@lru_cache(maxsize=8)
def _table(levels: Levels, flipped_at: float | None) -> Pixels:
    """Return `(65536,)` the 8-bit value of each value of 16 bits."""
    table = _scaled(np.arange(_WORDS, dtype=np.float64), levels, flipped_at)
    table.setflags(write=False)
    return table


def _scaled(values: npt.NDArray[Any], levels: Levels, flipped_at: float | None) -> Pixels:
    lowest, highest = levels
    numbers = values.astype(np.float64)
    if flipped_at is not None:
        numbers = flipped_at - numbers
    numbers = (numbers - lowest) * 255 / (highest - lowest) + 0.5
    return np.clip(numbers, 0, 255).astype(np.uint8)


def _bands(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Cut an image into bands of rows, so that the numbers in between take little memory."""
    step = max(1, _WORDS * len(values) // max(1, values.size))
    return [values[start : start + step] for start in range(0, len(values), step)]
