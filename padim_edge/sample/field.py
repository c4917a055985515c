"""Tools to draw on planes: image coordinates, smooth noise, soft steps, blots and strokes.

Every plane is `(S, S)` float32. Positions are image coordinates: x to the right and y downwards, both from -1 to 1.
So an image looks the same at every size, and one pixel is `2 / S` wide.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Plane", "Points", "Scene", "blend", "blot", "cloud", "grid", "ramp", "shifted", "stroke", "wander"]

Plane: TypeAlias = npt.NDArray[np.float32]
"""`(S, S)` float32."""

Points: TypeAlias = npt.NDArray[np.float64]
"""`(K, 2)` float64, x and y in image coordinates."""

Scene: TypeAlias = npt.NDArray[np.float32]
"""`(S, S, 3)` float32, RGB, linear light; 0 is black, and 1 is the brightest value that the sensor records."""


def grid(size: int) -> tuple[Plane, Plane]:
    """Return x and y of all pixel centres, each `(size, size)` float32 in (-1, 1)."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def ramp(value: Plane, low: float, high: float) -> Plane:
    """Return a smooth step from 0 at `low` to 1 at `high`; it falls where `high < low`."""
    t = np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def cloud(rng: np.random.Generator, size: int, cells: int, octaves: int = 1) -> Plane:
    """Return smooth noise of mean about 0 and standard deviation about 1.

    The random values sit on a coarse lattice that does not depend on `size`. So the same generator gives the same cloud
    at every image size.

    Args:
        rng: Generator of the lattice values.
        size: Side of the plane in pixels.
        cells: Number of lattice points along a side; a bump is about `2 / cells` wide in image coordinates.
        octaves: Number of layers; each is twice as fine and half as strong as the one before.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        lattice = rng.standard_normal((cells << octave, cells << octave), dtype=np.float32)
        smooth = Image.fromarray(lattice).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(smooth, dtype=np.float32) * np.float32(0.5**octave)
    return total


def blot(
    rng: np.random.Generator,
    x: Plane,
    y: Plane,
    radius: tuple[float, float],
    roughness: float,
    turn: float = 0.0,
) -> Plane:
    """Return the distance from an irregular ellipse around the origin of `x, y`: 0 in the middle, 1 on its edge.

    Args:
        rng: Generator of the irregularity.
        x: Horizontal distance from the middle.
        y: Vertical distance from the middle.
        radius: Half axes in image coordinates.
        roughness: Deviation of the edge, as a share of the radius; about 0.1 to 0.4.
        turn: Angle of the first axis in radians.
    """
    along = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) * np.float32(1.0 / radius[0])
    aside = (y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))) * np.float32(1.0 / radius[1])
    distance = np.sqrt(along * along + aside * aside)
    # The outline is a sum of waves around the middle. A lattice of noise would favour some directions. Powers of the
    # unit pointer give all waves without an arc tangent for each pixel.
    pointer = ((along + 1j * aside) / np.maximum(distance, 1e-6)).astype(np.complex64)
    outline = np.zeros_like(distance)
    wave = pointer
    for order in range(2, 8):
        wave = wave * pointer
        cosine, sine = rng.normal(0.0, 1.6 / order**1.5, 2)
        outline += wave.real * np.float32(cosine) + wave.imag * np.float32(sine)
    # Bounded, so that no draw makes the blot vanish or doubles it.
    return np.asarray(distance / (1.0 + np.float32(roughness) * np.clip(outline, -1.6, 1.6)), dtype=np.float32)


def stroke(size: int, points: Points, half_width: npt.ArrayLike, softness: float = 0.0) -> Plane:
    """Return the coverage, 0 to 1, of an anti-aliased line through `points`.

    Args:
        size: Side of the plane in pixels.
        points: `(K, 2)` corners of the line in image coordinates.
        half_width: Half the width of the line in image coordinates, one value or one per corner.
        softness: Width of the blurred edge in image coordinates; never less than one pixel.
    """
    cover = np.zeros((size, size), np.float32)
    pixel = 2.0 / size
    edge = max(pixel, softness)
    widths = np.broadcast_to(np.asarray(half_width, dtype=np.float64), (len(points),))
    # Each segment changes only the window around it, so a line with many corners stays cheap.
    for (x0, y0), (x1, y1), w0, w1 in zip(points[:-1], points[1:], widths[:-1], widths[1:], strict=True):
        reach = max(w0, w1) + edge
        left, right = (int(np.clip(value, 0, size)) for value in _span(x0, x1, reach, pixel))
        top, bottom = (int(np.clip(value, 0, size)) for value in _span(y0, y1, reach, pixel))
        if left >= right or top >= bottom:
            continue
        across = ((np.arange(left, right) + 0.5) * pixel - 1.0 - x0).astype(np.float32)
        down = ((np.arange(top, bottom) + 0.5) * pixel - 1.0 - y0).astype(np.float32)[:, None]
        dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
        t = np.clip((across * dx + down * dy) / np.float32(dx * dx + dy * dy + 1e-12), 0.0, 1.0)
        distance = np.hypot(across - t * dx, down - t * dy)
        inside = 0.5 + (np.float32(w0) + np.float32(w1 - w0) * t - distance) * np.float32(1.0 / edge)
        window = cover[top:bottom, left:right]
        np.maximum(window, np.clip(inside, 0.0, 1.0), out=window)
    return cover


def _span(start: float, stop: float, reach: float, pixel: float) -> tuple[float, float]:
    """Return the first and the one-past-last pixel of a stretch of image coordinates."""
    low, high = min(start, stop) - reach, max(start, stop) + reach
    return np.floor((low + 1.0) / pixel), np.ceil((high + 1.0) / pixel)


def wander(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, turn: float, corners: int
) -> Points:
    """Return a line that changes its direction at random: `(corners, 2)` from `start`, `length` long along the way.

    Args:
        rng: Generator of the changes of direction.
        start: First corner in image coordinates.
        heading: First direction in radians.
        length: Length along the line in image coordinates.
        turn: Standard deviation of the turn at each corner in radians; small for a curl, large for a jagged line.
        corners: Number of corners, at least 2.
    """
    headings = heading + np.cumsum(rng.normal(0.0, turn, corners - 1))
    steps = rng.uniform(0.6, 1.4, corners - 1) * (length / (corners - 1))
    legs = np.stack([np.cos(headings) * steps, np.sin(headings) * steps], axis=1)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(legs, axis=0)])


def shifted(plane: Plane, dx: float, dy: float) -> Plane:
    """Move a plane by `(dx, dy)` in image coordinates, to the nearest pixel; zeros come in. Used for shadows."""
    size = plane.shape[0]
    right, down = round(dx * size / 2), round(dy * size / 2)
    moved = np.zeros_like(plane)
    moved[max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)] = plane[
        max(-down, 0) : size - max(down, 0), max(-right, 0) : size - max(right, 0)
    ]
    return moved


def blend(scene: Scene, paint: npt.ArrayLike, alpha: Plane) -> Scene:
    """Lay `paint` (`(3,)` or `(S, S, 3)`) over the scene with the opacity `alpha`, 0 to 1."""
    return scene + (np.asarray(paint, dtype=np.float32) - scene) * alpha[..., None]
