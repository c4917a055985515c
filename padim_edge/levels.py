"""The range of the good images' pixel values where they have more than 8 bits a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from padim_edge.datasets import Dataset, Item
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime.pixel_values import NARROW, Extent, range_words
from padim_edge_runtime.prefetch import decoded

__all__ = ["LOOKED_AT", "range_of", "tell_misfit", "with_levels"]

LOOKED_AT = 256
"""Number of images that are looked at, spread evenly over all. Of images of 8 bits, only the headers are read."""

_BITS = (8, 10, 12, 14, 16)
"""Bits that cameras have."""
_FEWEST = 2
"""Smallest number of images that tell a range narrower than their container's."""
_UNLIKE = 16
"""An image that is this many times as bright as the median one is of another format."""

_STATE = "state the range with --levels MIN:MAX, such as --levels 0:1023 for 10 bits (levels=(0, 1023) in Python)"


def with_levels(dataset: Dataset, method: Method, tell: Callable[[str], object] = lambda _: None) -> Method:
    """Return the method with a range of values: its own, or else one that the good images show.

    Images of 8 bits a channel need none. For the others it is 0 to the end of the fewest bits that hold all their
    values, of 8, 10, 12, 14 and 16; or 0 to 1 for floats inside of it.

    Args:
        dataset: Data set with good images.
        method: Method of the fit.
        tell: Called with a sentence where the range was taken from the images, or does not fit them.

    Raises:
        PadimEdgeError: The images do not tell their range.
    """
    if method.preprocessing.levels is not None:
        tell_misfit(dataset, method.preprocessing.levels, tell)
        return method
    found = _extents(dataset.good)
    if not found:
        return method
    levels = range_of(found, dataset.class_name)
    kind = "floating-point numbers" if found[0].ceiling is None else f"{found[0].ceiling.bit_length()} bits a channel"
    tell(
        f"{dataset.class_name}: the good images hold {kind} with values up to {max(e.highest for e in found):.6g};"
        f" {range_words(levels)} is taken as the range of the camera, and --levels MIN:MAX sets another one"
    )
    return method.changed(preprocessing=replace(method.preprocessing, levels=levels))


def tell_misfit(dataset: Dataset, levels: Levels, tell: Callable[[str], object]) -> None:
    """Tell a sentence where good images reach beyond a range, or fill little of it."""
    found = _extents(dataset.good)
    if not found:
        return
    lowest, highest = min(each.lowest for each in found), max(each.highest for each in found)
    values = f"{dataset.class_name}: the good images hold values from {range_words((lowest, highest))}"
    given = f"{range_words(levels)}, the range that was given"
    if lowest < levels[0] or highest > levels[1]:
        tell(f"{values}; those outside of {given}, are clipped")
    elif (highest - levels[0]) * _UNLIKE <= levels[1] - levels[0]:
        tell(f"{values}, so little of {given}, that few grey levels are left")


def _extents(items: Sequence[Item]) -> list[Extent]:
    """Measure the images of more than 8 bits a channel; unreadable ones are the fit's to report."""
    step = max(1, -(-len(items) // LOOKED_AT))

    def measured(item: Item) -> Extent | None:
        return None if item.stored is None else item.stored.extent()

    return [each for _, each in decoded(items[::step], measured) if isinstance(each, Extent)]


def range_of(extents: Sequence[Extent], name: str) -> Levels:
    """Return the range that these images show.

    Args:
        extents: Lowest and highest values of images of more than 8 bits a channel, at least one.
        name: Stands for the images in errors.

    Raises:
        PadimEdgeError: They do not tell their range.
    """
    lowest, highest = min(each.lowest for each in extents), max(each.highest for each in extents)
    values = f"{name}: the good images hold values from {range_words((lowest, highest))}"
    if any(each.ceiling is None for each in extents):
        if lowest < 0 or highest > 1 or not all(each.ceiling is None for each in extents):
            raise PadimEdgeError(f"{values}, not only floating-point numbers from 0 to 1; {_STATE}")
        return 0.0, 1.0
    if lowest < 0 or highest >= 1 << _BITS[-1]:
        raise PadimEdgeError(f"{values}, expected 0 to 65535; {_STATE}")
    usual = median(each.highest for each in extents)
    if usual * _UNLIKE < highest:
        raise PadimEdgeError(
            f"{values}, but half of them end at {usual:.6g}, as if of another camera or format; leave the odd ones "
            f"out, or {_STATE}"
        )
    end = next((1 << bits) - 1 for bits in _BITS if highest < 1 << bits)
    if highest * NARROW < end + 1:
        raise PadimEdgeError(f"{values}, which are too dark to tell the range of the camera; {_STATE}")
    if len(extents) < _FEWEST and any(each.narrow for each in extents):
        raise PadimEdgeError(f"{values}, and one image of more than 8 bits does not tell its range; {_STATE}")
    return 0.0, float(end)
