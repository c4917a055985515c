"""Defects on the surface: scratch, crack, stain, dirt, texture and smear.

Each function draws on a canvas and returns the defect as plain as can be; `strength` is for those that change shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.canvas import Canvas, Colours, Drawn
from padim_edge.sample.field import Plane, Points, blot, cloud, ramp, stroke, wander

__all__ = ["MARKS", "Draw", "darker", "outline", "tinted"]

_MOST_STEPS = 32
"""Largest number of images that are averaged to draw one out."""

Draw: TypeAlias = Callable[[Canvas, np.random.Generator, float], Drawn]
"""Function that draws a defect of a strength from 0 to 1."""


def darker(canvas: Canvas, rng: np.random.Generator, liking: float) -> bool:
    """Choose whether a mark is darker or lighter than what it lies on; `liking` is the wish for dark, 0 to 1."""
    level = float(canvas.pixels[canvas.part].mean()) if canvas.part.any() else float(canvas.pixels.mean())
    # What is nearly black cannot get darker, and what is nearly white cannot get lighter.
    return bool(rng.random() < np.clip(liking + (level - 110.0) / 110.0, 0.02, 0.98))


def tinted(canvas: Canvas, rng: np.random.Generator, spread: float) -> npt.NDArray[np.float32]:
    """Return factors on the three channels about 1, `(3,)`: warm or cold, and all equal on a grey image."""
    warmth = float(rng.uniform(-0.4, 1.0)) * spread
    return np.ones(3, np.float32) if canvas.scenery.grey else np.array([1 + warmth, 1, 1 - warmth], np.float32)


def outline(canvas: Canvas, rng: np.random.Generator, shape: tuple[float, float], roughness: float) -> Plane:
    """Return the distance from an irregular ellipse at the middle: 0 in the middle and 1 on its edge."""
    x, y = canvas.axes
    # `blot` lets its edge swing outwards by 1.6 times the roughness at most.
    radius = canvas.radius / (1.0 + 0.8 * roughness)
    return blot(rng, x, y, (radius * shape[0], radius * shape[1]), roughness, float(rng.uniform(0.0, np.pi)))


def _edged(canvas: Canvas, distance: Plane, width: float) -> Plane:
    """Return 1 inside an outline and 0 outside, with an edge as soft as the lens."""
    soft = canvas.soft / (canvas.radius * width)
    return ramp(distance, 1.0 + soft / 2, 1.0 - soft / 2)


def _line(canvas: Canvas, rng: np.random.Generator, turn: float, corners: int) -> Points:
    """Return a line through the middle whose ends are the canvas's extent apart."""
    points = wander(rng, (0.0, 0.0), float(rng.uniform(0.0, 2 * np.pi)), 1.0, turn, corners)
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    span = math.dist(points[0], points[-1])
    reach = max(span, float(np.hypot(*(np.ptp(points, axis=0)))) * 0.75)
    return np.asarray(points * (2.0 * canvas.radius / reach), dtype=np.float64)


def _thin(canvas: Canvas, points: Points, widths: npt.NDArray[np.float64]) -> Plane:
    """Return the cover of a line of `widths` pixels, one value for each corner, blurred as the lens does."""
    cover = stroke(canvas.size, points, np.maximum(widths, 0.15) * canvas.pixel / 2)
    return np.asarray(ndimage.gaussian_filter(cover, canvas.scenery.softness * 0.8, truncate=3.0), dtype=np.float32)


