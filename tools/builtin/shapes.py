"""Bodies: outlines as planes of depth, made from simple outlines, and marks such as print and scratches.

The depth is about the distance to the outline in units of the coordinates, positive inside. So a union is a maximum,
and a hole is a minimum with the negative. Bevels, rims and shadows all follow from one plane. A body fills about the
square from -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from padim_edge.sample.field import Plane, blot, wander
from tools.builtin.surface import between, chance, log_between

__all__ = ["Outline", "marks", "part", "scratches"]

Outline: TypeAlias = Callable[[np.random.Generator, Plane, Plane], Plane]
"""Function from generator and body coordinates to depth."""

_ALPHABET = (
    "041024 0323,04001021120212 122304,2110010314 1423,0004142310 1000,20000424 0212,200004 0212,2110010314232212,"
    "0004 2024 0222,1014 0020 0424,20231403,0004 2002 0224,000424,0400122024,04002420,10212314030110,040010211202,"
    "04002021120212 1224,21100102222314 1403,0020 1014,0003142320,001420,0004122420,0024 2004,001220 1214,00200424,"
    "011014 0424,0110210424,002012231403,14100323,200002122314 1403,20010314231203,002014,1021120110 1223140312"
)
"""A plain alphabet with digits on a lattice of 3 by 5 points: each stroke is a run of x and y digits."""

_LETTERS = tuple(
    tuple(tuple((int(x), int(y)) for x, y in zip(run[::2], run[1::2], strict=True)) for run in letter.split())
    for letter in _ALPHABET.split(",")
)


def part(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw the depth of a random body: one outline or a few, with holes, slots, bites and attached parts."""
    if chance(rng, 0.2):
        u = np.abs(u)
    depth = _pick(rng)(rng, u, v)
    while chance(rng, 0.28):
        # Another part is attached to the first one.
        size = between(rng, 0.35, 0.8)
        angle = round(between(rng, 0.0, 4.0)) * (math.pi / 2)
        away = between(rng, 0.2, 0.8)
        du, dv = (u - math.cos(angle) * away) * (1.0 / size), (v - math.sin(angle) * away) * (1.0 / size)
        depth = np.maximum(depth, _pick(rng)(rng, du, dv) * size)
    kind = float(rng.random())
    if kind < 0.18:
        radius, away = between(rng, 0.08, 0.45), between(rng, 0.0, 0.4) if chance(rng, 0.5) else 0.0
        depth = np.minimum(depth, np.sqrt((u - away) ** 2 + v * v) - radius)
    elif kind < 0.26:
        depth = np.minimum(depth, np.maximum(np.abs(u) - between(rng, 0.1, 0.7), np.abs(v) - between(rng, 0.03, 0.2)))
    elif kind < 0.36:
        # A row or a field of holes.
        pitch = between(rng, 0.15, 0.6)
        p, q = u * (1.0 / pitch), v * (1.0 / pitch)
        p = p - np.round(p)
        if chance(rng, 0.6):
            q = q - np.round(q)
        depth = np.minimum(depth, (np.sqrt(p * p + q * q) - between(rng, 0.15, 0.38)) * pitch)
    elif kind < 0.44:
        bitten = blot(rng, u - between(rng, 0.4, 0.9), v - between(rng, -0.5, 0.5), (0.25, 0.2), 0.3)
        depth = np.minimum(depth, (bitten - 1.0) * 0.2)
    if chance(rng, 0.1):
        # Hollow: only a wall is left.
        wall = log_between(rng, 0.03, 0.25)
        depth = np.minimum(depth, wall - depth)
    return depth


