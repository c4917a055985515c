"""Defects of a bottle: one function for each kind.

Each takes `ease`, 0 to 1: a defect of 1 is obvious, one of 0 needs a second look.
A cover is `(S, S)` float32, 0 to 1: the share of each pixel that the defect changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from padim_edge.sample.bottle import BORE, LIP, SHOULDER, STAGE, TINT, Frame
from padim_edge.sample.field import Plane, Points, Scene, blend, blot, cloud, ramp, shifted, stroke, wander
from padim_edge.sample.light import Light

__all__ = ["MARKS", "WARPS", "Mark", "Warp"]

Warp: TypeAlias = Callable[[Frame, float, np.random.Generator], tuple[Frame, Plane]]
"""Function that changes the shape of the bottle before it is drawn. Returns the frame to draw and the cover."""

Mark: TypeAlias = Callable[[Scene, Frame, Light, float, np.random.Generator], tuple[Scene, Plane]]
"""Function that changes the drawn bottle. Returns the new scene and the cover."""


def _between(low: float, high: float, share: float) -> float:
    """Return the value at `share` of the way from `low` to `high`."""
    return low + (high - low) * share


def _polar(radius: float, angle: float) -> tuple[float, float]:
    """Return the point of the bottle at `radius` and `angle`."""
    return radius * float(np.cos(angle)), radius * float(np.sin(angle))


def _deformed(frame: Frame, ease: float, rng: np.random.Generator) -> tuple[Frame, Plane]:
    """Make the mouth out of round: pushed in or pulled out on one side while the glass was soft."""
    angle = float(rng.uniform(-np.pi, np.pi))
    width = float(rng.uniform(0.40, 0.58))
    push = _between(0.027, 0.055, ease) * float(rng.choice([-1.0, 1.0]))
    off = np.abs(np.angle(np.exp(1j * (frame.theta - angle)))).astype(np.float32)
    bump = ramp(off, 1.7 * width, 0.1 * width)
    zone = ramp(frame.r, 0.24, 0.36) * ramp(frame.r, 0.72, 0.58)
    strength = bump * zone
    factor = np.asarray(1.0 + np.float32(push) * strength / np.maximum(frame.r, 0.05), dtype=np.float32)
    warped = replace(frame, x=frame.x * factor, y=frame.y * factor, r=frame.r * factor)
    # The eye begins to notice a shift of a third of a pixel, in an image 320 pixels wide.
    return warped, ramp(np.float32(abs(push)) * strength, 0.001, 0.004)


def _crack(scene: Scene, frame: Frame, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Draw a jagged crack from the lip into the shoulder: a dark line with a bright face, sometimes forked."""
    angle = float(rng.uniform(-np.pi, np.pi))
    length = _between(0.20, 0.42, ease) * float(rng.uniform(0.85, 1.15))
    inward = bool(rng.random() < 0.35)
    start = _polar(LIP[1] - 0.02 if inward else LIP[0] + 0.03, angle)
    heading = angle + float(rng.uniform(-0.5, 0.5)) + (np.pi + 0.9 if inward else 0.0)
    main = wander(rng, start, heading, length, 0.33, 11)
    fork = int(rng.integers(4, 8))
    side = wander(rng, (main[fork, 0], main[fork, 1]), heading + float(rng.choice([-0.8, 0.8])), 0.4 * length, 0.3, 5)
    branches = [main] + ([side] if ease > 0.4 else [])
    half = _between(0.0046, 0.0066, ease)
    size = frame.size
    dark, bright = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    lamp = np.array([np.cos(light.azimuth), np.sin(light.azimuth)])
    for branch in branches:
        points: Points = frame.to_image(branch)
        taper = np.linspace(1.0, 0.45, len(points)) * half
        dark = np.maximum(dark, stroke(size, points, taper))
        bright = np.maximum(bright, stroke(size, points - lamp * half * 1.5, 0.65 * taper))
    scene = blend(scene, (0.008, 0.03, 0.012), dark * np.float32(_between(0.80, 0.93, ease)))
    scene = blend(scene, (0.62, 0.75, 0.66), bright * np.float32(_between(0.45, 0.80, ease)))
    return scene, np.maximum(dark, bright)


