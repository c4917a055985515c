"""Comparability of an image with the good images of the fit: a moved camera or lamp is not a defect.

The check is cheap and apart from the score. A thumbnail with one pixel per patch is compared with the mean thumbnail of
the good images. The limits are the ranges that the good images kept, with some room.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.reference import Reference, Seen

__all__ = ["FrameCheck", "Observed", "check_frame", "merge_seen", "reference_of", "shift", "thumbnail"]

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

_ROOM = 0.5
"""Share of the good images' own range by which brightness and contrast may leave it."""
_ROOM_LEVELS = 3.0
"""Grey levels of further room, for images so few or so equal that their range is nearly empty."""
_ROOM_PATCHES = 1
"""Patches by which an image may be moved further than any good one."""
_PEAK = 0.9
"""Share of the highest correlation below which the correlation at rest must stay before a shift is reported."""


@dataclass(frozen=True)
class FrameCheck:
    """Position and exposure of one image against the good images."""

    shift: tuple[int, int]
    """(rows, columns) in patches by which the image is moved against the mean good image, by phase correlation."""
    brightness: float
    """Mean grey level, 0 to 255."""
    contrast: float
    """Standard deviation of the thumbnail's grey levels."""
    warnings: tuple[str, ...]
    """`shift` and `exposure`, where the image leaves the good images' range by far; mostly empty."""


def merge_seen(one: Seen, other: Seen) -> Seen:
    """Add up the sums over two sets of images."""
    return Seen(
        one.count + other.count,
        one.total + other.total,
        _both(one.brightness, other.brightness),
        _both(one.contrast, other.contrast),
        max(one.shift, other.shift),
    )


def reference_of(seen: Seen) -> Reference:
    """Summarise the good images in the few numbers that a model keeps."""
    mean = seen.mean.round().clip(0, 255).astype(np.uint8)
    return Reference(
        base64.b64encode(mean.tobytes()).decode(), _rounded(seen.brightness), _rounded(seen.contrast), seen.shift
    )


class Observed:
    """Running sums over good images; its size does not depend on their number."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        """Sums so far."""

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Add the mean, brightness and contrast of a good image `(H, W, 3)` (first pass)."""
        small = thumbnail(frame, (self.seen.total.shape[0], self.seen.total.shape[1]))
        bright, contrast = float(small.mean()), float(small.std())
        self.seen = merge_seen(self.seen, Seen(1, small, (bright, bright), (contrast, contrast), 0))

    def add_shift(self, frame: npt.NDArray[np.uint8]) -> None:
        """Add the translation of a good image against the mean (second pass, when the mean is known)."""
        seen = self.seen
        moved = shift(thumbnail(frame, (seen.total.shape[0], seen.total.shape[1])), seen.mean)
        self.seen = replace(seen, shift=max(seen.shift, *map(abs, moved)))


def thumbnail(frame: npt.NDArray[np.uint8], grid: tuple[int, int]) -> Float64:
    """Compute `(h, w)` mean grey levels, 0 to 255, of the patches of a frame `(H, W, 3)`."""
    # Channel by channel, because numpy sums slowly over an axis of three.
    grey = frame[..., 0].astype(np.uint16) + frame[..., 1] + frame[..., 2]
    rows, columns = (np.arange(cells) * pixels // cells for cells, pixels in zip(grid, grey.shape, strict=True))
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.uint32), columns, axis=1)
    areas = np.outer(np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]]))
    return np.asarray(sums / (3 * areas))


def shift(small: Float64, mean: Float64) -> tuple[int, int]:
    """Find the translation (rows, columns) of `small` against `mean`, both `(h, w)`, in whole cells.

    The method is phase correlation (Kuglin and Hines 1975) with a window against the pull of the borders. It looks for
    at most a quarter of the size. (0, 0) is returned unless another place correlates clearly better.
    """
    return (0, 0) if min(small.shape) < 2 else _moved(small, _spectrum(mean))


def _spectrum(plane: Float64) -> Complex128:
    """Compute the spectrum `(h, w // 2 + 1)` of the edges in a thumbnail `(h, w)`."""
    window = np.outer(np.hanning(plane.shape[0] + 2)[1:-1], np.hanning(plane.shape[1] + 2)[1:-1])
    # Edges and not grey levels: light that falls off across the frame would hold the correlation at rest.
    edges = np.hypot(*np.gradient(plane))
    return np.fft.rfft2((edges - edges.mean()) * window)


def _moved(small: Float64, mean: Complex128) -> tuple[int, int]:
    """Do the work of `shift`, given the spectrum of the mean."""
    spectrum = _spectrum(small) * mean.conj()
    # Full whitening would give noise the weight of the part. Half of it keeps the peak sharp and the noise low.
    surface = np.fft.irfft2(spectrum / np.sqrt(np.abs(spectrum) + 1e-12), s=small.shape)
    reach = [max(1, side // 4) for side in small.shape]
    rows, columns = (np.arange(-r, r + 1) for r in reach)
    near = surface[np.ix_(rows, columns)]
    i, j = np.unravel_index(int(near.argmax()), near.shape)
    if near[i, j] <= 0 or surface[0, 0] > _PEAK * near[i, j]:
        return 0, 0
    return int(rows[i]), int(columns[j])


@lru_cache(maxsize=8)  # every image of a model asks for the same one
def _reference_spectrum(mean: str, grid: tuple[int, int]) -> Complex128:
    """Compute the spectrum of a reference's mean thumbnail; read-only."""
    plane = np.frombuffer(base64.b64decode(mean), np.uint8).reshape(grid).astype(np.float64)
    spectrum = _spectrum(plane)
    spectrum.flags.writeable = False
    return spectrum


def check_frame(frame: npt.NDArray[np.uint8], reference: Reference, grid: tuple[int, int]) -> FrameCheck:
    """Check an image `(H, W, 3)` in the model's frame against the good images."""
    small = thumbnail(frame, grid)
    moved = (0, 0) if min(grid) < 2 else _moved(small, _reference_spectrum(reference.mean, grid))
    brightness, contrast = float(small.mean()), float(small.std())
    warnings = []
    if max(map(abs, moved)) > reference.shift + _ROOM_PATCHES:
        warnings.append("shift")
    if not (_inside(brightness, reference.brightness) and _inside(contrast, reference.contrast)):
        warnings.append("exposure")
    return FrameCheck(moved, round(brightness, 2), round(contrast, 2), tuple(warnings))


def _inside(value: float, seen: tuple[float, float]) -> bool:
    room = _ROOM * (seen[1] - seen[0]) + _ROOM_LEVELS
    return seen[0] - room <= value <= seen[1] + room


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _rounded(seen: tuple[float, float]) -> tuple[float, float]:
    return round(seen[0], 3), round(seen[1], 3)
