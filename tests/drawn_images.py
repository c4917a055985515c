"""Images of a round part for tests on a device, where the toolkit and its sample are not installed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["defective", "good", "noise"]

_SIDE = 96


def good(number: int, size: tuple[int, int] = (_SIDE, _SIDE)) -> Image.Image:
    """Draw good part `number`, `(height, width)` pixels: a disc with rings; place and brightness vary a little."""
    draw = np.random.default_rng(number)
    y, x = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    radius = np.hypot(y - draw.uniform(-0.02, 0.02), x - draw.uniform(-0.02, 0.02))
    grey = np.where(radius < 0.7, 150 + 40 * np.cos(12 * radius), 60 + 20 * y)
    grey = grey + draw.uniform(-6, 6) + draw.normal(0, 3, size)
    return Image.fromarray(np.stack([grey, grey * 0.9, grey * 0.7], -1).clip(0, 255).astype(np.uint8))


def defective(number: int, size: tuple[int, int] = (_SIDE, _SIDE)) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Draw the same part with a bright square on it; return it and the (x, y, width, height) of the square."""
    pixels = np.array(good(number, size))
    box = (size[1] // 3, size[0] // 2, size[1] // 6, size[0] // 6)
    pixels[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = (250, 240, 20)
    return Image.fromarray(pixels), box


def noise(seed: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return uniform noise, `(height, width, 3)` uint8. No area is smooth, so no error can hide in one."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