def _scratch(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Draw one long groove, or two side by side, of varying depth: light or dark, and thin at its ends."""
    del strength
    corners = 24
    points = _line(canvas, rng, float(rng.uniform(0.01, 0.07)), corners)
    extent = canvas.radius * canvas.size
    thick = float(rng.uniform(0.8, 1.3)) * (1.0 + extent / 60.0)
    along = np.linspace(0.0, 1.0, corners)
    taper = np.minimum(1.0, 5.0 * np.minimum(along, 1.0 - along) + 0.25)
    depth = np.clip(1.0 + 0.35 * np.convolve(rng.standard_normal(corners), np.ones(3) / 1.7, "same"), 0.3, 1.4)
    cover = _thin(canvas, points, thick * taper * depth)
    if extent > 14 and rng.random() < 0.35:
        direction = points[-1] - points[0]
        aside = np.array([-direction[1], direction[0]]) / np.hypot(*direction)
        first, last = sorted(rng.choice(corners, 2, replace=False))
        if last - first > 5:
            second = points[first:last] + aside * canvas.pixel * float(rng.uniform(2.5, 5.0))
            cover = np.maximum(cover, 0.7 * _thin(canvas, second, (thick * 0.7 * depth)[first:last]))
    cover = cover / max(float(cover.max()), 1e-6)
    if darker(canvas, rng, 0.4):
        return Drawn(canvas.pixels * 0.08, cover)
    return Drawn(canvas.pixels + (250.0 - canvas.pixels) * np.float32(0.92), cover)


def _crack(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Draw a jagged dark line that gets thinner towards one end, sometimes with branches."""
    del strength
    extent = canvas.radius * canvas.size
    corners = int(np.clip(extent / 4.0, 6, 28))
    points = _line(canvas, rng, 0.38, corners)
    thick = float(rng.uniform(0.8, 1.5)) * (1.0 + extent / 45.0)
    widths = thick * np.linspace(1.0, 0.25, corners) * rng.uniform(0.6, 1.3, corners)
    cover = _thin(canvas, points, widths)
    for _ in range(int(rng.integers(0, 3)) if extent > 16 else 0):
        at = int(rng.integers(1, corners - 2))
        way = points[at + 1] - points[at]
        heading = math.atan2(way[1], way[0]) + float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.4, 1.1))
        length = canvas.radius * float(rng.uniform(0.2, 0.6))
        side = wander(rng, (points[at, 0], points[at, 1]), heading, length, 0.35, 6)
        cover = np.maximum(cover, 0.9 * _thin(canvas, side, widths[at] * np.linspace(0.8, 0.2, 6)))
    cover = cover / max(float(cover.max()), 1e-6)
    if darker(canvas, rng, 0.75):
        return Drawn(canvas.pixels * 0.06, cover)
    return Drawn(canvas.pixels + (245.0 - canvas.pixels) * np.float32(0.8), cover)


