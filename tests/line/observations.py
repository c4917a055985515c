"""Drawn observations of good images, and what changes do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from padim_edge_line.drift import Change, Monitor, Observation

__all__ = ["GRID", "changed", "darker", "drawn", "fed", "learned"]

GRID = (56, 56)
Alter = Callable[[Observation, int], Observation]


def drawn(count: int, seed: int = 0, *, start: int = 0, steady: float = 0.0) -> Iterator[Observation]:
    """Good images one microsecond apart.

    Args:
        count: Number of images.
        seed: Seed of the draw.
        start: Time of the first one.
        steady: Correlation of the lamp from one image to the next.
    """
    rng = np.random.default_rng(seed)
    lamp = 0.0
    for number in range(count):
        lamp = steady * lamp + (1 - steady**2) ** 0.5 * rng.standard_normal()
        part = 0.1 * rng.standard_normal()
        regions = 1.5 + part + 0.05 * rng.standard_normal(16)
        yield Observation(
            good=True,
            score=float(np.exp(2.3 + part + 0.1 * rng.gumbel())),
            regions=tuple(regions.tolist()),
            brightness=140 + 1.4 * lamp,
            contrast=90 + 0.7 * rng.standard_normal(),
            shift=(int(rng.random() < 0.05), 0),
            time=start + number,
        )


def darker(seen: Observation, number: int) -> Observation:
    """Let the exposure fall by 15 % within 200 images, and the distances rise with it."""
    factor = 1 - 0.15 * min(number, 200) / 200
    regions = tuple(region + 2 * (1 - factor) for region in seen.regions)
    return replace(
        seen,
        brightness=factor * seen.brightness,
        contrast=factor * seen.contrast,
        score=seen.score * (3 - 2 * factor),
        regions=regions,
    )


def learned(seed: int = 1, *, steady: float = 0.0) -> Monitor:
    """A monitor with a baseline, and some good images behind it."""
    monitor = Monitor("digest", GRID)
    assert not fed(monitor, drawn(600, seed, steady=steady))
    assert monitor.learned == 500
    return monitor


def fed(monitor: Monitor, images: Iterator[Observation]) -> list[tuple[int, Change]]:
    """Give images to a monitor; return what it tells with the number of the image, 1 for the first."""
    return [(number, change) for number, seen in enumerate(images, 1) for change in monitor.add(seen)]


def changed(alter: Alter, count: int = 200, seed: int = 2) -> Iterator[Observation]:
    """Images after a change."""
    for number, seen in enumerate(drawn(count, seed, start=10_000), 1):
        yield alter(seen, number)