def _disc(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a disc or an ellipse."""
    flat = 1.0 if chance(rng, 0.5) else between(rng, 0.3, 1.0)
    return (0.95 - np.sqrt(u * u + (v * (1.0 / flat)) ** 2)) * flat


def _box(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a box with sharp or round corners."""
    width, height = between(rng, 0.5, 0.95), log_between(rng, 0.15, 0.95)
    corner = between(rng, 0.0, min(width, height)) if chance(rng, 0.6) else 0.01
    p, q = np.abs(u) - (width - corner), np.abs(v) - (height - corner)
    outside = np.sqrt(np.maximum(p, 0.0) ** 2 + np.maximum(q, 0.0) ** 2)
    return corner - outside - np.minimum(np.maximum(p, q), 0.0)


def _rod(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a turned part seen from the side: a pin, screw, bottle, pen or drill."""
    along = u + v * between(rng, -0.3, 0.3) * float(chance(rng, 0.5))
    knots = int(between(rng, 2, 9))
    wide = log_between(rng, 0.06, 0.5)
    widths = wide * between(rng, 0.3, 1.0) + wide * rng.random(knots)
    if chance(rng, 0.6):
        # Steps instead of cones.
        steps = np.sort(rng.random(knots)) * 1.5 - between(rng, 0.5, 0.9)
        places = np.sort(np.concatenate([steps - 0.02, steps + 0.02]))
        widths = np.concatenate([widths[:1], np.repeat(widths[1:], 2), widths[-1:]])
    else:
        places = np.linspace(-0.95, 0.95, knots)
    table = np.interp(np.linspace(-1.5, 1.5, 384), places, widths).astype(np.float32)
    width = np.take(table, np.clip((u * (1.0 / 3.0) + 0.5) * 383, 0, 383).astype(np.intp))
    if chance(rng, 0.55):
        # Teeth on one stretch, slanted like a thread.
        turns, start, lean = between(rng, 6.0, 30.0), between(rng, -0.8, 0.2), between(rng, -1.2, 1.2)
        phase = along * turns + v * lean / wide
        teeth = np.abs((phase - np.floor(phase)) * 2.0 - 1.0)
        stretch = (u > start) & (u < start + between(rng, 0.4, 1.6))
        width = width - teeth * stretch * wide * between(rng, 0.1, 0.5)
    return np.minimum(width - np.abs(v), 0.95 - np.abs(u))


def _capsule(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a pill or a stick with round ends, straight or bent."""
    radius = log_between(rng, 0.08, 0.5)
    bend = between(rng, -0.6, 0.6) if chance(rng, 0.4) else 0.0
    q = v + (u * u - 0.4) * bend
    p = np.maximum(np.abs(u) - (0.95 - radius), 0.0)
    return radius - np.sqrt(p * p + q * q)


def _ring(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a ring, an eye or a C-shaped clip."""
    wall = log_between(rng, 0.05, 0.3)
    radius = np.sqrt(u * u + (v * between(rng, 1.0, 1.5)) ** 2)
    depth = wall - np.abs(radius - (0.95 - wall))
    if chance(rng, 0.4):
        depth = np.minimum(depth, np.maximum(np.abs(v) - between(rng, 0.03, 0.3), -u))
    return depth


def _gear(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a wheel with teeth, a star or a flower."""
    radius, count = np.sqrt(u * u + v * v), int(log_between(rng, 3, 40))
    phase = np.arctan2(v, u) * (count / (2.0 * math.pi))
    teeth = np.abs((phase - np.floor(phase)) * 2.0 - 1.0)
    steep = log_between(rng, 1.0, 6.0)
    teeth = np.clip((teeth - 0.5) * steep + 0.5, 0.0, 1.0)
    return 0.95 - teeth * log_between(rng, 0.04, 0.5) - radius


def _polygon(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw the hexagon of a nut, a triangle, or a stone with flat sides."""
    sides = int(between(rng, 3, 9))
    regular = chance(rng, 0.5)
    depth = np.full_like(u, 1.0)
    for side in range(sides):
        angle = 2.0 * math.pi * (side + (0.0 if regular else between(rng, -0.4, 0.4))) / sides
        near = 0.8 if regular else between(rng, 0.45, 0.9)
        depth = np.minimum(depth, near - u * math.cos(angle) - v * math.sin(angle))
    return depth


def _lump(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw an irregular round body: a nut, a potato, a splash."""
    flat = log_between(rng, 0.35, 1.0)
    return (1.0 - blot(rng, u, v, (0.8, 0.8 * flat), between(rng, 0.05, 0.45))) * (0.8 * flat)


def _comb(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a bar with legs: a chip, a plug, a brush, a comb."""
    legs, bar = int(between(rng, 2, 12)), between(rng, 0.1, 0.5)
    pitch = 1.8 / legs
    p = (u + 0.9) * (1.0 / pitch)
    p = (p - np.floor(p) - 0.5) * pitch
    leg = np.minimum(pitch * between(rng, 0.1, 0.35) - np.abs(p), np.minimum(v + 0.9, 0.9 - v))
    if chance(rng, 0.6):
        leg = np.minimum(leg, v + bar * 0.5)
    body = np.minimum(bar - np.abs(v + (0.9 - bar) * float(chance(rng, 0.5))), 0.95 - np.abs(u))
    return np.maximum(np.minimum(leg, 0.9 - np.abs(u)), body)


def _bundle(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw several discs side by side or overlapping: a cut cable, a cluster of drops, links."""
    depth = np.full_like(u, -1.0)
    for _ in range(int(between(rng, 2, 8))):
        radius = between(rng, 0.1, 0.45)
        away, angle = between(rng, 0.0, 0.95 - radius), between(rng, 0.0, 2.0 * math.pi)
        distance = np.sqrt((u - away * math.cos(angle)) ** 2 + (v - away * math.sin(angle)) ** 2)
        depth = np.maximum(depth, radius - distance)
    return depth


def _crescent(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw a disc without another, or the part common to both: a moon, a lens, a hook."""
    away, radius = between(rng, 0.2, 0.9), between(rng, 0.5, 0.9)
    first = 0.9 - np.sqrt(u * u + v * v)
    second = radius - np.sqrt((u - away) ** 2 + v * v)
    return np.minimum(first, second) if chance(rng, 0.4) else np.minimum(first, -second)


_OUTLINES: tuple[tuple[Outline, float], ...] = (
    (_disc, 0.10),
    (_box, 0.12),
    (_rod, 0.18),
    (_capsule, 0.11),
    (_ring, 0.06),
    (_gear, 0.08),
    (_polygon, 0.09),
    (_lump, 0.12),
    (_comb, 0.06),
    (_bundle, 0.05),
    (_crescent, 0.03),
)
"""Outlines, each with its probability."""


def _pick(rng: np.random.Generator) -> Outline:
    """Choose an outline by its probability."""
    left = float(rng.random())
    for outline, share in _OUTLINES:
        left -= share
        if left < 0.0:
            return outline
    return _disc


def marks(rng: np.random.Generator, size: int) -> Plane:
    """Draw print and return its cover, `(size, size)` from 0 to 1: letters, scales, codes or frames, at any angle."""
    canvas = Image.new("L", (2 * size, 2 * size), 0)
    pen = ImageDraw.Draw(canvas)
    kind = float(rng.random())
    if kind < 0.6:
        _write(rng, pen, 2 * size)
    elif kind < 0.75:
        _code(rng, pen, 2 * size)
    elif kind < 0.9:
        _scale(rng, pen, 2 * size)
    else:
        scribble(rng, pen, 2 * size)
    return np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1.0 / 255.0)


def _write(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    """Write rows of letters; `side` is the side of the canvas in pixels."""
    height = log_between(rng, 0.06, 0.45) * side if chance(rng, 0.8) else log_between(rng, 0.4, 0.9) * side
    width, lean = height * between(rng, 0.4, 0.8), between(rng, -0.3, 0.3) if chance(rng, 0.3) else 0.0
    angle = between(rng, -math.pi, math.pi) if chance(rng, 0.5) else between(rng, -0.1, 0.1)
    cosine, sine = math.cos(angle), math.sin(angle)
    rows = 1 if chance(rng, 0.5) else int(between(rng, 2, 6))
    letters = max(1, int(between(rng, 0.3, 1.1) * side / (width * 1.4)))
    thick = max(1, int(height * log_between(rng, 0.04, 0.25)))
    middle = (between(rng, 0.35, 0.65) * side, between(rng, 0.35, 0.65) * side)
    for row in range(rows):
        for place in range(letters):
            if chance(rng, 0.1):
                continue
            left, top = (place - letters / 2) * width * 1.4, (row - rows / 2) * height * 1.5
            for run in _LETTERS[int(rng.integers(len(_LETTERS)))]:
                corners = []
                for x, y in run:
                    p, q = left + x * width * 0.5 - (y - 2) * lean * height * 0.25, top + y * height * 0.25
                    corners.append((middle[0] + p * cosine - q * sine, middle[1] + p * sine + q * cosine))
                pen.line(corners, fill=255, width=thick, joint="curve" if thick > 4 else None)


def _code(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a bar code or a code of squares."""
    left, top, extent = between(rng, 0.05, 0.5) * side, between(rng, 0.05, 0.5) * side, between(rng, 0.25, 0.6) * side
    count = int(log_between(rng, 6, 24))
    step = extent / count
    rows = 1 if chance(rng, 0.4) else count
    filled = rng.random((rows, count)) < between(rng, 0.3, 0.6)
    for row, column in np.argwhere(filled).tolist():
        x, y = left + column * step, top + row * step
        tall = step if rows > 1 else extent * 0.4
        pen.rectangle((x, y, x + max(step - 1, 0), y + max(tall - 1, 0)), fill=255)


def _scale(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw ticks of a ruler or a dial, or crossing frames."""
    thick = max(1, int(log_between(rng, 0.004, 0.02) * side))
    middle = (between(rng, 0.3, 0.7) * side, between(rng, 0.3, 0.7) * side)
    count, outer = int(log_between(rng, 4, 50)), between(rng, 0.15, 0.45) * side
    kind = int(rng.integers(3))
    if kind == 2:
        for _ in range(int(between(rng, 1, 5))):
            box = sorted((between(rng, 0.0, 1.0) * side, between(rng, 0.0, 1.0) * side))
            other = sorted((between(rng, 0.0, 1.0) * side, between(rng, 0.0, 1.0) * side))
            draw = pen.ellipse if chance(rng, 0.4) else pen.rectangle
            draw((box[0], other[0], box[1], other[1]), outline=255, width=thick)
        return
    for tick in range(count):
        inner = outer * (0.7 if tick % 5 == 0 else 0.85)
        if kind == 0:
            angle = 2.0 * math.pi * tick / count
            cosine, sine = math.cos(angle), math.sin(angle)
            start = (middle[0] + inner * cosine, middle[1] + inner * sine)
            stop = (middle[0] + outer * cosine, middle[1] + outer * sine)
        else:
            x = side * (0.05 + 0.9 * tick / count)
            start, stop = (x, middle[1]), (x, middle[1] + (outer - inner) * 1.5)
        pen.line((*start, *stop), fill=255, width=thick)


def scribble(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    """Draw lines that change their direction at random: wires, threads, cracks, handwriting."""
    thick = max(1, int(log_between(rng, 0.004, 0.04) * side))
    turn, corners = log_between(rng, 0.02, 0.9), int(between(rng, 6, 40))
    for _ in range(int(log_between(rng, 1, 9))):
        start = (between(rng, -1.0, 1.0), between(rng, -1.0, 1.0))
        line = wander(rng, start, between(rng, -math.pi, math.pi), log_between(rng, 0.3, 3.0), turn, corners)
        pen.line(((line + 1.0) * (side / 2)).ravel().tolist(), fill=int(rng.integers(120, 256)), width=thick)


def scratches(rng: np.random.Generator, size: int) -> Plane:
    """Return the cover of random scratches, `(size, size)` from 0 to 1."""
    canvas = Image.new("L", (2 * size, 2 * size), 0)
    scribble(rng, ImageDraw.Draw(canvas), 2 * size)
    return np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1.0 / 255.0)
