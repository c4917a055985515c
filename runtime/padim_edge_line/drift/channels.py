"""The channels in which a change is looked for: numbers of an image, each with a meaning in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_line.drift.observation import SIDE, Observation

__all__ = ["CHANNELS", "KINDS", "LIGHT", "PLACE", "REGION", "SCORES", "SPREAD", "Channel", "values_of"]

Float64 = npt.NDArray[np.float64]

LIGHT, PLACE, REGION, SCORES = "light", "place", "region", "scores"
KINDS = (LIGHT, PLACE, REGION, SCORES)
"""Kinds of changes. The first two are causes of the others, which are not told while one of them lasts."""


@dataclass(frozen=True)
class Channel:
    """One number of an image."""

    name: str
    """Name of the number."""
    kind: str
    """One of `KINDS`."""
    room: float
    """Difference that means nothing, in the channel's unit, however alike the first images are."""


CHANNELS = (
    Channel("brightness", LIGHT, 0.5),
    Channel("contrast", LIGHT, 0.3),
    Channel("x", PLACE, 0.0),
    Channel("y", PLACE, 0.0),
    Channel("level", SCORES, 0.01),
    Channel("score", SCORES, 0.01),
    Channel("spread", SCORES, 0.01),
    *(Channel(f"region {i}", REGION, 0.01) for i in range(SIDE * SIDE)),
)
"""All channels in their order. Distances are logarithms; `level` is that of the typical region, and each region's is
the difference from it."""

SPREAD = 6
"""Index of the channel `spread`, which is the distance of the score from the typical one."""


def values_of(observation: Observation) -> Float64:
    """Return the values `(C,)` of an image; `spread` is left 0, since it depends on the typical score."""
    regions = np.zeros(SIDE * SIDE)
    regions[: len(observation.regions)] = observation.regions
    level = float(np.median(observation.regions))
    score = math.log(max(observation.score, 1e-6))
    light = (observation.brightness, observation.contrast)
    return np.array([*light, *observation.shift, level, score, 0.0, *(regions - level)])
