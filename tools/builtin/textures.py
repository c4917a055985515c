"""Textures: endless planes of values from 0 to 1, drawn at given coordinates.

Every recipe takes a generator and two planes of coordinates (from `surface.view`, or those of a body). It returns one
plane of the same shape. Coordinates are image coordinates. Periods are between about three pixels and half an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from padim_edge.sample.field import Plane, cloud, ramp
from tools.builtin.surface import between, chance, log_between, resized, softened, stretched

__all__ = ["TEXTURES", "Texture", "bricks", "cells", "fibres", "lattice", "noise", "stripes", "texture", "wood"]

Texture: TypeAlias = Callable[[np.random.Generator, Plane, Plane], Plane]
"""Function from generator and coordinates to values from 0 to 1."""

_TABLE = 64
"""Side of the table of random numbers for cells. Patterns repeat after this number of cells."""


def _period(rng: np.random.Generator, size: int) -> float:
    """Choose a period in image coordinates: from three pixels to half the image, mostly fine."""
    finest = 3.0 * 2.0 / size
    return log_between(rng, finest, 0.9) if chance(rng, 0.5) else log_between(rng, finest, 0.3)


@functools.cache
def _frequencies(size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the frequencies of a real transform in cycles per pixel: `(1, size // 2 + 1)` and `(size, 1)`."""
    return np.fft.rfftfreq(size).astype(np.float32)[None, :], np.fft.fftfreq(size).astype(np.float32)[:, None]


def noise(rng: np.random.Generator, u: Plane, _v: Plane) -> Plane:
    """Draw noise of a random spectrum, sometimes cut, folded or stepped. Only the shape of the coordinates counts."""
    size = max(u.shape)
    fx, fy = _frequencies(size)
    squeeze = 1.0
    if chance(rng, 0.45):
        angle, squeeze = between(rng, 0.0, math.pi), log_between(rng, 1.5, 25.0)
        if chance(rng, 0.5):
            angle = round(angle / (math.pi / 2)) * (math.pi / 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        along, aside = fx * cosine + fy * sine, fy * cosine - fx * sine
        squared = along * along + aside * aside * (squeeze * squeeze)
    else:
        squared = fx * fx + fy * fy
    squared = squared + (0.3 / size) ** 2
    if chance(rng, 0.3):
        middle = log_between(rng, 2.0 / size, 0.35)
        gain = np.exp(-(np.log(squared / (middle * middle)) ** 2) * (1.0 / log_between(rng, 0.05, 2.0)))
    else:
        gain = squared ** np.float32(-0.5 * between(rng, 0.3, 3.0))
    gain[0, 0] = 0.0
    white = rng.standard_normal((size, size), dtype=np.float32)
    plane = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(size, size)).astype(np.float32)
    plane = plane[: u.shape[0], : u.shape[1]]
    plane = (plane - plane.mean()) * (1.0 / max(float(plane.std()), 1e-9))
    kind = float(rng.random())
    if kind < 0.5:
        return np.clip(plane * between(rng, 0.15, 0.4) + 0.5, 0.0, 1.0)
    if kind < 0.7:
        level, soft = between(rng, -1.5, 1.5), log_between(rng, 0.05, 0.8)
        return ramp(plane, level - soft, level + soft)
    if kind < 0.88:
        folded = np.minimum(np.abs(plane) * between(rng, 0.4, 1.2), 1.0)
        return folded if chance(rng, 0.5) else (1.0 - folded) ** np.float32(between(rng, 1.0, 6.0))
    steps = int(between(rng, 2, 6))
    return np.clip(np.floor((plane * 0.25 + 0.5) * steps) * (1.0 / (steps - 1)), 0.0, 1.0)


