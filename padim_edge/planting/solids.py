"""Defects of the body: chip, hole, dent, break and missing piece.

Where the image has a background, it shows in a gap; elsewhere a gap is a dark cavity.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from padim_edge.planting.canvas import Canvas, Colours, Drawn
from padim_edge.planting.marks import Draw, darker, outline
from padim_edge.sample.field import Plane, cloud, ramp

__all__ = ["SOLIDS", "grained"]


def grained(canvas: Canvas, rng: np.random.Generator, smooth: Colours) -> Colours:
    """Return `smooth` with the noise of the background on it, equal in all channels."""
    beside = ~ndimage.binary_dilation(canvas.part, iterations=3)
    if beside.mean() < 0.02:
        return smooth
    green = canvas.pixels[..., 1]
    texture = (green - ndimage.gaussian_filter(green, 2.0))[beside]
    noise = ndimage.gaussian_filter(rng.standard_normal(green.shape).astype(np.float32), 0.6)
    return np.asarray(smooth + (noise * float(texture.std() / max(float(noise.std()), 1e-6)))[..., None], np.float32)


def _lamp(canvas: Canvas) -> Plane:
    """Return the position along the direction of the lamp, -1 to 1 inside the defect; positive is nearer."""
    x, y = canvas.axes
    return np.asarray((x * np.cos(canvas.light) + y * np.sin(canvas.light)) / canvas.radius, dtype=np.float32)


def _chip(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Break a shallow flake off the surface: a few straight facets, each lit in its own way, with a sharp outline."""
    del strength
    x, y = canvas.axes
    radius = np.float32(canvas.radius * 0.86)
    facets = int(rng.integers(4, 8))
    angles = (np.arange(facets) + rng.uniform(0.15, 0.85, facets)) * (2 * np.pi / facets)
    turn, squash = float(rng.uniform(0, np.pi)), float(rng.uniform(1.0, 1.7))
    along, aside = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) * squash
    wave = 0.1 * cloud(rng, canvas.size, max(5, round(8 / canvas.radius)))
    planes = np.stack(
        [
            (along * np.cos(a) + aside * np.sin(a)) / (radius * r)
            for a, r in zip(angles, rng.uniform(0.55, 0.95, facets), strict=True)
        ]
    )
    distance = (planes.max(axis=0) + wave).astype(np.float32)
    soft = canvas.soft / float(radius)
    cover = ramp(distance, 1.0 + soft / 2, 1.0 - soft / 2)
    # Ridges run from a point off the middle; every facet between two of them mirrors another part of the room.
    nearest = np.argmax(planes + rng.uniform(-0.3, 0.3, facets)[:, None, None], axis=0)
    tones = rng.uniform(-1.0, 1.0, facets) + 0.5 * np.cos(angles - canvas.light)
    shade = ndimage.gaussian_filter(tones[nearest].astype(np.float32), canvas.scenery.softness)
    dark = darker(canvas, rng, 0.3)
    shade = shade * 0.6 + (-0.9 if dark else 0.9) + 0.12 * cloud(rng, canvas.size, max(8, canvas.size // 4))
    return Drawn(
        np.clip(0.7 * canvas.smooth + 0.3 * canvas.pixels + np.float32(95.0) * shade[..., None], 0, 255), cover
    )


def _hole(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Drill a small pit: nearly round, dark inside, with a lit wall away from the lamp and a bright rim."""
    del strength
    distance = outline(canvas, rng, (1.0, float(rng.uniform(0.7, 1.0))), 0.1)
    soft = canvas.soft / canvas.radius
    cover = ramp(distance, 1.0 + soft / 2, 1.0 - soft / 2)
    lamp = _lamp(canvas)
    wall = ramp(distance, 0.45, 1.0) * np.clip(0.35 - lamp, 0.0, 1.0)
    level = canvas.smooth
    if canvas.scenery.background is not None and rng.random() < 0.4:
        # Drilled through, and as dark as the depth of the hole makes it.
        inside = grained(canvas, rng, canvas.behind) * (1.0 - 0.5 * ramp(distance, 0.5, 1.0) * (lamp > 0))[..., None]
    elif darker(canvas, rng, 0.8):
        inside = level * (0.12 + 0.35 * wall + 0.03 * cloud(rng, canvas.size, 12))[..., None]
    else:
        inside = level + (235.0 - level) * (0.45 + 0.45 * wall)[..., None]
    return Drawn(np.clip(inside, 0, 255), cover)


def _dent(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Press a dent or a bump into the surface: one side catches more light and the other less; the texture stays."""
    del strength
    distance = outline(canvas, rng, (1.0, float(rng.uniform(0.5, 1.0))), 0.12)
    bowl = np.clip(1.0 - distance * distance, 0.0, 1.0)
    slope = np.asarray(_lamp(canvas) * bowl * 2.6, dtype=np.float32) * np.float32(rng.choice([-1.0, 1.0]))
    cover = ramp(distance, 1.02, 0.7)
    shaded = canvas.pixels * (1.0 + 0.75 * np.minimum(slope, 0.0))[..., None]
    lit = np.maximum(255.0 - canvas.pixels, 0.0) * (0.75 * np.maximum(slope, 0.0))[..., None]
    return Drawn(np.clip(shaded + lit, 0, 255), cover)


def _break(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Break the part: a gap that opens from a crooked line, widest in the middle or at one end."""
    x, y = canvas.axes
    turn = float(rng.uniform(0.0, 2 * np.pi))
    along = (x * np.cos(turn) + y * np.sin(turn)) / canvas.radius
    aside = (y * np.cos(turn) - x * np.sin(turn)) / canvas.radius
    crooked = 0.16 * cloud(rng, canvas.size, max(3, round(2.5 / canvas.radius)), 3)
    jags = 0.035 * cloud(rng, canvas.size, max(6, round(14 / canvas.radius)))
    half = float(rng.uniform(0.07, 0.2)) * (0.6 + 0.6 * strength)
    open_end = bool(rng.random() < 0.5)
    profile = np.clip((1.0 - along) / 2 if open_end else 1.0 - along * along, 0.0, 1.0) ** 0.6 * (along > -1.0)
    width = np.maximum(half * profile, 0.0)
    soft = np.float32(canvas.soft / canvas.radius)
    beside = np.abs(aside + crooked) + jags - width
    cover = ramp(np.asarray(beside, dtype=np.float32), float(soft) / 2, -float(soft) / 2)
    cover = cover * ramp(np.asarray(profile, dtype=np.float32), 0.02, 0.15)
    behind = grained(canvas, rng, canvas.behind)
    # The broken face on the far side of the gap is in the shadow of the other one.
    shadow = np.float32(0.45) * ramp(np.asarray(beside + width, dtype=np.float32), 0.5 * half, half)
    return Drawn(behind * (1.0 - shadow[..., None]), cover, gap=True)


def _missing(canvas: Canvas, rng: np.random.Generator, strength: float) -> Drawn:
    """Take a piece away: an irregular bite with a crumbling edge, behind which the background shows."""
    del strength
    rough = 0.05 * cloud(rng, canvas.size, max(6, round(10 / canvas.radius)), 2)
    distance = outline(canvas, rng, (1.0, float(rng.uniform(0.6, 1.0))), 0.16) + rough
    soft = canvas.soft / canvas.radius
    cover = ramp(distance, 1.0 + soft / 2, 1.0 - soft / 2)
    behind = grained(canvas, rng, canvas.behind)
    if canvas.scenery.background is None:
        lamp = np.clip(0.5 - 0.5 * _lamp(canvas), 0.0, 1.0) * ramp(distance, 0.6, 1.0)
        behind = behind + (canvas.smooth * 0.5 - behind) * (0.7 * lamp)[..., None]
    return Drawn(behind, cover, gap=True)


SOLIDS: dict[str, Draw] = {"chip": _chip, "hole": _hole, "dent": _dent, "break": _break, "missing": _missing}
"""Kinds of defect of the body."""
