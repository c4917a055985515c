"""The inspection station. Its light and camera vary a little from image to image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.sample.field import Scene, grid

__all__ = ["Light", "choose_light", "expose"]

_MIDDLE_AZIMUTH = -2.25
"""Mean direction of the lamp in radians: the upper left, as is the convention."""


@dataclass(frozen=True)
class Light:
    """Lamp and camera during one image."""

    azimuth: float
    """Direction of the lamp, in radians in image coordinates."""
    level: float
    """Brightness, about 0.95 to 1.05."""
    slope: float
    """Brightness of the lamp's side relative to the middle, minus 1; 0 to 0.1."""
    warmth: float
    """Gain of red minus 1, and 1 minus the gain of blue; about -0.03 to 0.03."""
    blur: float
    """Standard deviation of the lens blur, in pixels of an image 320 pixels wide; 0.45 to 0.8."""
    noise: float
    """Standard deviation of the sensor noise, as a share of the full range; 0.006 to 0.011."""


def choose_light(rng: np.random.Generator) -> Light:
    """Choose lamp and camera of one image at random."""
    return Light(
        azimuth=_MIDDLE_AZIMUTH + float(rng.uniform(-0.05, 0.05)),
        level=float(rng.uniform(0.95, 1.05)),
        slope=float(rng.uniform(0.0, 0.10)),
        warmth=float(rng.uniform(-0.03, 0.03)),
        blur=float(rng.uniform(0.45, 0.8)),
        noise=float(rng.uniform(0.006, 0.011)),
    )


def expose(scene: Scene, light: Light, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Take the image: `(S, S, 3)` linear light in, `(S, S, 3)` uint8 RGB out.

    Args:
        scene: The scene before the camera.
        light: Lamp and camera.
        rng: Generator of the sensor noise. The number of values drawn depends on the size only, never on the scene.
    """
    size = scene.shape[0]
    x, y = grid(size)
    nearer = x * np.float32(np.cos(light.azimuth)) + y * np.float32(np.sin(light.azimuth))
    level = np.float32(light.level) * (1.0 + np.float32(light.slope) * nearer - 0.07 * (x * x + y * y))
    gains = np.array([1.0 + light.warmth, 1.0, 1.0 - light.warmth], dtype=np.float32)
    lit = _blurred(scene, light.blur * size / 320.0) * level[..., None] * gains
    # The square root stands in for the display curve. After it, shot noise has the same deviation at every brightness,
    # so the noise is added after it. Most of the noise is common to all channels, as after demosaicing.
    shared = rng.standard_normal((size, size, 1), dtype=np.float32)
    single = rng.standard_normal((size, size, 3), dtype=np.float32)
    grain = (shared + np.float32(0.6) * single) * np.float32(light.noise)
    shown = np.sqrt(np.clip(lit, 0.0, 1.0)) + grain
    return np.asarray(np.clip(shown, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _blurred(scene: Scene, sigma: float) -> Scene:
    """Blur along both sides with a Gaussian kernel of at most 2 * 3 + 1 taps; edges repeat."""
    radius = int(min(3, max(1, round(2.5 * sigma))))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, 0.2)) ** 2)
    taps = (taps / (2.0 * taps.sum() - taps[0])).astype(np.float32)
    for axis in (0, 1):
        pads = [(radius, radius) if side == axis else (0, 0) for side in range(3)]
        padded = np.moveaxis(np.pad(scene, pads, mode="edge"), axis, 0)
        length = scene.shape[axis]
        total = padded[radius : radius + length] * taps[0]
        for offset in range(1, radius + 1):
            before, after = radius - offset, radius + offset
            total += (padded[before : before + length] + padded[after : after + length]) * taps[offset]
        scene = np.moveaxis(total, 0, axis)
    return scene
