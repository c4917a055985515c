"""Pieces that are out of place: shifted, turned and bent. Their strength is how far they moved.

A piece moves without its background, and what it leaves is filled from around, so that it shows once and not twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.canvas import Canvas, Colours, Drawn
from padim_edge.planting.filling import filled
from padim_edge.planting.marks import Draw
from padim_edge.planting.solids import grained
from padim_edge.sample.field import Plane, cloud, ramp

__all__ = ["PIECES"]


def _sampled(planes: Colours, rows: npt.ArrayLike, columns: npt.ArrayLike) -> Colours:
    """Return `(S, S, C)` read at fractional pixels `rows, columns`, by linear interpolation."""
    at = np.stack([np.asarray(rows), np.asarray(columns)])
    read = [ndimage.map_coordinates(planes[..., c], at, order=1, mode="nearest") for c in range(planes.shape[-1])]
    return np.stack(read, axis=-1)


def _moved(
    canvas: Canvas, rng: np.random.Generator, piece: Plane, rows: npt.ArrayLike, columns: npt.ArrayLike
) -> Drawn:
    """Take a piece out, fill the place, and lay it down elsewhere.

    Args:
        canvas: The window.
        rng: Generator of the noise in the filled place.
        piece: `(S, S)`, cover of the piece, 0 to 1.
        rows: `(S, S)`, row that each pixel of the moved piece came from.
        columns: `(S, S)`, likewise.
    """
    has_background = canvas.scenery.background is not None
    body = piece * canvas.inside if has_background else piece
    landed = _sampled(np.concatenate([canvas.pixels, body[..., None]], axis=-1), rows, columns)
    alpha = landed[..., 3:]
    taken = piece * canvas.beyond if has_background else piece
    behind = grained(canvas, rng, canvas.behind) if has_background else filled(canvas.pixels, piece < 0.05)
    # Only what the piece does not cover any more is filled, so that a piece that stays leaves no outline.
    bare = np.clip(1.4 * (taken[..., None] - alpha) - 0.2, 0.0, 1.0)
    left = canvas.pixels + (behind - canvas.pixels) * bare
    full = left + (landed[..., :3] - left) * alpha
    return Drawn(np.clip(full, 0, 255), np.maximum(taken, alpha[..., 0]), fades=False)


def _unmoved(canvas: Canvas, piece: Plane) -> Drawn:
    """Return the image as it is; the place of the piece is that of a defect of strength 0."""
    return Drawn(canvas.pixels, piece, fades=False)


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
    if strength == 0:
        return _unmoved(canvas, piece)
    rows, columns = np.indices(piece.shape)
    return _moved(canvas, rng, piece, rows - way * np.sin(angle), columns - way * np.cos(angle))


def _turned(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Turn a round piece of the part in its place."""
    x, y = canvas.axes
    distance = np.asarray(np.hypot(x, y) / canvas.radius, dtype=np.float32)
    soft = canvas.soft / canvas.radius
    piece = ramp(distance, 1.0, 1.0 - soft)
    turn = float(rng.choice([-1.0, 1.0])) * strength * float(rng.uniform(0.6, 1.5))
    if strength == 0:
        return _unmoved(canvas, piece)
    cos, sin, middle = np.cos(turn), np.sin(turn), (canvas.size - 1) / 2
    down, across = (axis - middle for axis in np.indices(piece.shape))
    return _moved(canvas, rng, piece, down * cos - across * sin + middle, down * sin + across * cos + middle)


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
