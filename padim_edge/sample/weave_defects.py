"""Defects of a cloth: one function for each kind.

Each takes `ease`, 0 to 1: a defect of 1 is obvious, one of 0 needs a second look.
A cover is `(S, S)` float32, 0 to 1: the share of each pixel that the defect changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from padim_edge.sample.field import Plane, Scene, blend, blot, cloud, grid, ramp, shifted, stroke, wander
from padim_edge.sample.light import Light
from padim_edge.sample.weave import THREADS, WARP, WEFT, Cloth

__all__ = ["FAULTS", "MARKS", "Fault", "Mark"]

Fault: TypeAlias = Callable[[Cloth, float, np.random.Generator], tuple[Cloth, Plane]]
"""Function that changes the cloth before it is drawn. Returns the changed cloth and the cover."""

Mark: TypeAlias = Callable[[Scene, Light, float, np.random.Generator], tuple[Scene, Plane]]
"""Function that changes the drawn cloth. Returns the new scene and the cover."""

_PITCH = 2.0 / THREADS
"""Width of a thread in image coordinates."""


def _between(low: float, high: float, share: float) -> float:
    """Return the value at `share` of the way from `low` to `high`."""
    return low + (high - low) * share


def _somewhere(rng: np.random.Generator, reach: float) -> tuple[float, float]:
    """Choose a point at random, at most `reach` from the middle along each side."""
    px, py = rng.uniform(-reach, reach, 2)
    return float(px), float(py)


def _crossing(cloth: Cloth, point: tuple[float, float]) -> tuple[int, int]:
    """Return the numbers of the warp and the weft thread that cross at a point of the image."""
    column, row = (int(np.clip((value + 1.0) / 2.0 * cloth.size, 0, cloth.size - 1)) for value in point)
    return int(np.floor(cloth.across[row, column])), int(np.floor(cloth.down[row, column]))


def _cut_thread(cloth: Cloth, ease: float, rng: np.random.Generator) -> tuple[Cloth, Plane]:
    """Cut one warp thread over some crossings. Its ends are frayed, and its neighbours lean into the gap."""
    column, row = _crossing(cloth, _somewhere(rng, 0.6))
    half = _between(1.6, 4.2, ease)
    fray = 0.25 * cloud(rng, cloth.size, 110)
    ends = ramp(np.abs(cloth.down - np.float32(row + 0.5)) + fray, half, half - 0.35)
    aside = cloth.across - np.float32(column + 0.5)
    mine = ramp(np.abs(aside), 0.56, 0.44)
    # Nothing holds the weft down here, so it lies flat across the gap.
    level = ramp(np.abs(aside), 1.0, 0.3) * ends
    lean = np.float32(0.12) * np.sign(aside) * ramp(np.abs(np.abs(aside) - 0.9), 0.7, 0.1) * ends
    changed = replace(
        cloth,
        across=cloth.across + lean,
        swing=cloth.swing * (1.0 - 0.8 * level),
        warp=cloth.warp * (1.0 - ends * mine),
    )
    moved = np.maximum(ramp(np.abs(lean), 0.01, 0.05), ramp(level, 0.02, 0.20))
    return changed, np.maximum(ramp(ends * mine, 0.0, 0.5), moved)


def _hole(cloth: Cloth, ease: float, rng: np.random.Generator) -> tuple[Cloth, Plane]:
    """Tear a hole: both threads are gone, the cloth around is pushed aside, and the dark table shows through."""
    px, py = _somewhere(rng, 0.7)
    radius = _between(0.055, 0.125, ease) * float(rng.uniform(0.9, 1.1))
    x, y = grid(cloth.size)
    x, y = x - np.float32(px), y - np.float32(py)
    shape = (radius, radius * float(rng.uniform(0.65, 1.0)))
    distance = blot(rng, x, y, shape, 0.22, float(rng.uniform(0.0, np.pi)))
    # Warp and weft break at different places. Where one ends early, the other still reaches into the hole.
    fray = 0.14 * cloud(rng, cloth.size, 80)
    gone_warp, gone_weft = ramp(distance + fray, 1.02, 0.92), ramp(distance - fray, 1.06, 0.96)
    around = ramp(distance, 1.5, 1.0)
    push = np.asarray(np.float32(0.35 / radius) * around / np.maximum(distance, 0.6), dtype=np.float32)
    changed = replace(
        cloth,
        across=cloth.across - x * push,
        down=cloth.down - y * push,
        warp=cloth.warp * (1.0 - gone_warp),
        weft=cloth.weft * (1.0 - gone_weft),
    )
    return changed, np.maximum(ramp(distance, 1.15, 1.05), ramp(around, 0.05, 0.25))


def _misweave(cloth: Cloth, ease: float, rng: np.random.Generator) -> tuple[Cloth, Plane]:
    """Exchange over and under in a block of crossings, or let one thread float over many of them."""
    column, row = _crossing(cloth, _somewhere(rng, 0.55))
    if rng.random() < 0.5:
        wide, high = 1.0, 2.0 * round(_between(2.0, 4.0, ease))
    else:
        wide, high = (float(round(_between(2.0, 4.0, ease))) for _ in range(2))
    across = np.abs(cloth.across - np.float32(column + wide / 2.0)) - np.float32(wide / 2.0)
    down = np.abs(cloth.down - np.float32(row + high / 2.0)) - np.float32(high / 2.0)
    # A soft border makes the threads lie flat between right and wrong instead of tearing.
    wrong = ramp(np.maximum(across, down), 0.10, -0.10)
    return replace(cloth, swing=cloth.swing * (1.0 - 2.0 * wrong)), wrong


def _foreign_fibre(scene: Scene, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Lay a hair or a coloured fibre on the cloth, in a loose curl with a thin shadow."""
    size = scene.shape[0]
    colours = np.array([(0.50, 0.035, 0.03), (0.02, 0.018, 0.016), (0.62, 0.52, 0.10), (0.03, 0.22, 0.09)])
    colour = colours[int(rng.integers(len(colours)))].astype(np.float32)
    length = _between(0.42, 0.95, ease) * float(rng.uniform(0.85, 1.15))
    heading = float(rng.uniform(-np.pi, np.pi))
    px, py = _somewhere(rng, 0.45)
    start = (px - 0.4 * length * float(np.cos(heading)), py - 0.4 * length * float(np.sin(heading)))
    points = wander(rng, start, heading, length, 0.22, 30)
    half = _between(0.0078, 0.0125, ease)
    lamp = (float(np.cos(light.azimuth)), float(np.sin(light.azimuth)))
    body = stroke(size, points, half)
    shadow = stroke(size, points - np.array(lamp) * 1.7 * half, half, softness=0.012) * np.float32(0.55)
    shine = stroke(size, points + np.array(lamp) * 0.35 * half, 0.3 * half)
    scene = blend(scene, (0.0, 0.0, 0.0), shadow)
    scene = blend(scene, 0.75 * colour, body * np.float32(0.95))
    return blend(scene, 0.85 * colour + 0.14, shine * np.float32(0.7)), np.maximum(body, shadow)


