"""The object class: a green glass bottle on a bright stage, seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.sample.field import Plane, Points, Scene, cloud, grid, ramp
from padim_edge.sample.light import Light

__all__ = ["BODY", "BORE", "LIP", "SHOULDER", "STAGE", "TINT", "Frame", "Glass", "choose_glass", "shade", "stand"]

BORE = 0.335
"""Radius of the opening, in image coordinates of a bottle that stands in the middle."""
LIP = (0.35, 0.54)
"""Inner and outer radius of the lip."""
SHOULDER = (0.63, 0.83)
"""Inner and outer radius of the shoulder, the part that is visible past the neck."""
BODY = 0.87
"""Radius of the whole bottle."""

STAGE = np.array([0.80, 0.82, 0.83], dtype=np.float32)
"""Light of the stage behind the glass."""
TINT = np.array([2.10, 0.74, 1.75], dtype=np.float32)
"""Absorption of the glass in each channel, for a wall of thickness 1."""

_PROFILE = np.array(
    [
        (0.000, 0.34, 0.00),
        (0.120, 0.30, 0.18),
        (0.185, 0.42, 0.42),
        (0.205, 0.95, 0.00),  # the ring on which the bottle stands
        (0.225, 0.55, -0.40),
        (0.290, 0.75, -0.30),
        (0.318, 1.50, -0.75),
        (0.335, 3.30, -0.95),  # the bore's wall, seen end on
        (0.352, 2.70, -0.98),
        (0.366, 1.75, -0.80),
        (0.400, 1.15, -0.45),
        (0.445, 0.92, 0.00),  # the top of the lip
        (0.490, 1.15, 0.45),
        (0.524, 1.80, 0.80),
        (0.540, 3.20, 0.97),
        (0.552, 3.40, 0.40),  # the groove below the lip
        (0.562, 2.10, -0.60),
        (0.588, 1.35, 0.00),  # the bead of the neck
        (0.612, 2.00, 0.70),
        (0.630, 2.60, 0.90),
        (0.655, 1.50, 0.30),  # the shoulder
        (0.730, 1.20, 0.42),
        (0.800, 1.45, 0.62),
        (0.838, 2.20, 0.85),
        (0.856, 3.60, 0.97),
        (0.866, 3.90, 1.00),
        (0.874, 0.00, 1.00),
        (1.600, 0.00, 1.00),
    ],
    dtype=np.float64,
)
"""Radius, thickness of the glass along the line of sight, and slope of the surface (the radial part of its normal)."""
_GLOSS = np.array(
    [
        (0.000, 0.10),
        (0.300, 0.14),
        (0.335, 0.60),
        (0.360, 1.00),
        (0.530, 1.00),
        (0.540, 0.10),  # no lamp reaches the groove
        (0.560, 0.10),
        (0.570, 0.80),
        (0.610, 0.80),
        (0.650, 0.55),
        (0.850, 0.60),
        (0.868, 0.00),
        (1.600, 0.00),
    ],
    dtype=np.float64,
)
"""Radius, and share of the lamp's light that the zone mirrors, 0 to 1."""
_STEPS = 4096
"""Number of entries in the tables over the radius. They are finer than a pixel up to images of some 5000 pixels."""
_REACH = 1.6
"""Largest radius in the tables. No corner of an image is farther from the bottle's axis."""
_MOULD_CODE = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 0], dtype=np.float32)
"""Code of the mould as dots on the shoulder: 1 where a dot stands out. It is the same on every bottle."""


