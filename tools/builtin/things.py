"""Things on a ground: bodies with a material, a light and a shadow, and the flaws they may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.sample.field import Plane, Scene, blend, blot, cloud, grid, ramp
from tools.builtin.shapes import marks, part, scratches
from tools.builtin.surface import (
    Lamp,
    Palette,
    between,
    chance,
    choose_palette,
    colour,
    glints,
    log_between,
    mirrored,
    normals,
    softened,
    tinted,
    view,
    warped,
)
from tools.builtin.textures import texture

__all__ = ["flawed", "heap", "lit", "paint", "things"]


@dataclass(frozen=True, eq=False)
class _Body:
    """Outline of a thing, as seen by the pixels of a window."""

    depth: Plane
    """`(H, W)`, distance to the outline in body coordinates, positive inside."""
    place: tuple[Plane, Plane]
    """Body coordinates of the pixels, each `(H, W)`."""
    scale: float
    """Number of pixels for a length of 1 in body coordinates."""


def paint(rng: np.random.Generator, size: int, palette: Palette) -> Scene:
    """Paint an area in one colour, with or without clouds or a weak pattern."""
    base = np.broadcast_to(colour(rng, palette), (size, size, 3))
    kind = float(rng.random())
    if kind < 0.35:
        return base * 1.0
    if kind < 0.6:
        clouds = cloud(rng, size, int(between(rng, 2, 8)), octaves=2)
        return np.clip(base * (1.0 + clouds * log_between(rng, 0.02, 0.2))[..., None], 0.0, 1.0)
    plane = texture(rng, *view(rng, size))
    if kind < 0.85:
        return np.clip(base * (1.0 + (plane - 0.5) * log_between(rng, 0.05, 0.5))[..., None], 0.0, 1.0)
    return tinted(rng, plane, palette, log_between(rng, 0.1, 0.6))


def lit(rng: np.random.Generator, albedo: Scene, height: Plane, lamp: Lamp) -> Scene:
    """Light a relief.

    Args:
        rng: Generator of gloss and contrast.
        albedo: `(H, W, 3)`, colours in flat light.
        height: `(H, W)`, height in pixels.
        lamp: Direction of the light.
    """
    normal = normals(height)
    matt, gloss = glints(normal, lamp, log_between(rng, 4.0, 90.0))
    ambient = between(rng, 0.1, 0.6)
    shade = ambient + (1.0 - ambient) * matt * (1.0 / max(lamp.z, 0.35))
    if chance(rng, 0.25):
        metal = mirrored(rng, normal)
        share = between(rng, 0.4, 1.0)
        shade = shade * (1.0 - share) + metal * (share * 1.4)
    scene = albedo * shade[..., None]
    if chance(rng, 0.6):
        scene += (gloss * log_between(rng, 0.05, 0.9))[..., None]
    return scene


def things(rng: np.random.Generator, size: int, palette: Palette, lamp: Lamp) -> Scene:
    """Draw one thing, a few, or many of a kind on a ground."""
    kind = float(rng.random())
    ground = choose_palette(rng) if chance(rng, 0.4) else palette
    scene = paint(rng, size, ground)
    if chance(rng, 0.3):
        # Light table or dark field: the ground shows no pattern.
        scene = scene * between(rng, 0.0, 0.25) if chance(rng, 0.5) else 1.0 - (1.0 - scene) * between(rng, 0.0, 0.25)
    if kind < 0.5:
        centre = (between(rng, -0.15, 0.15), between(rng, -0.15, 0.15))
        _place(rng, scene, palette, lamp, centre, between(rng, 0.55, 1.1))
    elif kind < 0.78:
        count = int(log_between(rng, 2, 9))
        big = 1.3 / math.sqrt(count)
        for _ in range(count):
            centre = (between(rng, -0.85, 0.85), between(rng, -0.85, 0.85))
            _place(rng, scene, palette, lamp, centre, big * between(rng, 0.4, 0.9))
    elif kind < 0.9:
        _row(rng, scene, palette, lamp)
    else:
        _wires(rng, scene, palette, lamp)
    if chance(rng, 0.15):
        scene = blend(scene, colour(rng, palette), marks(rng, size) * between(rng, 0.4, 1.0))
    if chance(rng, 0.12):
        scene = flawed(rng, scene, palette)
    return scene


def flawed(rng: np.random.Generator, scene: Scene, palette: Palette) -> Scene:
    """Add a few local flaws: spots, scratches, dents, foreign matter."""
    size = scene.shape[0]
    x, y = grid(size)
    for _ in range(int(log_between(rng, 1, 4))):
        kind = float(rng.random())
        if kind < 0.35:
            cover = scratches(rng, size)
        else:
            radius = log_between(rng, 0.04, 0.4)
            away = (between(rng, -0.8, 0.8), between(rng, -0.8, 0.8))
            flat = (radius, radius * log_between(rng, 0.2, 1.0))
            distance = blot(rng, x - away[0], y - away[1], flat, between(rng, 0.1, 0.4), between(rng, 0.0, math.pi))
            cover = ramp(distance, 1.0 + log_between(rng, 0.03, 0.6), 0.95 - 0.3 * float(rng.random()))
        cover = cover * between(rng, 0.3, 1.0)
        if kind < 0.6:
            scene = blend(scene, colour(rng, palette), cover)
        elif kind < 0.75:
            scene = blend(scene, scene * between(rng, 0.2, 1.8), cover)
        elif kind < 0.9:
            scene = blend(scene, tinted(rng, texture(rng, *view(rng, size)), palette), cover)
        else:
            pull = cover * (between(rng, -0.15, 0.15) * size)
            scene = warped(scene, pull, pull * between(rng, -1.0, 1.0))
    return scene


def heap(rng: np.random.Generator, size: int, palette: Palette, lamp: Lamp) -> Scene:
    """Draw many lit things on top of one another, large ones first: bulk goods, scrap, a crowded table."""
    scene = tinted(rng, texture(rng, *view(rng, size)), palette)
    count = int(log_between(rng, 8, 26))
    largest, alike = between(rng, 0.3, 0.7), chance(rng, 0.5)
    for place in range(count):
        centre = (between(rng, -1.0, 1.0), between(rng, -1.0, 1.0))
        reach = largest * (between(rng, 0.5, 0.7) if alike else (place + 1.0) ** -0.5)
        _place(rng, scene, palette, lamp, centre, reach)
    return scene


def _place(
    rng: np.random.Generator,
    scene: Scene,
    palette: Palette,
    lamp: Lamp,
    centre: tuple[float, float],
    reach: float,
) -> None:
    """Put one thing into the scene, in place.

    Args:
        rng: Generator of the thing.
        scene: `(S, S, 3)`, changed where the thing and its shadow are.
        palette: Colours of the thing.
        lamp: Direction of the light.
        centre: Position in image coordinates.
        reach: Half the length of the thing in image coordinates.
    """
    size = scene.shape[0]
    # Only a window is drawn, so small things are cheap.
    margin = reach * 1.5
    left, right = (int(np.clip((centre[0] + way + 1.0) * size / 2, 0, size)) for way in (-margin, margin))
    top, bottom = (int(np.clip((centre[1] + way + 1.0) * size / 2, 0, size)) for way in (-margin, margin))
    if right - left < 8 or bottom - top < 8:
        return
    x, y = grid(size)
    x = (x[top:bottom, left:right] - centre[0]) * (1.0 / reach)
    y = (y[top:bottom, left:right] - centre[1]) * (1.0 / reach)
    angle = between(rng, -math.pi, math.pi) if chance(rng, 0.75) else round(between(rng, -2.0, 2.0)) * (math.pi / 2)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    _lay(rng, scene[top:bottom, left:right], palette, lamp, _Body(part(rng, u, v), (u, v), reach * size / 2))


def _row(rng: np.random.Generator, scene: Scene, palette: Palette, lamp: Lamp) -> None:
    """Put many equal things in rows into the scene, in place: pills in a blister, teeth of a zip, studs."""
    size = scene.shape[0]
    u, v = view(rng, size, bent=0.15)
    pitch = log_between(rng, 0.25, 0.9)
    aspect = between(rng, 0.5, 1.6)
    row = np.round(v * (1.0 / (pitch * aspect)))
    if chance(rng, 0.4):
        u = u + row * (pitch * 0.5)
    p, q = u * (1.0 / pitch), v * (1.0 / pitch)
    p = (p - np.round(p)) * 2.3
    if chance(rng, 0.65):
        q = q - row * aspect
    q = q * 2.3
    _lay(rng, scene, palette, lamp, _Body(part(rng, p, q), (p, q), pitch / 2.3 * size / 2))


def _wires(rng: np.random.Generator, scene: Scene, palette: Palette, lamp: Lamp) -> None:
    """Lay wires, hoses or ropes across the scene, in place: long bent bodies, some striped along their length."""
    size = scene.shape[0]
    for _ in range(int(log_between(rng, 1, 7))):
        u, v = view(rng, size, bent=0.7)
        width = log_between(rng, 0.03, 0.35)
        bent = v + np.sin(u * between(rng, 1.0, 5.0)) * between(rng, 0.0, 0.3)
        depth = 1.0 - np.abs(bent) * (1.0 / width)
        if chance(rng, 0.4):
            # Strands twisted into a rope.
            phase = u * (1.0 / (width * between(rng, 0.5, 2.0))) + bent * (between(rng, -1.0, 1.0) / width)
            depth = np.minimum(depth, 0.15 + np.abs((phase - np.floor(phase)) * 2.0 - 1.0) * depth)
        place = (u * (1.0 / width), bent * (1.0 / width))
        _lay(rng, scene, palette, lamp, _Body(depth, place, width * size / 2))


def _lay(rng: np.random.Generator, scene: Scene, palette: Palette, lamp: Lamp, thing: _Body) -> None:
    """Light a body, and lay it with its shadow into the scene, in place.

    Args:
        rng: Generator of material and shape of the surface.
        scene: `(H, W, 3)`, changed.
        palette: Colours of the body.
        lamp: Direction of the light.
        thing: The body.
    """
    depth, place, scale = thing.depth, thing.place, thing.scale
    cover = np.clip(depth * scale + 0.5, 0.0, 1.0)
    if chance(rng, 0.6):
        _shade_ground(rng, scene, lamp, cover, scale)
    bevel = log_between(rng, 0.04, 1.0)
    inside = np.clip(depth * (1.0 / bevel), 0.0, 1.0)
    form = float(rng.random())
    if form < 0.55:
        height = np.sqrt(1.0 - (1.0 - inside) ** 2)
    elif form < 0.85:
        height = inside * inside * (3.0 - 2.0 * inside)
    else:
        height = inside
    height = height * (bevel * scale * between(rng, 0.3, 1.0))
    first = _apart(rng, palette, scene)
    body: Scene = np.broadcast_to(first, scene.shape)
    kind = float(rng.random())
    if kind < 0.45:
        plane = texture(rng, place[0] * 0.7, place[1] * 0.7)
        if chance(rng, 0.5):
            height = height + plane * log_between(rng, 0.3, 4.0)
        if chance(rng, 0.4):
            body = tinted(rng, plane, palette)
        else:
            body = first * (1.0 + (plane - 0.5) * log_between(rng, 0.1, 1.5))[..., None]
    elif kind < 0.62:
        # Two colours: the halves of a capsule, a band, a label.
        edge, band = between(rng, -0.4, 0.4), between(rng, 0.1, 0.6)
        across = place[0] if chance(rng, 0.7) else place[1]
        side = across - edge if chance(rng, 0.5) else band - np.abs(across - edge)
        body = blend(body, colour(rng, palette), np.clip(side * scale + 0.5, 0.0, 1.0))
    if chance(rng, 0.88):
        body = lit(rng, body, height, lamp)
    if chance(rng, 0.2):
        # A rim: dirt, wear or an outline.
        rim = 1.0 - ramp(np.abs(depth), 0.0, log_between(rng, 1.0, 5.0) / scale)
        body = blend(body, colour(rng, palette), rim * between(rng, 0.3, 1.0))
    if chance(rng, 0.12):
        # Glass and foil show the ground, least at the edge.
        cover = cover * (1.0 - inside * between(rng, 0.3, 0.9))
    if chance(rng, 0.07):
        cover = softened(cover, log_between(rng, 2.0, 6.0))
    scene += (body - scene) * cover[..., None]


def _apart(rng: np.random.Generator, palette: Palette, scene: Scene) -> npt.NDArray[np.float32]:
    """Choose a colour, `(3,)`, that in most cases differs from the middle of the scene."""
    ground = float(scene[scene.shape[0] // 2, scene.shape[1] // 2].mean())
    tries = [colour(rng, palette) for _ in range(3)]
    return max(tries, key=lambda each: abs(float(each.mean()) - ground)) if chance(rng, 0.7) else tries[0]


def _shade_ground(rng: np.random.Generator, scene: Scene, lamp: Lamp, cover: Plane, scale: float) -> None:
    """Darken the ground beside a body, in place; `cover` is `(H, W)`, `scale` half the body in pixels."""
    away = scale * between(rng, 0.03, 0.3)
    right, down = round(-lamp.x * away), round(-lamp.y * away)
    height, width = cover.shape
    if abs(right) >= width or abs(down) >= height:
        return
    moved = np.zeros_like(cover)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = cover[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    moved = np.clip(softened(moved, max(1.0, away * between(rng, 0.3, 1.5))), 0.0, 1.0)
    scene *= 1.0 - (moved * between(rng, 0.2, 0.8))[..., None]
