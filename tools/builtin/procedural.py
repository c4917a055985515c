"""Procedurally drawn images, to teach a small network without a single photograph.

An image shows a surface, things on a ground, dead leaves, or a composite of those, under a random lamp and through a
random camera. Each image has its own random generator, so images can be drawn in any order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from padim_edge.sample.field import Scene, blend, cloud, grid, ramp
from tools.builtin.shapes import marks, part
from tools.builtin.surface import (
    Lamp,
    Palette,
    between,
    chance,
    choose_lamp,
    choose_palette,
    colour,
    log_between,
    softened,
    tinted,
    view,
    warped,
)
from tools.builtin.textures import texture
from tools.builtin.things import flawed, heap, lit, paint, things

__all__ = ["batch", "draw"]


def batch(seed: int, start: int, count: int, size: int) -> npt.NDArray[np.uint8]:
    """Draw the images `start` to `start + count - 1` of an endless row.

    Args:
        seed: Number of the row, 0 or more.
        start: Number of the first image, 0 or more.
        count: Number of images.
        size: Side of the images in pixels, even.

    Returns:
        `(count, size, size, 3)` uint8, RGB. An image depends only on its number, the seed and the size.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    for place in range(count):
        images[place] = draw(np.random.default_rng([seed, start + place]), size)
    return images


def draw(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    """Draw one image, `(size, size, 3)` uint8 RGB; `size` is its side in pixels, even."""
    palette, lamp = choose_palette(rng), choose_lamp(rng)
    kind = float(rng.random())
    scene = _composite(rng, size, palette, lamp) if kind < 0.15 else _plain(rng, size, palette, lamp)
    return _exposed(rng, scene)


def _plain(rng: np.random.Generator, size: int, palette: Palette, lamp: Lamp) -> Scene:
    """Draw a scene of one kind."""
    kind = float(rng.random())
    if kind < 0.38:
        return _surface(rng, size, palette, lamp)
    if kind < 0.84:
        return things(rng, size, palette, lamp)
    if kind < 0.92:
        return heap(rng, size, palette, lamp)
    return _leaves(rng, size, palette)


def _surface(rng: np.random.Generator, size: int, palette: Palette, lamp: Lamp) -> Scene:
    """Draw a textured surface that fills the image, flat or in relief, sometimes with a flaw or print."""
    u, v = view(rng, size)
    plane = texture(rng, u, v)
    kind = float(rng.random())
    if kind < 0.5:
        scene = tinted(rng, plane, palette)
    else:
        # Relief: the texture is the height, and sometimes another texture is the colour.
        albedo = paint(rng, size, palette) if chance(rng, 0.4) else tinted(rng, plane, palette)
        deep = softened(plane, between(rng, 1.5, 4.0)) if chance(rng, 0.5) else plane
        scene = lit(rng, albedo, deep * log_between(rng, 1.0, 12.0), lamp)
    if chance(rng, 0.25):
        scene = flawed(rng, scene, palette)
    if chance(rng, 0.12):
        scene = blend(scene, colour(rng, palette), marks(rng, size) * between(rng, 0.4, 1.0))
    if chance(rng, 0.1):
        scene = _mixed(rng, scene, tinted(rng, texture(rng, *view(rng, size)), palette))
    return scene


def _leaves(rng: np.random.Generator, size: int, palette: Palette) -> Scene:
    """Draw dead leaves: shapes of many sizes that cover one another, plain or some of them with a texture."""
    side = 2 * size
    ground = tuple(int(band * 255) for band in colour(rng, palette))
    canvas, layers = Image.new("RGB", (side, side), ground), Image.new("L", (side, side), 0)
    pen, layer = ImageDraw.Draw(canvas), ImageDraw.Draw(layers)
    count = int(log_between(rng, 15, 220))
    smallest = log_between(rng, 0.01, 0.1)
    # Sizes follow a power law with an exponent between 3 and 1, as things at all distances do.
    power = between(rng, 1.0, 3.0)
    forms = int(rng.integers(5))
    for _ in range(count):
        radius = min(smallest * float(rng.random()) ** (-1.0 / power), 0.45) * side
        x, y = between(rng, 0.0, 1.0) * side, between(rng, 0.0, 1.0) * side
        fill = tuple(int(band * 255) for band in colour(rng, palette))
        shade = int(rng.integers(256))
        form = forms if forms < 4 else int(rng.integers(4))
        if form == 0:
            box = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(box, fill=fill)
            layer.ellipse(box, fill=shade)
            continue
        if form == 1:
            corners, stretch = 4, (1.0, log_between(rng, 0.1, 1.0))
            turns = np.arange(0.25, 2.0, 0.5) * math.pi
        else:
            corners, stretch = int(between(rng, 3, 9)), (1.0, between(rng, 0.3, 1.0))
            free = np.sort(rng.random(corners)) * (2.0 * math.pi)
            turns = np.arange(0.0, 2.0, 0.125) * math.pi if form == 3 else free
        angle = between(rng, 0.0, math.pi)
        p, q = np.cos(turns) * (radius * stretch[0]), np.sin(turns) * (radius * stretch[1])
        ring = np.stack(
            [x + p * math.cos(angle) - q * math.sin(angle), y + p * math.sin(angle) + q * math.cos(angle)], axis=1
        )
        outline = ring.ravel().tolist()
        pen.polygon(outline, fill=fill)
        layer.polygon(outline, fill=shade)
    scene = np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1.0 / 255.0)
    if chance(rng, 0.5):
        level = np.asarray(layers.reduce(2), dtype=np.float32) * np.float32(1.0 / 255.0)
        first, second = (texture(rng, *view(rng, size)) - 0.5 for _ in range(2))
        grain = np.where(level < 0.33, first, np.where(level < 0.66, second, 0.0))
        scene = scene * (1.0 + grain * between(rng, 0.2, 1.2))[..., None]
    return scene