def wave(rng: np.random.Generator, phase: Plane) -> Plane:
    """Draw a periodic profile of random form, 0 to 1.

    Args:
        rng: Generator of the form.
        phase: Position in periods.
    """
    part = phase - np.floor(phase)
    kind = int(rng.integers(7))
    if kind == 0:
        return part
    if kind == 1:
        knots = rng.random(_TABLE)[: int(between(rng, 3, 9))]
        table = np.interp(np.linspace(0.0, len(knots), 128, endpoint=False), np.arange(len(knots)), knots)
        return np.take(table.astype(np.float32), (part * 127.99).astype(np.intp))
    triangle = np.abs(part * 2.0 - 1.0)
    if kind in (2, 3):
        duty, soft = between(rng, 0.1, 0.9), log_between(rng, 0.04, 0.3)
        return ramp(triangle, duty - soft, duty + soft)
    if kind == 4:
        return triangle ** np.float32(log_between(rng, 0.5, 6.0))
    if kind == 5:
        # Round bars side by side.
        return np.sqrt(np.maximum(1.0 - triangle * triangle, 0.0))
    return triangle * triangle * (3.0 - 2.0 * triangle)


def stripes(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw gratings, chirps, plaids, rings, spirals or rays."""
    period = _period(rng, u.shape[0])
    kind = float(rng.random())
    if kind < 0.35:
        phase = u * (1.0 / period)
    elif kind < 0.5:
        # The period changes across the image.
        phase = (u + u * u * between(rng, -0.25, 0.25)) * (1.0 / period)
    elif kind < 0.7:
        radius = np.sqrt(u * u + v * v * log_between(rng, 0.3, 3.0))
        phase = radius * (1.0 / period)
        if chance(rng, 0.3):
            phase = phase + np.arctan2(v, u) * (int(between(rng, 1, 6)) / (2.0 * math.pi))
    elif kind < 0.78:
        phase = np.arctan2(v, u) * (int(log_between(rng, 4, 50)) / (2.0 * math.pi))
    else:
        first, second = wave(rng, u * (1.0 / period)), wave(rng, v * (1.0 / (period * log_between(rng, 0.3, 3.0))))
        how = int(rng.integers(4))
        if how == 0:
            return first * second
        if how == 1:
            return np.maximum(first, second)
        if how == 2:
            return np.abs(first - second)
        return (first + second) * 0.5
    return wave(rng, phase)


def _looked_up(table: npt.NDArray[np.float32], column: Plane, row: Plane) -> Plane:
    """Look up a random value for every cell of a lattice; `column` and `row` are whole numbers."""
    mask = _TABLE - 1
    index = (row.astype(np.intp) & mask) * _TABLE + (column.astype(np.intp) & mask)
    return np.take(table, index)


def lattice(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw dots, holes, studs, tiles or checks on a square or staggered lattice; some cells differ."""
    period = max(_period(rng, u.shape[0]), 12.0 / u.shape[0])
    a, b = u * (1.0 / period), v * (1.0 / (period * log_between(rng, 0.6, 1.6)))
    row = np.floor(b)
    if chance(rng, 0.5):
        a = a + row * 0.5
    column = np.floor(a)
    p, q = (a - column) * 2.0 - 1.0, (b - row) * 2.0 - 1.0
    kind = int(rng.integers(5))
    if kind == 0:
        distance = np.sqrt(p * p + q * q)
    elif kind == 1:
        distance = np.maximum(np.abs(p), np.abs(q))
    elif kind == 2:
        distance = np.abs(p) + np.abs(q)
    elif kind == 3:
        distance = np.abs(np.sqrt(p * p + q * q) - between(rng, 0.3, 0.7)) * 2.0
    else:
        distance = np.minimum(np.abs(p), np.abs(q)) * 2.0
    values = rng.random(_TABLE * _TABLE, dtype=np.float32)
    varied = _looked_up(values, column, row)
    radius = between(rng, 0.3, 1.0)
    if chance(rng, 0.3):
        distance = distance / (0.5 + 0.7 * varied)
    inside = radius - distance
    if chance(rng, 0.35):
        shape = np.sqrt(np.clip(inside * (1.0 / radius), 0.0, 1.0))
    else:
        soft = max(log_between(rng, 0.03, 0.4), 1.5 / (period * u.shape[0] * 0.5))
        shape = ramp(inside, -soft, soft)
    how = float(rng.random())
    if how < 0.25:
        return shape * varied
    if how < 0.4:
        odd = ((column + row).astype(np.intp) & 1).astype(np.float32)
        return shape * (odd * between(rng, 0.3, 0.8) + 0.2)
    if how < 0.5:
        return shape * (varied > between(rng, 0.1, 0.8))
    return shape


def bricks(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw bricks, boards or baskets: oblong cells with joints, each with its own level and grain."""
    period = max(_period(rng, u.shape[0]), 16.0 / u.shape[0])
    long = between(rng, 1.0, 4.0)
    b = v * (1.0 / period)
    row = np.floor(b)
    values = rng.random(_TABLE * _TABLE, dtype=np.float32)
    shift = _looked_up(values, row, np.zeros_like(row)) if chance(rng, 0.5) else row * 0.5
    a = u * (1.0 / (period * long)) + shift
    column = np.floor(a)
    p, q = a - column, b - row
    joint = log_between(rng, 0.02, 0.2)
    edge = np.minimum(np.minimum(p, 1.0 - p) * long, np.minimum(q, 1.0 - q))
    shape = ramp(edge, joint * 0.5, joint * 1.5)
    level = _looked_up(values, column, row)
    if chance(rng, 0.3):
        # Baskets: the grain of every other cell runs across.
        odd = ((column + row).astype(np.intp) & 1).astype(bool)
        count = int(between(rng, 2, 6))
        level = np.where(odd, wave(rng, p * count), wave(rng, q * count))
    share = between(rng, 0.0, 0.8)
    return shape * ((1.0 - share) + share * level)


def cells(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw Voronoi cells: pebbles, cracks, leather, foam, crystals, shards."""
    size = u.shape[0]
    period = max(_period(rng, size), 10.0 / size)
    smooth = period * size * 0.5 > 14.0 and min(u.shape) > 64 and u.shape[0] == u.shape[1]
    if smooth:
        # Wide cells look the same when drawn with half as many pixels.
        u, v = u[::2, ::2], v[::2, ::2]
    a, b = u * (1.0 / period), v * (1.0 / (period * log_between(rng, 0.5, 2.0)))
    column, row = np.floor(a), np.floor(b)
    place = (a - column) + 1j * (b - row)
    c, r = column.astype(np.intp), row.astype(np.intp)
    mask = _TABLE - 1
    jitter = between(rng, 0.3, 1.0)
    sites = ((rng.random(_TABLE * _TABLE) - 0.5) + 1j * (rng.random(_TABLE * _TABLE) - 0.5)) * jitter + (0.5 + 0.5j)
    sites = sites.astype(np.complex64)
    first = np.full(a.shape, 9.0, np.float32)
    second = first.copy()
    owner = np.zeros(a.shape, np.intp)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            index = ((r + down) & mask) * _TABLE + ((c + right) & mask)
            distance = np.abs(np.take(sites, index) + (right + 1j * down) - place).astype(np.float32)
            second = np.minimum(second, np.maximum(distance, first))
            owner = np.where(distance < first, index, owner)
            first = np.minimum(distance, first)
    wall = second - first
    if smooth:
        first, wall = resized(first, size), resized(wall, size)
        owner = np.repeat(np.repeat(owner, 2, axis=0), 2, axis=1)[:size, :size]
    level = np.take(rng.random(_TABLE * _TABLE, dtype=np.float32), owner)
    kind = int(rng.integers(7))
    width = log_between(rng, 0.04, 0.4)
    if kind == 0:
        return np.clip(first, 0.0, 1.0)
    if kind == 1:
        return np.sqrt(np.clip(1.0 - first * first * between(rng, 1.2, 4.0), 0.0, 1.0))
    if kind == 2:
        return ramp(wall, 0.0, width)
    if kind == 3:
        return level * ramp(wall, 0.0, width)
    if kind == 4:
        return level * 0.7 + first * 0.3 if not smooth else ramp(wall, 0.0, 0.08) * (0.3 + 0.7 * level)
    if kind == 5:
        return np.clip(wall, 0.0, 1.0)
    return 1.0 - ramp(wall, width * 0.3, width * 0.6) * (1.0 - 0.4 * level)


def fibres(rng: np.random.Generator, u: Plane, _v: Plane) -> Plane:
    """Draw hairs, felt, grass, scratches or chips: many thin strokes on top of one another."""
    size = max(u.shape)
    canvas = Image.new("L", (2 * size, 2 * size), int(rng.integers(256)))
    pen = ImageDraw.Draw(canvas)
    count = int(log_between(rng, 30, 260))
    middle, turn = between(rng, 0.0, math.pi), log_between(rng, 0.02, 1.6)
    length = log_between(rng, 0.04, 1.2) * size * 2
    starts = rng.random((count, 2)) * (2.4 * size) - 0.2 * size
    angles = middle + rng.standard_normal(count) * turn
    bends = angles + rng.standard_normal(count) * between(rng, 0.0, 0.6)
    lengths = length * np.exp(rng.standard_normal(count) * 0.4) * 0.5
    first = starts + np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    last = first + np.stack([np.cos(bends), np.sin(bends)], axis=1) * lengths[:, None]
    corners = np.concatenate([starts, first, last], axis=1).tolist()
    shades = rng.integers(0, 256, count).tolist()
    thickest = log_between(rng, 1.5, 10.0)
    widths = (1.0 + rng.random(count) * thickest).astype(int).tolist()
    for line, shade, width in zip(corners, shades, widths, strict=True):
        pen.line(line, fill=shade, width=width)
    plane = np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1.0 / 255.0)
    return plane[: u.shape[0], : u.shape[1]]


def wood(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw growth rings cut lengthwise, marble or agate: bands bent by a strong smooth displacement."""
    size = max(u.shape)
    stretch = log_between(rng, 0.03, 1.0)
    bend = cloud(rng, size, int(between(rng, 3, 6)), octaves=3)[: u.shape[0], : u.shape[1]]
    radius = np.sqrt(u * u + (v * stretch) ** 2) if chance(rng, 0.5) else u + v * stretch * 0.3
    period = max(_period(rng, size), 10.0 / size)
    bands = wave(rng, (radius + bend * log_between(rng, 0.02, 0.3)) * (1.0 / period))
    if chance(rng, 0.6):
        grain = rng.standard_normal((size, size), dtype=np.float32)
        # Pores follow the trunk, which lies along v. They come from a thin strip of noise, looked up by u.
        column = np.clip((u * 0.25 + 0.5) * (size - 1), 0, size - 1).astype(np.intp)
        slow = np.clip((v * 0.06 + 0.5) * (size - 1), 0, size - 1).astype(np.intp)
        bands = bands * 0.75 + np.take(grain, slow * size + column) * between(rng, 0.02, 0.15) + 0.1
    return np.clip(bands, 0.0, 1.0)


TEXTURES: tuple[tuple[Texture, float], ...] = (
    (noise, 0.30),
    (stripes, 0.19),
    (lattice, 0.13),
    (cells, 0.14),
    (bricks, 0.07),
    (fibres, 0.10),
    (wood, 0.07),
)
"""Recipes, each with its probability."""


def texture(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Draw one of the textures, `(H, W)` from 0 to 1; some are a mix of two."""
    plane = _pick(rng)(rng, u, v)
    if chance(rng, 0.2):
        other = _pick(rng)(rng, u, v)
        how = int(rng.integers(3))
        if how == 0:
            plane = plane * other
        elif how == 1:
            plane = plane + (other - plane) * between(rng, 0.1, 0.6)
        else:
            plane = np.maximum(plane, other)
    if chance(rng, 0.1):
        plane = stretched(softened(plane, log_between(rng, 1.5, 5.0)))
    return plane


def _pick(rng: np.random.Generator) -> Texture:
    """Choose a recipe by its probability."""
    left = float(rng.random())
    for recipe, share in TEXTURES:
        left -= share
        if left < 0.0:
            return recipe
    return noise
