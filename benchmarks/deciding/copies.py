"""Changed copies of images: other noise, other coding, other light; more bits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["deep", "flickered", "jpeg", "noisy", "write_deep"]

Pixels = npt.NDArray[np.uint8]


def noisy(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    """Return the image `(H, W, 3)` with Gaussian noise of this many grey levels."""
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.asarray(np.rint(pixels + noise).clip(0, 255), np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Return the image as it is after a JPEG file of this quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"), np.uint8)


def flickered(pixels: Pixels, gain: float) -> Pixels:
    """Return the image with all values multiplied by a gain."""
    return np.asarray(np.rint(pixels * gain).clip(0, 255), np.uint8)


def deep(pixels: Pixels, bits: int, seed: int) -> npt.NDArray[np.uint16]:
    """Return the image as a camera of more bits would have seen it: values between the 8-bit ones are drawn."""
    between = np.random.default_rng(seed).uniform(-0.5, 0.5, pixels.shape)
    most = (1 << bits) - 1
    return np.rint((pixels + between) * (most / 255)).clip(0, most).astype(np.uint16)


def write_deep(path: Path, values: npt.NDArray[np.uint16]) -> None:
    """Write `(H, W)` or `(H, W, 3)` values as a PNG file of 16 bits a channel, which Pillow cannot do in colour."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    content = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # filter 0 of each row
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(content, 1)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
