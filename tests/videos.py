"""Tiny videos whose every frame shows its own number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV: pip install padim-edge[video]")

__all__ = ["SIZE", "Encoding", "av", "decoded", "number_of", "write"]

SIZE = (64, 48)
"""(width, height) in pixels."""

_BITS = 7
_TEXTURE = np.random.default_rng(5).integers(60, 120, (300, 300), np.uint8)


@dataclass(frozen=True)
class Encoding:
    """Settings of an encoded video."""

    gop: int = 12
    """Largest distance of keyframes."""
    b_frames: int = 2
    """Number of frames in a row that depend on a later one."""
    pixels: str = "yuv420p"
    """Pixel format."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the codec."""
    container: Mapping[str, str] = field(default_factory=dict)
    """Options of the container."""
    start: int = 0
    """Time of the first frame in ticks."""
    uneven: bool = False
    """Whether frames come at random intervals, instead of 25 a second."""


def image(number: int) -> np.ndarray:
    """Draw moving dots, so that frames depend on each other, and the number as bright columns: `(48, 64, 3)`."""
    moved = np.repeat(np.repeat(_TEXTURE[number : number + 12, number : number + 16], 4, 0), 4, 1)
    pixels = np.repeat(moved[..., None], 3, -1)
    for bit in range(_BITS):
        pixels[10:30, 8 * bit : 8 * bit + 8] = 220 if number >> bit & 1 else 20
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Read the number that `image` drew."""
    return sum(1 << bit for bit in range(_BITS) if pixels[14:26, 8 * bit + 2 : 8 * bit + 6].mean() > 120)


def write(
    path: Path,
    codec: str = "mpeg4",
    count: int = 60,
    *,
    frames: list[np.ndarray] | None = None,
    encoding: Encoding = Encoding(),
) -> Path:
    """Encode `count` images, or these frames."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    ticks = 25 if path.suffix == ".avi" else 1000  # AVI counts ticks as frames
    pause = np.random.default_rng(0)
    with av.open(str(path), "w", container_options=dict(encoding.container)) as output:
        stream = output.add_stream(codec, rate=25, options=dict(encoding.options))
        shown = frames or [image(number) for number in range(count)]
        stream.height, stream.width = shown[0].shape[:2]
        stream.pix_fmt = encoding.pixels
        context = stream.codec_context
        context.gop_size, context.max_b_frames = encoding.gop, encoding.b_frames
        context.time_base = Fraction(1, ticks)
        context.bit_rate = 2_000_000
        time = encoding.start
        for each in shown:
            frame = av.VideoFrame.from_ndarray(each, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, ticks)
            time += int(pause.integers(20, 90)) if encoding.uneven else ticks // 25
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def decoded(path: Path) -> list[np.ndarray]:
    """Decode all frames from first to last."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