@dataclass(frozen=True)
class Frame:
    """Coordinates of all pixels relative to a bottle, which may stand off the middle, turned, nearer or farther."""

    x: Plane
    """`(S, S)`, distance to the right of the bottle's axis."""
    y: Plane
    """`(S, S)`, distance below the bottle's axis."""
    r: Plane
    """`(S, S)`, distance from the axis."""
    theta: Plane
    """`(S, S)`, angle about the axis in radians, -pi to pi."""
    shift: tuple[float, float]
    """Position of the axis in image coordinates; at most 0.03, which is 1.5 % of the width."""
    turn: float
    """Rotation of the bottle in radians; at most 1.5 degrees."""
    scale: float
    """Size of the bottle relative to the nominal one, 0.992 to 1.008."""

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return len(self.x)

    def to_image(self, points: npt.ArrayLike) -> Points:
        """Bring `(K, 2)` points of the bottle to image coordinates."""
        cos, sin = np.cos(self.turn) * self.scale, np.sin(self.turn) * self.scale
        turned = np.asarray(points, dtype=np.float64) @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned + np.asarray(self.shift), dtype=np.float64)


@dataclass(frozen=True)
class Glass:
    """Harmless differences between one bottle and the next."""

    thickness: float
    """Factor on the thickness of the glass, 0.94 to 1.06."""
    waves: Plane
    """`(S, S)`, uneven thickness of the wall; standard deviation about 1."""
    streaks: npt.NDArray[np.float32]
    """`(1024,)`, refraction around the axis, periodic; standard deviation about 1."""
    lip_tilt: tuple[float, float]
    """Tilt of the whole top in radians along x and y. It moves the glints."""


def stand(rng: np.random.Generator, size: int) -> Frame:
    """Put a bottle on the stage, at nearly the same place as all others."""
    dx, dy = (float(value) for value in rng.uniform(-0.03, 0.03, 2))
    turn = float(np.deg2rad(rng.uniform(-1.5, 1.5)))
    scale = float(rng.uniform(0.992, 1.008))
    across, down = grid(size)
    across, down = (across - np.float32(dx)) / np.float32(scale), (down - np.float32(dy)) / np.float32(scale)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = across * cos + down * sin, down * cos - across * sin
    return Frame(x, y, np.sqrt(x * x + y * y), np.arctan2(y, x), (dx, dy), turn, scale)


