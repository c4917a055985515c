"""Pieces that are out of place: shifted, turned and bent. Their strength is how far they moved.

A piece moves without its background, and what it leaves is filled from around, so that it shows once and not twice.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from padim_edge.planting.canvas import Canvas, Colours, Drawn
from padim_edge.planting.filling import filled
from padim_edge.planting.marks import Draw
from padim_edge.planting.solids import grained
from padim_edge.sample.field import Plane, cloud, ramp

__all__ = ["PIECES"]


def _sampled(planes: Colours, rows: Plane, columns: Plane) -> Colours:
    """Return `(S, S, C)` read at fractional pixels `rows, columns`, with the spline that keeps edges sharp."""
    at = np.stack([rows, columns])
    read = [ndimage.map_coordinates(planes[..., c], at, order=1, mode="nearest") for c in range(planes.shape[-1])]
    return np.stack(read, axis=-1)


def _moved(canvas: Canvas, rng: np.random.Generator, piece: Plane, shift: tuple[float, float], turn: float) -> Drawn:
    """Take a piece out, fill the place, and lay it down elsewhere.

    Args:
        canvas: The window.
        rng: Generator of the noise in the filled place.
        piece: `(S, S)`, cover of the piece, 0 to 1.
        shift: Distance in pixels, down and to the right.
        turn: Angle in radians.
    """
    size = canvas.size
    middle = (size - 1) / 2
    down, across = (axis.astype(np.float32) - np.float32(middle) for axis in np.indices((size, size)))
    down, across = down - np.float32(shift[0]), across - np.float32(shift[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    rows, columns = down * cos - across * sin + middle, down * sin + across * cos + middle
    part = canvas.part.astype(np.float32)
    body = (
        piece * ndimage.gaussian_filter(part, canvas.scenery.softness)
        if canvas.scenery.background is not None
        else piece
    )
    stack = np.concatenate([canvas.pixels, body[..., None]], axis=-1)
    landed = _sampled(stack, rows.astype(np.float32), columns.astype(np.float32))
    taken = body > 0.05
    if canvas.scenery.background is not None:
        left = grained(canvas, rng, canvas.behind)
        left = canvas.pixels + (left - canvas.pixels) * np.minimum(1.0, 1.4 * body)[..., None]
    else:
        left = np.where(taken[..., None], filled(canvas.pixels, ~taken), canvas.pixels)
    alpha = landed[..., 3:]
    full = left + (landed[..., :3] - left) * alpha
    return Drawn(np.clip(full, 0, 255), np.maximum(body, alpha[..., 0]), fades=False)


def _shifted(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Push a piece of the part aside. It broke off along two or more nearly straight lines."""
    sides = int(rng.integers(4, 7))
    angles = (np.arange(sides) + rng.uniform(0.2, 0.8, sides)) * (2 * np.pi / sides)
    x, y = canvas.axes
    crooked = 0.06 * cloud(rng, canvas.size, max(4, round(5 / canvas.radius)), 2)
    lines = [
        (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(canvas.radius * reach)
        for angle, reach in zip(angles, rng.uniform(0.5, 0.8, sides), strict=True)
    ]
    distance = np.max(lines, axis=0) + crooked
    soft = canvas.soft / canvas.radius
    piece = ramp(distance, 1.0 + soft / 2, 1.0 - soft / 2)
    way, angle = 0.4 * strength * canvas.radius * canvas.size / 2, float(rng.uniform(0.0, 2 * np.pi))
    return _moved(canvas, rng, piece, (way * np.sin(angle), way * np.cos(angle)), 0.0)


def _turned(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Turn a round piece of the part in its place."""
    x, y = canvas.axes
    distance = np.asarray(np.hypot(x, y) / canvas.radius, dtype=np.float32)
    soft = canvas.soft / canvas.radius
    piece = ramp(distance, 1.0, 1.0 - soft)
    turn = float(rng.choice([-1.0, 1.0])) * strength * float(rng.uniform(0.6, 1.5))
    return _moved(canvas, rng, piece, (0.0, 0.0), turn)


def _bent(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Bend the part: the middle of the window moves aside, its edge stays, and all between follows."""
    x, y = canvas.axes
    distance = np.hypot(x, y) / canvas.radius
    pull = np.where(distance < 1.0, (1.0 - np.minimum(distance, 1.0) ** 2) ** 2, 0.0)
    angle = float(rng.uniform(0.0, 2 * np.pi))
    # Below 0.65 of the radius the image does not fold over itself: the slope of the profile is at most 1.54.
    way = 0.5 * strength * canvas.radius * canvas.size / 2
    rows, columns = np.indices(x.shape).astype(np.float32)
    full = _sampled(canvas.pixels, rows - way * np.sin(angle) * pull, columns - way * np.cos(angle) * pull)
    return Drawn(full, np.asarray(pull > 0.02, dtype=np.float32), fades=False)


PIECES: dict[str, Draw] = {"shifted": _shifted, "turned": _turned, "bent": _bent}
"""Kinds of defect that move what is there."""
