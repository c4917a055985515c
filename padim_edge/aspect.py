"""The frame in the aspect of the good images, where the user names no size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from statistics import median_low

from padim_edge.datasets import Dataset
from padim_edge.datasets.items import first_size
from padim_edge.datasets.shapes import size_of
from padim_edge.levels import LOOKED_AT
from padim_edge_artifact.method import Method
from padim_edge_artifact.preprocessing import Levels

__all__ = ["MOST", "SHORTEST", "STEP", "frame_of", "with_aspect"]

STEP = 32
"""Pixels that each side of the frame is a multiple of: the coarsest stride of the usual backbones."""

SHORTEST = 64
"""Shortest side in pixels. Below it, zeros beyond the border reach every cell of the coarser layers."""

MOST = 1.25
"""Largest number of pixels, relative to the number wanted. Time and memory grow with it."""


def with_aspect(dataset: Dataset, method: Method, tell: Callable[[str], object] = lambda _: None) -> Method:
    """Return the method with its frame settled: its own size, or about as many pixels in the images' aspect.

    That of a camera's frames counts where the model resizes them itself. Otherwise it is the median of the good images.

    Args:
        dataset: Data set with good images.
        method: Method of the fit; `Preprocessing.keep_aspect` tells whether the images decide.
        tell: Called with a sentence where the frame is not square.
    """
    preprocessing = method.preprocessing
    if not preprocessing.keep_aspect:
        return method
    own = preprocessing.resize
    if preprocessing.camera is not None:
        whose, aspect = "the camera's frames", preprocessing.camera[1] / preprocessing.camera[0]
    else:
        whose, aspect = "the good images", _aspect_of(dataset, preprocessing.levels)
    size = frame_of(aspect, own[0] * own[1])
    if size[0] != size[1]:
        tell(
            f"{dataset.class_name}: the model's frame has {size[0]}x{size[1]} pixels (height x width), about the "
            f"aspect of {whose}; --size {own[0]} takes a square, --size HxW any other size"
        )
    # The smoothing belongs to the area: with as many pixels, it stays about the same.
    sigma = method.sigma * math.sqrt(size[0] * size[1]) / math.sqrt(own[0] * own[1])
    return method.changed(preprocessing=replace(preprocessing, resize=size, keep_aspect=False), sigma=sigma)


def frame_of(aspect: float, pixels: int) -> tuple[int, int]:
    """Choose (height, width): multiples of `STEP` near an aspect and near a number of pixels.

    A tenth more or less of the one counts as much as of the other.

    Args:
        aspect: Width / height of the images.
        pixels: Number of pixels wanted.
    """
    largest = max(MOST * pixels, SHORTEST**2)
    sides = range(SHORTEST, int(largest) // SHORTEST + 1, STEP)
    sizes = [size for size in product(sides, sides) if size[0] * size[1] <= largest]

    def misfit(size: tuple[int, int]) -> float:
        height, width = size
        return math.hypot(math.log(width / height / aspect), math.log(height * width / pixels))

    # The first of equals is the one nearest to a square.
    return min(sorted(sizes, key=lambda size: max(size) / min(size)), key=misfit)


def _aspect_of(dataset: Dataset, levels: Levels | None) -> float:
    """Return the median width / height of good images, spread evenly over all. At most one of them is decoded."""
    step = max(1, -(-len(dataset.good) // LOOKED_AT))
    found = []
    for item in dataset.good[::step]:
        if item.aspect is not None:
            found.append(item.aspect)
        elif item.file is not None and (size := size_of(item.file)) is not None:
            found.append(size[0] / size[1])
    if not found:
        width, height = first_size(dataset, levels) or (1, 1)
        return width / height
    return median_low(found)