def _chip(scene: Scene, frame: Frame, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Break a piece out of the lip: a shell-shaped fracture with ripples, thinner and brighter than the glass."""
    angle = float(rng.uniform(-np.pi, np.pi))
    outside = bool(rng.random() < 0.6)
    px, py = _polar(LIP[1] - 0.02 if outside else LIP[0] + 0.02, angle)
    radius = _between(0.038, 0.105, ease) * float(rng.uniform(0.9, 1.1))
    x, y = frame.x - np.float32(px), frame.y - np.float32(py)
    distance = blot(rng, x, y, (0.72 * radius, 1.25 * radius), 0.22, angle)
    # The fracture ends where the lip ends.
    body = ramp(frame.r, LIP[0] - 0.022, LIP[0] - 0.006) * ramp(frame.r, LIP[1] + 0.020, LIP[1] + 0.004)
    edge = 0.02 / radius
    cover = ramp(distance, 1.0 + edge / 2, 1.0 - edge / 2) * body
    towards = (x * np.float32(np.cos(light.azimuth)) + y * np.float32(np.sin(light.azimuth))) / np.float32(radius)
    fx, fy = _polar(radius, angle)  # the blow that the ripples run out from
    focus = np.hypot(x + np.float32(fx), y + np.float32(fy)) / np.float32(radius)
    ripple = np.sin(focus * 11.0 + 1.5 * cloud(rng, frame.size, 10)) * ramp(distance, 0.0, 0.6)
    thin = STAGE * np.exp(-TINT * 0.42)
    face = thin * (0.62 - 0.40 * np.clip(towards, -1.0, 1.0) + 0.16 * ripple)[..., None]
    scene = blend(scene, face, cover * np.float32(_between(0.80, 0.96, ease)))
    rim = ramp(np.abs(distance - 0.95), 1.6 * edge, 0.3 * edge) * cover
    glint = rim * np.clip(0.4 - 0.9 * towards, 0.0, 1.0)
    shade = rim * np.clip(0.3 + 0.9 * towards, 0.0, 1.0)
    scene = blend(scene, (0.01, 0.04, 0.015), shade * np.float32(0.8))
    return blend(scene, (0.95, 1.0, 0.96), glint * np.float32(_between(0.55, 0.9, ease))), cover


def _contamination(
    scene: Scene, frame: Frame, light: Light, ease: float, rng: np.random.Generator
) -> tuple[Scene, Plane]:
    """Drop foreign crumbs into the bore or on the lip: opaque, lit, with a small shadow."""
    angle = float(rng.uniform(-np.pi, np.pi))
    px, py = _polar(float(rng.uniform(0.02, BORE - 0.08)) if rng.random() < 0.6 else 0.45, angle)
    radius = _between(0.032, 0.070, ease)
    colours = np.array([(0.34, 0.26, 0.17), (0.05, 0.04, 0.035), (0.55, 0.54, 0.50), (0.30, 0.07, 0.04)])
    colour = colours[int(rng.integers(len(colours)))].astype(np.float32)
    size = frame.size
    body, relief = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for part in range(int(rng.integers(1, 4))):
        away = _polar(part * 0.95 * radius * float(rng.uniform(0.7, 1.2)), float(rng.uniform(-np.pi, np.pi)))
        own = radius * (1.0 if part == 0 else float(rng.uniform(0.25, 0.6)))
        x, y = frame.x - np.float32(px + away[0]), frame.y - np.float32(py + away[1])
        shape = (own, own * float(rng.uniform(0.55, 0.95)))
        distance = blot(rng, x, y, shape, 0.33, float(rng.uniform(0.0, np.pi)))
        edge = 0.014 / own
        body = np.maximum(body, ramp(distance, 1.0 + edge / 2, 1.0 - edge / 2))
        relief = np.maximum(relief, np.sqrt(np.clip(1.0 - distance * distance, 0.0, 1.0)) * np.float32(own))
    relief += np.float32(0.10 * radius) * cloud(rng, size, 48, 2)
    down, right = np.gradient(relief, 2.0 / size)
    facing = -(right * np.float32(np.cos(light.azimuth)) + down * np.float32(np.sin(light.azimuth)))
    lit = np.clip(0.62 - 0.30 * np.clip(-facing, -1.4, 1.4), 0.12, 1.3)
    shadow = shifted(body, -0.018 * float(np.cos(light.azimuth)), -0.018 * float(np.sin(light.azimuth)))
    scene = blend(scene, (0.0, 0.02, 0.01), shadow * np.float32(0.45))
    return blend(scene, colour * lit[..., None], body * np.float32(0.97)), np.maximum(body, shadow * np.float32(0.8))


def _stain(scene: Scene, frame: Frame, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Leave dried liquid: a thin film that dims or hazes the glass, thicker along its edge."""
    del light
    angle = float(rng.uniform(-np.pi, np.pi))
    px, py = _polar(float(rng.uniform(SHOULDER[0] - 0.22, SHOULDER[1] - 0.09)), angle)
    radius = _between(0.09, 0.17, ease) * float(rng.uniform(0.9, 1.1))
    x, y = frame.x - np.float32(px), frame.y - np.float32(py)
    distance = blot(rng, x, y, (radius * float(rng.uniform(1.0, 1.4)), 0.72 * radius), 0.26, angle + 1.4)
    film = ramp(distance, 1.06, 0.92) * ramp(frame.r, 0.868, 0.855)
    ring = np.exp(-(((distance - 0.93) / 0.07) ** 2))
    dirt = np.clip(0.62 + 0.16 * cloud(rng, frame.size, 16, 3) + 0.45 * ring, 0.25, 1.2)
    density = film * dirt * np.float32(_between(0.44, 0.68, ease))
    if rng.random() < 0.5:
        return blend(scene, (0.50, 0.49, 0.42), 0.62 * density), film
    brown = np.array([0.9, 1.6, 2.3], dtype=np.float32)
    return scene * np.exp(-density[..., None] * brown) + 0.02 * density[..., None], film


def _bubble(scene: Scene, frame: Frame, light: Light, ease: float, rng: np.random.Generator) -> tuple[Scene, Plane]:
    """Enclose gas in the glass: small lenses with a dark outline, a bright heart and a glint."""
    angle = float(rng.uniform(-np.pi, np.pi))
    size = frame.size
    cover = np.zeros((size, size), np.float32)
    for number in range(1 + int(rng.integers(0, 4))):
        own = _between(0.022, 0.046, ease) * (1.0 if number == 0 else float(rng.uniform(0.35, 0.75)))
        # The later ones sit beside the first, spread around the axis, because the glass was drawn that way.
        spot = angle + (0.0 if number == 0 else float(rng.uniform(-0.35, 0.35)))
        px, py = _polar(float(rng.uniform(SHOULDER[0] + 0.06, SHOULDER[1] - 0.05)), spot)
        x, y = frame.x - np.float32(px), frame.y - np.float32(py)
        distance = blot(rng, x, y, (own, own * float(rng.uniform(1.0, 1.8))), 0.05, spot)
        edge = 0.012 / own
        disc = ramp(distance, 1.0 + edge / 2, 1.0 - edge / 2)
        heart = np.exp(-((distance / 0.62) ** 2)) * np.float32(_between(0.40, 0.70, ease))
        outline = np.exp(-(((distance - 0.86) / 0.20) ** 2)) * disc * np.float32(_between(0.55, 0.85, ease))
        lamp = np.float32(0.45 * own)
        gx, gy = x - lamp * np.float32(np.cos(light.azimuth)), y - lamp * np.float32(np.sin(light.azimuth))
        glint = np.exp(-(gx * gx + gy * gy) / np.float32((0.20 * own + 0.002) ** 2)) * disc
        scene = blend(scene, STAGE * np.exp(-TINT * 0.35), heart * disc)
        scene = blend(scene, (0.006, 0.03, 0.01), outline)
        scene = blend(scene, (1.0, 1.0, 1.0), glint * np.float32(0.85))
        cover = np.maximum(cover, disc)
    return scene, cover


WARPS: Mapping[str, Warp] = MappingProxyType({"deformed": _deformed})
"""Defects of the shape."""

MARKS: Mapping[str, Mark] = MappingProxyType(
    {"bubble": _bubble, "chip": _chip, "contamination": _contamination, "crack": _crack, "stain": _stain}
)
"""Defects on or in the glass."""