def _mixed(rng: np.random.Generator, first: Scene, second: Scene) -> Scene:
    """Mix two scenes, side by side or in patches, with a hard or a soft border."""
    size = first.shape[0]
    u, v = view(rng, size)
    kind = float(rng.random())
    if kind < 0.3:
        soft = log_between(rng, 2.0 / size, 0.5)
        mask = ramp(u - between(rng, -0.5, 0.5), -soft, soft)
    elif kind < 0.55:
        soft = log_between(rng, 0.03, 1.0)
        mask = ramp(cloud(rng, size, int(between(rng, 3, 9)), octaves=3), -soft, soft)
    elif kind < 0.8:
        x, y = grid(size)
        mask = np.clip(part(rng, x * between(rng, 1.0, 1.6), y * between(rng, 1.0, 1.6)) * (size / 2) + 0.5, 0.0, 1.0)
    else:
        mask = texture(rng, u, v)
    return first + (second - first) * mask[..., None]


def _composite(rng: np.random.Generator, size: int, palette: Palette, lamp: Lamp) -> Scene:
    """Draw two scenes in one, or a distorted one."""
    scene = _plain(rng, size, palette, lamp)
    if chance(rng, 0.6):
        other = choose_palette(rng) if chance(rng, 0.6) else palette
        return _mixed(rng, scene, _plain(rng, size, other, lamp))
    cells = int(log_between(rng, 3, 12))
    strength = log_between(rng, 0.01, 0.12) * size * 3.0 / cells
    return warped(scene, cloud(rng, size, cells) * strength, cloud(rng, size, cells) * strength)


def _exposed(rng: np.random.Generator, scene: Scene) -> npt.NDArray[np.uint8]:
    """Take the image: light falls off, the lens blurs, the tone curve bends, the sensor adds noise."""
    size = scene.shape[0]
    x, y = grid(size)
    if chance(rng, 0.3):
        scene = np.broadcast_to(scene.mean(axis=2, keepdims=True), scene.shape)
    elif chance(rng, 0.3):
        scene = scene * (1.0 + rng.standard_normal(3, dtype=np.float32) * np.float32(0.07))
    if chance(rng, 0.5):
        across, down = between(rng, -0.35, 0.35), between(rng, -0.35, 0.35)
        corner = between(rng, 0.0, 0.25) if chance(rng, 0.5) else 0.0
        falloff = 1.0 + x * across + y * down - (x * x + y * y) * corner
        scene = scene * falloff.astype(np.float32)[..., None]
    if chance(rng, 0.5):
        scene = np.clip(scene, 0.0, 1.0) ** np.float32(log_between(rng, 0.55, 1.7))
    if chance(rng, 0.5):
        # The exposure is set so that the image fills most of the range, as on a real camera.
        grey = scene.mean(axis=2, keepdims=True)
        seen = np.sort(grey[::4, ::4], axis=None)
        dark, bright = float(seen[len(seen) // 50]), float(seen[-1 - len(seen) // 50])
        gain = min(between(rng, 0.5, 1.0) / max(bright - dark, 1e-3), 8.0)
        rest = between(rng, 0.0, max(1.0 - gain * (bright - dark), 0.0))
        # Colours are amplified less than brightness, or a trace of pink would become neon.
        scene = (scene - grey) * min(gain, 1.3) + ((grey - dark) * gain + rest)
    elif chance(rng, 0.35):
        # Weak contrast, dim or bright.
        strength = between(rng, 0.3, 1.0)
        scene = scene * strength + between(rng, 0.0, 1.0 - strength)
    image = Image.fromarray((np.clip(scene, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    how = float(rng.random())
    if how < 0.26:
        image = image.filter(ImageFilter.GaussianBlur(log_between(rng, 0.4, 1.7)))
    elif how < 0.3:
        reach = (int(between(rng, 1, 7)), 0)
        image = image.filter(ImageFilter.BoxBlur(reach if chance(rng, 0.5) else reach[::-1]))
    elif how < 0.42:
        image = image.filter(ImageFilter.UnsharpMask(log_between(rng, 0.6, 2.0), int(between(rng, 40, 150)), 0))
    shown = np.asarray(image)
    if chance(rng, 0.6):
        level = log_between(rng, 0.5, 12.0)
        grey = bool((shown[..., 0] == shown[..., 1]).all() and (shown[..., 1] == shown[..., 2]).all())
        bands = 1 if grey or chance(rng, 0.4) else 3
        grain = rng.standard_normal((size, size, bands), dtype=np.float32) * np.float32(level)
        shown = np.clip(shown + grain + 0.5, 0.0, 255.0).astype(np.uint8)
    return shown
