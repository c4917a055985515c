"""The texture class: a close view of twill cloth, pale warp threads over and under blue weft threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.sample.field import Plane, Scene, cloud, grid
from padim_edge.sample.light import Light

__all__ = ["TABLE", "THREADS", "WARP", "WEFT", "Cloth", "lay", "shade"]

THREADS = 24
"""Number of threads along each side of the image; one is `2 / THREADS` wide in image coordinates."""
WARP = np.array([0.66, 0.60, 0.49], dtype=np.float32)
"""Reflectance of the threads that run down the image: raw cotton."""
WEFT = np.array([0.105, 0.175, 0.285], dtype=np.float32)
"""Reflectance of the threads that run across: dyed blue."""
TABLE = np.array([0.012, 0.012, 0.013], dtype=np.float32)
"""Reflectance of the table under the cloth."""

_SPARE = 6
"""Number of threads in the tables beyond each border, for cloth that is laid off the middle or pushed aside."""
_REPEAT = 4
"""Number of crossings after which the twill repeats: two over, two under, shifted by one on each thread."""
_CRIMP = 0.42
"""Height by which a thread swings up and down, in thread widths."""


@dataclass(frozen=True)
class Cloth:
    """The cloth under the camera, before it is lit. A defect of the weave is a change of these planes."""

    across: Plane
    """`(S, S)`, position across the warp threads: the whole part numbers the thread, 0.5 is its middle."""
    down: Plane
    """`(S, S)`, position across the weft threads, likewise."""
    swing: Plane
    """`(S, S)`, factor on the swing: 1 is right, -1 exchanges over and under, 0 is flat."""
    warp: Plane
    """`(S, S)`, share of the warp thread that is present, 0 to 1."""
    weft: Plane
    """`(S, S)`, share of the weft thread that is present, 0 to 1."""
    tone: Plane
    """`(S, S)`, factor about 1 for uneven dye and brushing."""
    grain: Plane
    """`(S, S)`, single fibres; mean about 0, standard deviation about 1."""
    threads: npt.NDArray[np.float32]
    """`(2, THREADS + 2 * _SPARE, 3)`, half width, brightness and phase of the twist of each warp and weft thread."""

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return len(self.across)


def lay(rng: np.random.Generator, size: int) -> Cloth:
    """Lay a new piece of the same cloth under the camera, a little shifted, turned and uneven."""
    phase = rng.uniform(0.0, _REPEAT, 2)
    turn = float(np.deg2rad(rng.uniform(-1.2, 1.2)))
    pitch = THREADS / 2 * float(rng.uniform(0.99, 1.01))
    x, y = grid(size)
    cos, sin = np.float32(np.cos(turn) * pitch), np.float32(np.sin(turn) * pitch)
    half = np.float32(THREADS / 2)
    across = x * cos + y * sin + (half + np.float32(phase[0])) + 0.11 * cloud(rng, size, 6, 2)
    down = y * cos - x * sin + (half + np.float32(phase[1])) + 0.11 * cloud(rng, size, 6, 2)
    count = THREADS + 2 * _SPARE
    threads = np.stack(
        [
            rng.normal(0.475, 0.014, (2, count)),
            rng.normal(1.0, 0.055, (2, count)),
            rng.uniform(0.0, 2.0 * np.pi, (2, count)),
        ],
        axis=2,
    )
    whole = np.ones((size, size), np.float32)
    return Cloth(
        across=across,
        down=down,
        swing=whole,
        warp=whole,
        weft=whole,
        tone=1.0 + 0.035 * cloud(rng, size, 5, 2),
        grain=cloud(rng, size, 150),
        threads=threads.astype(np.float32),
    )


def shade(cloth: Cloth, light: Light) -> Scene:
    """Draw the cloth. At each point, the higher thread hides the lower one.

    A thread is a rounded ridge whose middle line swings up where it goes over and down where it goes under. The lamp
    stands low, so the flank that faces it is bright and the valleys between threads are dark.
    """
    number_across, number_down = np.floor(cloth.across), np.floor(cloth.down)
    aside_warp, aside_weft = cloth.across - number_across - 0.5, cloth.down - number_down - 0.5
    lamp = (float(np.cos(light.azimuth)), float(np.sin(light.azimuth)))
    warp_height, warp_shade = _thread(cloth, 0, number_across, aside_warp, cloth.down - number_across, lamp)
    weft_height, weft_shade = _thread(cloth, 1, number_down, aside_weft, cloth.across - number_down - 2.0, lamp[::-1])
    warp_height = warp_height - 3.0 * (1.0 - cloth.warp)
    weft_height = weft_height - 3.0 * (1.0 - cloth.weft)
    # The edge between the upper and the lower thread is about one pixel soft.
    sharpness = np.float32(cloth.size / THREADS * 0.55)
    on_top = np.clip(0.5 + (warp_height - weft_height) * sharpness, 0.0, 1.0)
    gap = np.abs(warp_height - weft_height)
    # Where a thread dives under another, it lies in its shadow.
    crevice = 0.55 + 0.45 * np.minimum(gap * 2.2, 1.0)
    brightness = cloth.tone * crevice
    warp_shade, weft_shade = warp_shade * brightness * on_top, weft_shade * brightness * (1.0 - on_top)
    scene = warp_shade[..., None] * WARP + weft_shade[..., None] * WEFT
    there = np.clip(1.0 + np.maximum(warp_height, weft_height) + 0.45, 0.0, 1.0)
    return np.asarray(TABLE + (scene - TABLE) * there[..., None], dtype=np.float32)


def _thread(
    cloth: Cloth, direction: int, number: Plane, aside: Plane, along: Plane, lamp: tuple[float, float]
) -> tuple[Plane, Plane]:
    """Return height and brightness of the warp (`direction` 0) or the weft (1).

    Args:
        cloth: The cloth.
        direction: 0 for the threads that run down, 1 for those that run across.
        number: `(S, S)`, number of the thread.
        aside: `(S, S)`, distance from the thread's middle line in thread widths, -0.5 to 0.5.
        along: `(S, S)`, position along the thread in thread widths, from the start of its repeat.
        lamp: Direction of the lamp as (aside, along).
    """
    table = cloth.threads[direction]
    index = np.clip(number, 0, len(table) - 1).astype(np.int32)
    width, tint, twist = table[:, 0][index], table[:, 1][index], table[:, 2][index]
    flank = np.clip(aside / width, -1.0, 1.0)
    roundness = np.sqrt(np.maximum(1.0 - flank * flank, 0.0))
    angle = along * np.float32(2.0 * np.pi / _REPEAT)
    wave = np.sin(angle)
    # A clipped sine: the thread runs level over the two threads that it covers.
    level = np.clip(1.5 * wave, -1.0, 1.0) * cloth.swing
    incline = np.where(np.abs(wave) < 2.0 / 3.0, np.cos(angle), 0.0) * cloth.swing
    height = np.float32(_CRIMP) * level + 0.40 * roundness - 0.40
    fibres = np.sin(along * 9.0 + flank * 2.6 + twist) * 0.06 + cloth.grain * 0.045
    facing = flank * np.float32(0.34 * lamp[0]) - incline * np.float32(0.20 * lamp[1])
    shade = (0.22 + 0.62 * roundness + facing) * (1.0 + fibres) * tint
    return height, shade * (0.86 + 0.22 * level)
