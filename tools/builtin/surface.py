"""Shared tools of all recipes: random choices, palettes, lamps, views of the plane, relief and warps.

Planes and positions are those of `padim_edge.sample.field`: `(S, S)` float32, image coordinates from -1 to 1. A
scene is `(S, S, 3)` float32 RGB as a screen shows it, 0 black and 1 white. Nothing here is in linear light.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge.sample.field import Plane, Scene, cloud, grid

__all__ = [
    "Lamp",
    "Palette",
    "between",
    "chance",
    "choose_lamp",
    "choose_palette",
    "colour",
    "glints",
    "log_between",
    "mirrored",
    "normals",
    "resized",
    "softened",
    "stretched",
    "tinted",
    "view",
    "warped",
]

_SHADES = 256
"""Number of entries in a table that turns a plane into colours."""


@dataclass(frozen=True)
class Palette:
    """Range of the colours in one image."""

    hue: float
    """Middle hue, 0 to 1 around the colour circle."""
    spread: float
    """Standard deviation of the hue, in turns of the colour circle."""
    saturation: float
    """Highest saturation, 0 to 1."""
    low: float
    """Lowest brightness, 0 to 1."""
    high: float
    """Highest brightness, 0 to 1."""


@dataclass(frozen=True)
class Lamp:
    """Direction of the light in one image, a unit vector."""

    x: float
    """Component to the right."""
    y: float
    """Component downwards."""
    z: float
    """Component towards the camera."""


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Choose a number from `low` to `high`, uniformly."""
    return low + (high - low) * float(rng.random())


def log_between(rng: np.random.Generator, low: float, high: float) -> float:
    """Choose a number from `low` to `high`, uniformly on a logarithmic scale."""
    return low * math.exp(math.log(high / low) * float(rng.random()))


def choose_palette(rng: np.random.Generator) -> Palette:
    """Choose a palette: a third of them almost grey, most of the others muted, some vivid."""
    kind = float(rng.random())
    if kind < 0.35:
        saturation = between(rng, 0.0, 0.14)
    elif kind < 0.87:
        saturation = between(rng, 0.15, 0.5)
    else:
        saturation = between(rng, 0.5, 1.0)
    low = between(rng, 0.0, 0.45)
    return Palette(
        # Browns, reds and yellows are more common than purples, in nature and in factories.
        hue=float(rng.normal(0.08, 0.09)) % 1.0 if chance(rng, 0.4) else float(rng.random()),
        spread=between(rng, 0.0, 0.06) if chance(rng, 0.65) else between(rng, 0.1, 0.5),
        saturation=saturation,
        low=low,
        high=between(rng, low + 0.25, 1.0) if chance(rng, 0.4) else 1.0,
    )


def colour(rng: np.random.Generator, palette: Palette) -> npt.NDArray[np.float32]:
    """Choose one colour of the palette, `(3,)` float32 RGB, 0 to 1."""
    hue = (palette.hue + palette.spread * float(rng.normal())) % 1.0
    saturation = palette.saturation * math.sqrt(float(rng.random()))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, between(rng, palette.low, palette.high)), dtype=np.float32)


def tinted(rng: np.random.Generator, plane: Plane, palette: Palette, contrast: float | None = None) -> Scene:
    """Turn a plane of values from 0 to 1 into colours along a random path through the palette.

    Args:
        rng: Generator of the path.
        plane: `(H, W)`, 0 to 1.
        palette: Range of the colours.
        contrast: Distance of the colours, 0 (one colour) to 1 (as far as the palette goes); random by default.
    """
    if contrast is None:
        contrast = 1.0 if chance(rng, 0.55) else log_between(rng, 0.06, 0.8)
    stops = 2 + int(rng.random() ** 2 * 4)
    colours = np.stack([colour(rng, palette) for _ in range(stops)])
    # Most paths go from dark to light, as reflected light does. The others may turn back.
    if chance(rng, 0.7):
        colours = colours[np.argsort(colours.sum(axis=1))]
        if chance(rng, 0.4):
            colours = colours[::-1]
    if stops == 2 and contrast == 1.0 and abs(float(colours[0].sum() - colours[1].sum())) < 0.45:
        colours[1] = 1.0 - colours[1] if chance(rng, 0.5) else colours[1] * 0.35
    colours = colours[0] + (colours - colours[0]) * np.float32(contrast)
    places = np.concatenate([[0.0], np.sort(rng.random(stops - 2)), [1.0]])
    steps = np.linspace(0.0, 1.0, _SHADES)
    table = np.stack([np.interp(steps, places, colours[:, band]) for band in range(3)], axis=1).astype(np.float32)
    picked = np.clip(plane * np.float32(_SHADES - 1), 0, _SHADES - 1).astype(np.intp)
    return np.take(table, picked, axis=0)


