"""Is an image even comparable with those that were fitted on? A moved camera or lamp is not a defect.

Cheap on purpose, and apart from the score: a thumbnail of one pixel a patch is compared with the mean thumbnail of the
good images. The limits are those that the good images themselves kept, with some room.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Comparison", "Observed", "Reference", "Seen", "compare", "shift", "thumbnail"]

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

_ROOM = 0.5
"""Share of the good images' own range by which brightness and contrast may leave it."""
_ROOM_LEVELS = 3.0
"""And that many grey levels more, so that few or equal images do not make a limit of nothing."""
_ROOM_PATCHES = 1
"""Patches by which an image may be moved further than any good one."""
_PEAK = 0.9
"""Share of the highest correlation that the one at rest must stay below for a shift to be told."""


@dataclass(frozen=True)
class Reference:
    """What the good images looked like, in a few numbers."""

    mean: str
    """Base64 of `(h, w)` uint8, the mean thumbnail in grey levels."""
    brightness: tuple[float, float]
    """Lowest and highest mean grey level of a good image, 0 to 255."""
    contrast: tuple[float, float]
    """Lowest and highest standard deviation of grey levels over a good image's thumbnail."""
    shift: int
    """Largest translation of a good image against the mean, in patches along an axis."""


@dataclass(frozen=True)
class Comparison:
    """One image against the reference."""

    shift: tuple[int, int]
    """(rows, columns) in patches by which it is moved against the mean good image, by phase correlation."""
    brightness: float
    """Mean grey level."""
    contrast: float
    """Standard deviation of grey levels over the thumbnail."""
    warnings: tuple[str, ...]
    """`shift` and `exposure` where it leaves the good images' range by far."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of good images so far; those of several places add up."""

    count: int
    total: Float64
    """`(h, w)` sum of their thumbnails."""
    brightness: tuple[float, float]
    """As in `Reference`; (inf, -inf) of no image."""
    contrast: tuple[float, float]
    """As in `Reference`; (inf, -inf) of no image."""
    shift: int
    """As in `Reference`; 0 until it has been looked at."""

    @classmethod
    def nothing(cls, grid: tuple[int, int]) -> Seen:
        """Of no image: the neutral element of `merge`."""
        return cls(0, np.zeros(grid), (np.inf, -np.inf), (np.inf, -np.inf), 0)

    def merge(self, other: Seen) -> Seen:
        """Of both sets of images together."""
        return Seen(
            self.count + other.count,
            self.total + other.total,
            _both(self.brightness, other.brightness),
            _both(self.contrast, other.contrast),
            max(self.shift, other.shift),
        )

    @property
    def mean(self) -> Float64:
        """`(h, w)` mean thumbnail."""
        return self.total / max(self.count, 1)

    def reference(self) -> Reference:
        """The same in a few numbers."""
        mean = self.mean.round().clip(0, 255).astype(np.uint8)
        return Reference(
            base64.b64encode(mean.tobytes()).decode(),
            _rounded(self.brightness),
            _rounded(self.contrast),
            self.shift,
        )


class Observed:
    """Looks at good images while they pass by; of a size that does not depend on their number."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        """All so far."""

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Count a good image `(H, W, 3)` in: its mean, brightness and contrast (first pass)."""
        small = thumbnail(frame, (self.seen.total.shape[0], self.seen.total.shape[1]))
        bright, contrast = float(small.mean()), float(small.std())
        self.seen = self.seen.merge(Seen(1, small, (bright, bright), (contrast, contrast), 0))

    def add_shift(self, frame: npt.NDArray[np.uint8]) -> None:
        """Count its translation against the mean in (second pass, when the mean is known)."""
        seen = self.seen
        moved = shift(thumbnail(frame, (seen.total.shape[0], seen.total.shape[1])), seen.mean)
        self.seen = replace(seen, shift=max(seen.shift, *map(abs, moved)))