def _knot(scene: Scene, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Raise a twisted lump of yarn from the cloth, lit on the side of the lamp, with a shadow on the other."""
    px, py = _somewhere(rng, 0.75)
    size = scene.shape[0]
    yarn = (WARP if rng.random() < 0.5 else WEFT) * np.float32(1.1)
    long = _between(0.75, 1.45, ease) * _PITCH * float(rng.uniform(0.95, 1.15))
    high = long * float(rng.uniform(0.60, 0.85))
    turn = float(rng.uniform(0.0, np.pi))
    x, y = grid(size)
    x, y = x - np.float32(px), y - np.float32(py)
    distance = blot(rng, x, y, (long, high), 0.12, turn) + 0.07 * cloud(rng, size, 110)
    edge = 0.014 / high
    body = ramp(distance, 1.0 + edge / 2, 1.0 - edge / 2)
    dome = np.sqrt(np.clip(1.0 - distance * distance, 0.0, 1.0))
    cos, sin = np.float32(np.cos(light.azimuth)), np.float32(np.sin(light.azimuth))
    facing = np.clip((x * cos + y * sin) * np.float32(1.0 / long), -1.0, 1.0)
    wound = x * np.float32(np.cos(turn + 0.9)) + y * np.float32(np.sin(turn + 0.9))
    wraps = np.sin(wound * np.float32(2.0 * np.pi / (0.42 * _PITCH)) + 0.8 * cloud(rng, size, 12))
    brightness = (0.34 + 0.58 * dome + 0.38 * facing) * (1.0 + 0.13 * wraps + 0.06 * cloud(rng, size, 150))
    fall = 0.45 * high
    shadow = shifted(body, -fall * float(cos), -fall * float(sin)) * np.float32(0.6)
    scene = blend(scene, (0.0, 0.0, 0.0), shadow)
    scene = blend(scene, yarn * brightness[..., None], body)
    return scene, np.maximum(body, ramp(shadow, 0.0, 0.5))


def _stain(scene: Scene, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Soak the cloth with oil, coffee or ink: darker, with a soft rim where it dried; the weave still shows."""
    del light
    px, py = _somewhere(rng, 0.6)
    size = scene.shape[0]
    x, y = grid(size)
    radius = _between(0.13, 0.24, ease) * float(rng.uniform(0.9, 1.15))
    shape = (radius, radius * float(rng.uniform(0.65, 1.0)))
    distance = blot(
        rng, x - np.float32(px), y - np.float32(py), shape, 0.22, float(rng.uniform(0.0, np.pi))
    ) + 0.05 * cloud(rng, size, 40)
    soaked = ramp(distance, 1.10, 0.88)
    ring = np.exp(-(((distance - 0.92) / 0.08) ** 2))
    # Absorption in each channel: oil, coffee, ink.
    liquids = np.array([(0.70, 0.75, 0.95), (0.50, 1.00, 1.70), (1.20, 1.10, 0.45)], dtype=np.float32)
    liquid = liquids[int(rng.integers(len(liquids)))]
    density = soaked * (0.75 + 0.10 * cloud(rng, size, 12, 2) + 0.40 * ring) * np.float32(_between(0.62, 1.0, ease))
    return scene * np.exp(-np.maximum(density, 0.0)[..., None] * liquid), soaked


FAULTS: Mapping[str, Fault] = MappingProxyType({"cut_thread": _cut_thread, "hole": _hole, "misweave": _misweave})
"""Defects of the threads themselves."""

MARKS: Mapping[str, Mark] = MappingProxyType({"foreign_fibre": _foreign_fibre, "knot": _knot, "stain": _stain})
"""Defects on top of the cloth."""