def choose_glass(rng: np.random.Generator, size: int) -> Glass:
    """Choose the harmless differences of one bottle at random."""
    # Part of the streaks comes from the mould and is the same on every bottle.
    orders = np.arange(3, 60)
    waves = rng.normal(0.0, 0.15, (2, len(orders))) + np.random.default_rng(7).normal(0.0, 0.6, (2, len(orders)))
    spectrum = np.zeros(1024 // 2 + 1, dtype=np.complex128)
    spectrum[orders] = (waves[0] - 1j * waves[1]) / np.sqrt(orders)
    return Glass(
        thickness=float(rng.uniform(0.94, 1.06)),
        waves=cloud(rng, size, 7, 2),
        streaks=np.fft.irfft(spectrum, 1024, norm="forward").astype(np.float32) / 2.0,
        # Uniform, not normal: a bottle with a far stronger glint than the others would be an anomaly itself.
        lip_tilt=(float(rng.uniform(-0.005, 0.005)), float(rng.uniform(-0.005, 0.005))),
    )


def _table(knots: npt.NDArray[np.float64], column: int) -> npt.NDArray[np.float32]:
    """Return one column of a profile at `_STEPS` evenly spaced radii. Looking it up is faster than `numpy.interp`."""
    radii = np.linspace(0.0, _REACH, _STEPS)
    return np.interp(radii, knots[:, 0], knots[:, column]).astype(np.float32)


_THICKNESS, _SLOPE, _SHINE = _table(_PROFILE, 1), _table(_PROFILE, 2), _table(_GLOSS, 1)


def shade(frame: Frame, glass: Glass, light: Light) -> Scene:
    """Draw the bottle: the stage seen through the glass, dark where the wall is thick, and the lamp's glints on it.

    Transmission follows Beer and Lambert, `stage * exp(-absorption * thickness)`.
    """
    r, theta = frame.r, frame.theta
    step = np.minimum((r * np.float32((_STEPS - 1) / _REACH)).astype(np.int32), _STEPS - 1)
    sector = ((theta + np.float32(np.pi)) * np.float32(1024 / (2 * np.pi))).astype(np.int32) & 1023
    streak = glass.streaks[sector]
    # Streaks are strong where the wall is steep. They vanish towards the axis, where all of them would meet.
    steep = ramp(r, 0.20, 0.33) * ramp(r, 0.90, 0.84)
    relief = _mould_code(frame) * 0.8 + _seam(frame)
    thickness = _THICKNESS[step] * np.float32(glass.thickness) * (1.0 + 0.07 * glass.waves + 0.13 * streak * steep)
    thickness = thickness * (1.0 + 0.35 * relief)
    scene = np.exp(thickness[..., None] * -TINT) * STAGE
    # The wall guides light upwards, so thick glass is not black; the streaks vary this light.
    glow = 0.026 * np.minimum(thickness, 2.5) * (1.0 + 0.5 * streak * steep) * ramp(r, 0.875, 0.868)
    scene += glow[..., None] * np.exp(-1.1 * TINT)
    # The bottle blocks some of the light that would reach the stage beside it.
    outside = ramp(r, 0.866, 0.876)
    scene *= (1.0 - outside * 0.38 * np.exp((np.float32(BODY) - r) * 14.0))[..., None]
    scene += _glints(frame, glass, light, _SLOPE[step] + 0.018 * streak * steep, _SHINE[step], relief)[..., None]
    return np.asarray(scene, dtype=np.float32)


def _glints(frame: Frame, glass: Glass, light: Light, slope: Plane, shine: Plane, relief: Plane) -> Plane:
    """Draw the mirror images of the ring lamp and two softboxes: bright where the normal halves lamp and camera."""
    inverse = 1.0 / np.maximum(frame.r, 1e-3)
    nx = slope * frame.x * inverse + np.float32(glass.lip_tilt[0])
    ny = slope * frame.y * inverse + np.float32(glass.lip_tilt[1]) + 0.10 * relief
    nz = np.sqrt(np.clip(1.0 - slope * slope, 0.02, 1.0))
    total = np.zeros_like(slope)
    azimuth = light.azimuth - frame.turn
    for turn, tilt, tightness, strength in (
        (0.0, 0.52, 70.0, 0.9),
        (2.75, 0.62, 60.0, 0.35),
        (-1.2, 0.30, 200.0, 0.35),
    ):
        hx, hy = np.float32(np.cos(azimuth + turn) * tilt), np.float32(np.sin(azimuth + turn) * tilt)
        match = nx * hx + ny * hy + nz * np.float32(np.sqrt(1.0 - tilt * tilt))
        total += np.float32(strength) * np.exp((match - 1.0) * np.float32(tightness))
    total += 0.10 * np.exp(-(((np.abs(slope) - 0.22) * 14.0) ** 2))
    return np.asarray(total * shine, dtype=np.float32)


def _mould_code(frame: Frame) -> Plane:
    """Draw the raised dots on the shoulder at the lower right: -1 to 1, bright above and dark below."""
    pitch, first = 0.085, 0.35
    place = (frame.theta - np.float32(first)) * np.float32(1.0 / pitch)
    number = np.floor(place)
    inside = (number >= 0) & (number < len(_MOULD_CODE))
    stands = np.where(inside, _MOULD_CODE[np.clip(number, 0, len(_MOULD_CODE) - 1).astype(np.int32)], 0.0)
    along = (place - number - 0.5) * np.float32(pitch * 0.74 / 0.018)
    across = (frame.r - 0.74) * np.float32(1.0 / 0.018)
    return np.asarray(stands * across * np.exp(0.8 - along * along - across * across), dtype=np.float32)


def _seam(frame: Frame) -> Plane:
    """Draw two thin lines over neck and shoulder, where the halves of the mould met: 0 to 1."""
    # Both seams lie on one straight line through the axis.
    aside = (frame.y * np.float32(np.cos(-0.5)) - frame.x * np.float32(np.sin(-0.5))) * np.float32(1.0 / 0.008)
    return np.asarray(np.exp(-aside * aside) * ramp(frame.r, 0.55, 0.57) * ramp(frame.r, 0.87, 0.85), dtype=np.float32)