def view(rng: np.random.Generator, size: int, bent: float = 0.4) -> tuple[Plane, Plane]:
    """Return a view of the plane: turned, moved, sometimes slanted, tilted or bent image coordinates.

    Args:
        rng: Generator of the view.
        size: Side of the image in pixels.
        bent: Probability of a smooth displacement.

    Returns:
        Two planes `(size, size)`. Lengths stay about those of image coordinates.
    """
    x, y = grid(size)
    angle = between(rng, -math.pi, math.pi)
    if chance(rng, 0.3):
        # Machined parts often lie at right angles.
        angle = round(angle / (math.pi / 4)) * (math.pi / 4) + between(rng, -0.04, 0.04)
    cosine, sine = math.cos(angle), math.sin(angle)
    u = x * cosine + y * sine + between(rng, -1.0, 1.0)
    v = y * cosine - x * sine + between(rng, -1.0, 1.0)
    if chance(rng, 0.2):
        u = u + v * between(rng, -0.8, 0.8)
    if chance(rng, 0.15):
        tilt = 1.0 / (1.0 + between(rng, 0.15, 0.6) * (x if chance(rng, 0.5) else y))
        u, v = u * tilt, v * tilt
    if chance(rng, bent):
        cells = int(log_between(rng, 3, 14))
        strength = log_between(rng, 0.02, 0.35) / cells * 2.0
        u = u + cloud(rng, size, cells) * strength
        v = v + cloud(rng, size, cells) * strength
    return u, v


def stretched(plane: Plane) -> Plane:
    """Scale a plane to the range from 0 to 1."""
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) * (1.0 / max(high - low, 1e-6))


def resized(plane: Plane, size: int) -> Plane:
    """Return a plane with another number of pixels along each side, with bicubic interpolation."""
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def softened(plane: Plane, width: float) -> Plane:
    """Blur a plane roughly over `width` pixels. It is cheap, because it goes through a smaller plane."""
    height, breadth = plane.shape
    small = (max(2, round(breadth / max(width, 1.0))), max(2, round(height / max(width, 1.0))))
    reduced = Image.fromarray(plane).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(reduced.resize((breadth, height), Image.Resampling.BICUBIC), dtype=np.float32)


def choose_lamp(rng: np.random.Generator) -> Lamp:
    """Choose a lamp at any side, from grazing to almost overhead."""
    azimuth, elevation = between(rng, -math.pi, math.pi), between(rng, 0.3, 1.35)
    flat = math.cos(elevation)
    return Lamp(math.cos(azimuth) * flat, math.sin(azimuth) * flat, math.sin(elevation))


def normals(height: Plane) -> tuple[Plane, Plane, Plane]:
    """Return the unit normals of a relief: x, y and z planes.

    Args:
        height: `(H, W)`, height above the image in pixels. Slopes then do not depend on the size.
    """
    down = np.empty_like(height)
    right = np.empty_like(height)
    down[1:-1] = (height[2:] - height[:-2]) * 0.5
    down[0], down[-1] = height[1] - height[0], height[-1] - height[-2]
    right[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * 0.5
    right[:, 0], right[:, -1] = height[:, 1] - height[:, 0], height[:, -1] - height[:, -2]
    z = 1.0 / np.sqrt(1.0 + right * right + down * down)
    return -right * z, -down * z, z


def glints(normal: tuple[Plane, Plane, Plane], lamp: Lamp, power: float) -> tuple[Plane, Plane]:
    """Return matt and glossy reflection, two planes from 0 to 1. A level surface has a matt light of `lamp.z`.

    Args:
        normal: From `normals`.
        lamp: Direction of the light.
        power: Sharpness of the gloss, about 4 (satin) to 100 (lacquer).
    """
    nx, ny, nz = normal
    matt = np.maximum(nx * lamp.x + ny * lamp.y + nz * lamp.z, 0.0)
    half = math.sqrt(2.0 + 2.0 * lamp.z)
    towards = np.maximum((nx * lamp.x + ny * lamp.y + nz * (lamp.z + 1.0)) * (1.0 / half), 1e-3)
    return matt, towards ** np.float32(power)


def mirrored(rng: np.random.Generator, normal: tuple[Plane, Plane, Plane]) -> Plane:
    """Return the reflections of polished metal, 0 to 1: bright and dark bands of a random room, by the slope."""
    angle = between(rng, -math.pi, math.pi)
    slope = normal[0] * math.cos(angle) + normal[1] * math.sin(angle)
    knots = int(between(rng, 4, 12))
    room = np.interp(np.linspace(0.0, 1.0, _SHADES), np.linspace(0.0, 1.0, knots), rng.random(knots) ** 1.5)
    picked = np.clip((slope * 0.5 + 0.5) * (_SHADES - 1), 0, _SHADES - 1).astype(np.intp)
    return np.take(room.astype(np.float32), picked)


def warped(scene: Scene, right: Plane, down: Plane) -> Scene:
    """Take every pixel from another place, with linear interpolation; edges repeat.

    Args:
        scene: `(S, S, 3)`.
        right: `(S, S)`, distance to the right that the pixel comes from, in pixels.
        down: `(S, S)`, distance below that it comes from, in pixels.
    """
    size = scene.shape[0]
    axis = np.arange(size, dtype=np.float32)
    x = np.clip(axis + right, 0.0, size - 1.01)
    y = np.clip(axis[:, None] + down, 0.0, size - 1.01)
    column, row = x.astype(np.intp), y.astype(np.intp)
    a, b = (x - column)[..., None], (y - row)[..., None]
    flat = scene.reshape(-1, 3)
    first = row * size + column
    upper = np.take(flat, first, axis=0)
    upper += (np.take(flat, first + 1, axis=0) - upper) * a
    lower = np.take(flat, first + size, axis=0)
    lower += (np.take(flat, first + size + 1, axis=0) - lower) * a
    upper += (lower - upper) * b
    return upper
