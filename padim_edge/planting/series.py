"""Many defects, spread evenly over kinds, extents and strengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from padim_edge.planting.canvas import scenery
from padim_edge.planting.plant import EXTENTS, KINDS, LIMITS, planted
from padim_edge.planting.values import Part, Pixels, Plant
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["check", "plants"]

_STEPS = (math.sqrt(2) - 1, math.sqrt(3) - 1, math.sqrt(5) - 2, math.sqrt(7) - 2)
"""Irrational steps for extent and strength, over images and over the plants of an image. Multiples of such numbers,
without their whole parts, fill the range evenly, whatever their number."""


def plants(
    frames: Iterable[tuple[int, Pixels]],
    per_image: int,
    seed: int,
    kinds: tuple[str, ...] = KINDS,
    extents: tuple[float, float] = EXTENTS,
    part: Part | None = None,
) -> Iterator[tuple[int, Plant]]:
    """Plant defects in good images.

    Plant j of image i depends on the seed, i, j, the image, kinds and extents only: neither on the order of the images
    nor on their number. Extents are spread evenly over their logarithms, strengths over 0 to 1.

    Args:
        frames: Number and pixels, `(H, W, 3)` uint8, of each good image.
        per_image: Number of plants in each image, one by one.
        seed: Random seed, 0 or more.
        kinds: Kinds of defect, some of `KINDS`.
        extents: Smallest and largest extent as shares of the shorter side.
        part: Function that finds the part, such as `part_of` returns; `None` plants everywhere.

    Yields:
        The number of the image, and the plant. Where a kind finds no room, the next one is tried.

    Raises:
        PadimEdgeError: A kind or an extent does not exist.
    """
    check(kinds, extents)
    low, high = extents
    for number, image in frames:
        scene = scenery(image, None if part is None else part(image))
        for index in range(per_image):
            found = None
            extent, strength = _spread(seed, number, index)
            first = _kind(len(kinds), number, index, seed)
            for attempt in range(len(kinds)):
                kind = kinds[(first + attempt) % len(kinds)]
                rng = np.random.default_rng([seed, number, index, attempt])
                found = planted(scene, kind, rng, extent=low * (high / low) ** extent, strength=strength)
                if found is not None:
                    yield number, found
                    break


def check(kinds: tuple[str, ...], extents: tuple[float, float]) -> None:
    """Raise PadimEdgeError for kinds or extents that do not exist."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise PadimEdgeError(
            f"there is no kind of defect {unknown[0]!r}, only {', '.join(KINDS)}; choose some of those"
            if unknown
            else f"no kind of defect is given, expected some of {', '.join(KINDS)}; name one or more"
        )
    low, high = extents
    if not LIMITS[0] <= low <= high <= LIMITS[1]:
        raise PadimEdgeError(
            f"the extents are {low:g} to {high:g}, expected shares of the side from {LIMITS[0]:g} to {LIMITS[1]:g}, "
            "the smaller one first; correct them"
        )


def _spread(seed: int, number: int, index: int) -> tuple[float, float]:
    """Return the places of extent and strength in their ranges, each in [0, 1)."""
    start = np.random.default_rng(seed).random(2)
    extent = (start[0] + number * _STEPS[0] + index * _STEPS[1]) % 1.0
    strength = (start[1] + number * _STEPS[2] + index * _STEPS[3]) % 1.0
    return float(extent), float(strength)


def _kind(count: int, number: int, index: int, seed: int) -> int:
    """Return the kind of a plant. From plant to plant and from image to image, all kinds come in turn."""
    stride = next(step for step in range(max(1, round(count * 0.618)), 2 * count + 2) if math.gcd(step, count) == 1)
    return (seed + number * stride + index) % count