def thumbnail(frame: npt.NDArray[np.uint8], grid: tuple[int, int]) -> Float64:
    """`(h, w)` mean grey levels, 0 to 255, of the pixels of each patch of a frame `(H, W, 3)`."""
    # Channel by channel: numpy's sum over so short an axis takes fourteen times as long.
    grey = frame[..., 0].astype(np.uint16) + frame[..., 1] + frame[..., 2]
    rows, columns = (np.arange(cells) * pixels // cells for cells, pixels in zip(grid, grey.shape, strict=True))
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.uint32), columns, axis=1)
    areas = np.outer(np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]]))
    return np.asarray(sums / (3 * areas))


def shift(small: Float64, mean: Float64) -> tuple[int, int]:
    """(rows, columns) by which `small` is moved against `mean`, both `(h, w)`, in whole cells.

    Phase correlation (Kuglin and Hines 1975), windowed so that the borders do not pin the image to its place; at most
    a quarter of the size. (0, 0) unless another place correlates clearly better than none at all.
    """
    return (0, 0) if min(small.shape) < 2 else _moved(small, _spectrum(mean))


def _spectrum(plane: Float64) -> Complex128:
    """Of the edges in a thumbnail `(h, w)`: `(h, w // 2 + 1)`."""
    window = np.outer(np.hanning(plane.shape[0] + 2)[1:-1], np.hanning(plane.shape[1] + 2)[1:-1])
    # Edges rather than grey levels: light that falls off across the frame would pin the correlation to rest.
    edges = np.hypot(*np.gradient(plane))
    return np.fft.rfft2((edges - edges.mean()) * window)


def _moved(small: Float64, mean: Complex128) -> tuple[int, int]:
    """As `shift`, with the spectrum of the mean."""
    spectrum = _spectrum(small) * mean.conj()
    # Full whitening would give noise the same weight as the part; half of it keeps the peak sharp and the noise down.
    surface = np.fft.irfft2(spectrum / np.sqrt(np.abs(spectrum) + 1e-12), s=small.shape)
    reach = [max(1, side // 4) for side in small.shape]
    rows, columns = (np.arange(-r, r + 1) for r in reach)
    near = surface[np.ix_(rows, columns)]
    i, j = np.unravel_index(int(near.argmax()), near.shape)
    if near[i, j] <= 0 or surface[0, 0] > _PEAK * near[i, j]:
        return 0, 0
    return int(rows[i]), int(columns[j])


@lru_cache(maxsize=8)  # one model's is asked for with every image
def _reference_spectrum(mean: str, grid: tuple[int, int]) -> Complex128:
    """Of a reference's mean thumbnail; not to be written to."""
    plane = np.frombuffer(base64.b64decode(mean), np.uint8).reshape(grid).astype(np.float64)
    spectrum = _spectrum(plane)
    spectrum.flags.writeable = False
    return spectrum


def compare(frame: npt.NDArray[np.uint8], reference: Reference, grid: tuple[int, int]) -> Comparison:
    """An image `(H, W, 3)` in the model's frame against the good ones."""
    small = thumbnail(frame, grid)
    moved = (0, 0) if min(grid) < 2 else _moved(small, _reference_spectrum(reference.mean, grid))
    brightness, contrast = float(small.mean()), float(small.std())
    warnings = []
    if max(map(abs, moved)) > reference.shift + _ROOM_PATCHES:
        warnings.append("shift")
    if not (_inside(brightness, reference.brightness) and _inside(contrast, reference.contrast)):
        warnings.append("exposure")
    return Comparison(moved, round(brightness, 2), round(contrast, 2), tuple(warnings))


def _inside(value: float, seen: tuple[float, float]) -> bool:
    room = _ROOM * (seen[1] - seen[0]) + _ROOM_LEVELS
    return seen[0] - room <= value <= seen[1] + room


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _rounded(seen: tuple[float, float]) -> tuple[float, float]:
    return round(seen[0], 3), round(seen[1], 3)