def _stain(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Soak or bleach the surface: its texture stays, the edge is soft, and what dried last is the strongest."""
    del strength
    shape = (1.0, float(rng.uniform(0.55, 1.0)))
    distance = outline(canvas, rng, shape, 0.22)
    cells = max(3, round(6.0 / canvas.radius))
    soft = max(0.12, canvas.soft / canvas.radius)
    rim = float(rng.uniform(0.0, 0.5)) * np.exp(-(((distance - 0.9) / max(0.09, soft / 2)) ** 2))
    density = ramp(distance, 1.0 + soft, 1.0 - 2 * soft) * (0.8 + 0.12 * cloud(rng, canvas.size, cells) + rim)
    cover = np.clip(density / 1.2, 0.0, 1.0).astype(np.float32)
    tint = tinted(canvas, rng, 0.45)
    if darker(canvas, rng, 0.55):
        return Drawn(np.clip(canvas.pixels * np.float32(0.12) * tint, 0, 255), cover)
    lighter = np.maximum(np.float32(250.0) * np.minimum(tint, 1.0) - canvas.pixels, 0) * np.float32(0.9)
    return Drawn(np.asarray(canvas.pixels + lighter, dtype=np.float32), cover)


def _dirt(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Scatter grains of dirt or dust: irregular, of many sizes, close together; sometimes a fibre among them."""
    del strength
    extent = canvas.radius * canvas.size
    x, y = canvas.axes
    cover = np.zeros((canvas.size, canvas.size), np.float32)
    count = 1 if extent < 7 else int(rng.integers(2, 4 + min(12, int(extent / 4))))
    first = float(rng.uniform(0.0, 2 * np.pi))
    for number in range(count):
        away = canvas.radius * (0.0 if count == 1 else float(rng.uniform(0.0, 0.85)) if number > 1 else 0.75)
        # The first two lie opposite to each other and give the cluster its extent.
        angle = first + np.pi * number if number < 2 else float(rng.uniform(0.0, 2 * np.pi))
        size = canvas.radius * (0.8 if count == 1 else float(rng.uniform(0.08, 0.3)) * (1.0 - 0.4 * away))
        size = max(size, 0.7 * canvas.pixel)
        shape = (size, size * float(rng.uniform(0.5, 1.0)))
        px, py = np.float32(away * np.cos(angle)), np.float32(away * np.sin(angle))
        distance = blot(rng, x - px, y - py, shape, 0.25, float(rng.uniform(0.0, np.pi)))
        soft = canvas.soft / size
        cover = np.maximum(cover, ramp(distance, 1 + soft / 2, 1 - soft / 2) * np.float32(rng.uniform(0.6, 1.0)))
    if extent > 16 and rng.random() < 0.35:
        fibre = wander(rng, (-0.6 * canvas.radius, 0.0), float(rng.uniform(-0.6, 0.6)), 1.4 * canvas.radius, 0.25, 14)
        cover = np.maximum(cover, 0.8 * _thin(canvas, fibre, np.full(14, 1.1)))
    colour = np.float32(28.0 if darker(canvas, rng, 0.6) else 225.0) * tinted(canvas, rng, 0.3)
    grain = 1.0 + 0.15 * cloud(rng, canvas.size, max(4, canvas.size // 3))
    return Drawn(np.clip(colour * grain[..., None] + 0.15 * (canvas.pixels - canvas.smooth), 0, 255), cover)


def _texture(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Lay a foreign texture over the image's own, of the same mean: brushed in one direction, grainy, or mottled."""
    del strength
    distance = outline(canvas, rng, (1.0, float(rng.uniform(0.5, 1.0))), 0.2)
    cover = ramp(distance, 1.0, 0.8)
    style, turn = int(rng.integers(3)), float(rng.uniform(0.0, 180.0))
    grain = canvas.pixel * canvas.scenery.softness * float(rng.uniform(2.0, 3.5))
    if style == 2:
        grain = max(grain, 0.2 * canvas.radius)
    pattern = cloud(rng, canvas.size, max(4, round(2.0 / grain)))
    if style == 0:
        pattern = _drawn_out(pattern[..., None], turn, round(canvas.radius * canvas.size / 3))[..., 0]
    # The mean and the deviation are those inside the patch, which may be small.
    total = max(float(cover.sum()), 1e-6)
    pattern = pattern - float((pattern * cover).sum()) / total
    pattern = pattern / max(math.sqrt(float((pattern**2 * cover).sum()) / total), 1e-6)
    level = canvas.smooth
    room = np.minimum(level + 25.0, 280.0 - level).clip(20.0, 42.0)
    pattern = ndimage.gaussian_filter(np.clip(pattern, -1.5, 1.5), 0.6 * canvas.scenery.softness)
    return Drawn(np.clip(0.5 * level + 0.5 * canvas.pixels + room * pattern[..., None], 0, 255), cover)


def _smear(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Wipe something over the surface: its texture is drawn out in one direction, under a thin streaky film."""
    del strength
    size, turn = canvas.size, float(rng.uniform(0.0, 180.0))
    x, y = canvas.axes
    cos, sin = np.float32(np.cos(np.deg2rad(turn))), np.float32(np.sin(np.deg2rad(turn)))
    along, aside = (x * cos + y * sin) / canvas.radius, (y * cos - x * sin) / canvas.radius
    width = float(rng.uniform(0.25, 0.5))
    wave = 0.12 * cloud(rng, size, max(3, round(3 / canvas.radius)))
    soft = max(0.08, canvas.soft / canvas.radius)
    cover = ramp(np.abs(aside + wave), width + soft, width - soft) * ramp(np.abs(along + wave), 1.0, 0.6)
    lines = cloud(rng, size, max(8, size // 2))
    streaks = _drawn_out(lines[..., None], turn, round(canvas.radius * size * 0.8))[..., 0]
    streaks = streaks / max(float(streaks.std()), 1e-6)
    wiped = _drawn_out(canvas.pixels, turn, round(canvas.radius * size * 0.35))
    film = np.float32(-70.0 if darker(canvas, rng, 0.5) else 70.0) * (0.8 + 0.22 * streaks)
    return Drawn(np.clip(wiped + film[..., None] * tinted(canvas, rng, 0.12), 0, 255), cover)


def _drawn_out(pixels: Colours, turn: float, length: int) -> Colours:
    """Blur along one direction, over `length` pixels."""
    size = pixels.shape[0]
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    steps = np.linspace(-0.5, 0.5, max(2, min(_MOST_STEPS, length))) * max(1, length)
    axis = np.arange(size)
    total = np.zeros_like(pixels)
    for step in steps:
        rows = np.clip(axis + round(step * sin), 0, size - 1)
        columns = np.clip(axis + round(step * cos), 0, size - 1)
        total += pixels[np.ix_(rows, columns)]
    return total / np.float32(len(steps))


MARKS: dict[str, Draw] = {
    "scratch": _scratch,
    "crack": _crack,
    "stain": _stain,
    "dirt": _dirt,
    "texture": _texture,
    "smear": _smear,
}
"""Kinds of defect on the surface."""
