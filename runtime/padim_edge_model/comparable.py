"""Comparability of an image with the good images of the fit: a moved camera or another product is not a defect.

The check is cheap and apart from the score. It looks for what changes most of an image, since a defect changes a part:

- `unlike`: three quarters of the patch distances are larger than in any good image. So it is another product, another
  lens or view, or no image of a part at all.
- `shift` and `turned`: a thumbnail with one pixel per patch has moved, or has turned, against the mean thumbnail.
- `exposure`: the thumbnail is brighter, darker or flatter than any good one.

The limits are the ranges that the good images kept, with some room.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.reference import Likeness, Reference, Seen
from padim_edge_model.turned import ANGLES, Turns, leans, turns_of

__all__ = [
    "WARNINGS",
    "FrameCheck",
    "Observed",
    "check_frame",
    "lower_quartile",
    "merge_seen",
    "reference_of",
    "shift",
    "thumbnail",
]

WARNINGS = ("unlike", "shift", "turned", "exposure")
"""Reasons why an image is not comparable, in the order in which they are given."""

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

_ROOM = 0.5
"""Share of the good images' own range by which brightness and contrast may leave it."""
_ROOM_LEVELS = 3.0
"""Grey levels of further room, for images so few or so equal that their range is nearly empty."""
_ROOM_PATCHES = 1
"""Patches by which an image may be moved further than any good one."""
_STILL = 2
"""Largest shift of the good images, in patches, for which their parts count as lying still. The correlation of parts
that lie anywhere finds shifts that mean nothing."""
_EXPLAINED = 0.9
"""Share of the difference from the mean that may be left after a shift is undone."""
_TOUCHED = 10
"""The tenth of the thumbnail that differs most is left out of the exposure, since a defect may be there."""
_FLAT = 3
"""An image with a third of the lowest contrast shows no part, whatever its brightness is."""
_UNLIKE, _UNLIKE_LEAST = 1.5, 1.1
"""Room above the highest lower quartile of a good image's patch distances, and the least such room."""
_TYPICAL = (1.9, 2.5)
"""Lowest and highest limit in units of the typical lower quartile. The first helps where few images are so alike that
their highest says little, the second where one odd image among the good ones has set the highest."""
_TURNED, _TURNED_DEVIATIONS, _TURNED_LARGEST = 0.6, 5.0, 0.8
"""Least limit of the lean, its limit in standard deviations of the good images' leans, and the largest useful limit:
turned images lean by about 1."""
_QUARTERS = 4
"""Steps of a grey level in which the deviations are stored."""
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
    turned: int
    """Angle in degrees, counterclockwise, by which the image is turned: 0, or one of `turned.ANGLES`."""
    warnings: tuple[str, ...]
    """Those of `WARNINGS` that hold. Mostly empty; an image with any is not comparable with the good images."""


def merge_seen(one: Seen, other: Seen) -> Seen:
    """Add up the sums over two sets of images."""
    return Seen(
        one.count + other.count,
        one.total + other.total,
        _both(one.brightness, other.brightness),
        _both(one.contrast, other.contrast),
        max(one.shift, other.shift),
        one.squares + other.squares,
        _merge_likeness(one.likeness, other.likeness),
    )


def _merge_likeness(one: Likeness, other: Likeness) -> Likeness:
    ninety, half, three_quarters = (a + b for a, b in zip(one.leans, other.leans, strict=True))
    return Likeness(
        one.leaning + other.leaning,
        (ninety, half, three_quarters),
        one.judged + other.judged,
        one.logs + other.logs,
        max(one.highest, other.highest),
    )


def reference_of(seen: Seen) -> Reference:
    """Summarise the good images in the few numbers that a model keeps."""
    mean = seen.mean.round().clip(0, 255).astype(np.uint8)
    deviation = (_QUARTERS * seen.deviation).round().clip(0, 255).astype(np.uint8)
    return Reference(
        base64.b64encode(mean.tobytes()).decode(),
        _rounded(seen.brightness),
        _rounded(seen.contrast),
        seen.shift,
        base64.b64encode(deviation.tobytes()).decode(),
        _turned_limits(seen),
        _unlike_limit(seen.likeness),
    )


def _turned_limits(seen: Seen) -> tuple[float, ...]:
    likeness = seen.likeness
    if not likeness.leaning:
        return ()
    can_turn = [bool(direction.any()) for direction in turns_of(seen.mean, seen.deviation).towards]
    limits = [
        max(_TURNED, _TURNED_DEVIATIONS * (squares / likeness.leaning) ** 0.5) if possible else 0.0
        for squares, possible in zip(likeness.leans, can_turn, strict=True)
    ]
    return tuple(round(limit, 4) if limit <= _TURNED_LARGEST else 0.0 for limit in limits)


def _unlike_limit(likeness: Likeness) -> float:
    if not likeness.judged:
        return 0.0
    typical, highest = float(np.exp(likeness.logs / likeness.judged)), likeness.highest
    lowest, largest = (times * typical for times in _TYPICAL)
    return round(min(max(_UNLIKE * highest, lowest), max(_UNLIKE_LEAST * highest, largest)), 4)


def lower_quartile(distances: npt.NDArray[np.floating]) -> Float64:
    """Compute the distance `(N,)` that three quarters of the patch distances `(N, h, w)` exceed."""
    flat = np.asarray(distances, np.float64).reshape(len(distances), -1)
    at = flat.shape[1] // 4  # an element and no interpolation, so that every runtime finds the same number
    return np.partition(flat, at, axis=1)[:, at]


class Observed:
    """Running sums over good images; its size does not depend on their number."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        """Sums so far."""
        self._turns: Turns | None = None

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Add the mean, brightness and contrast of a good image `(H, W, 3)` (first pass)."""
        small = thumbnail(frame, (self.seen.total.shape[0], self.seen.total.shape[1]))
        bright, contrast = float(small.mean()), float(small.std())
        self._turns = None
        self.seen = merge_seen(self.seen, Seen(1, small, (bright, bright), (contrast, contrast), 0, small**2))

    def compare(self, frame: npt.NDArray[np.uint8]) -> None:
        """Add the shift and the leans of a good image against the mean (second pass, when the mean is known)."""
        seen = self.seen
        if self._turns is None:
            self._turns = turns_of(seen.mean, seen.deviation)
        small = thumbnail(frame, (seen.total.shape[0], seen.total.shape[1]))
        quarter, half, three_quarters = leans(small, self._turns)
        one = Likeness(1, (quarter**2, half**2, three_quarters**2))
        self.seen = replace(
            seen,
            shift=max(seen.shift, *map(abs, shift(small, seen.mean))),
            likeness=_merge_likeness(seen.likeness, one),
        )

    def add_distances(self, distances: npt.NDArray[np.floating]) -> None:
        """Add the patch distances `(N, h, w)` that good images have outside the fit (second pass)."""
        quartiles = lower_quartile(distances).clip(1e-6)
        some = Likeness(0, (0.0, 0.0, 0.0), len(quartiles), float(np.log(quartiles).sum()), float(quartiles.max()))
        self.seen = replace(self.seen, likeness=_merge_likeness(self.seen.likeness, some))


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


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Parts of a reference that every check needs; all arrays are read-only."""

    mean: Float64
    spectrum: Complex128
    turns: Turns | None


@lru_cache(maxsize=8)  # every image of a model asks for the same one
def _prepared(reference: Reference, grid: tuple[int, int]) -> _Prepared:
    mean = _plane(reference.mean, grid)
    deviation = _plane(reference.deviation, grid) / _QUARTERS if reference.deviation else None
    turns = None if deviation is None or not any(reference.turned) else turns_of(mean, deviation)
    prepared = _Prepared(mean, _spectrum(mean) if min(grid) > 1 else np.zeros((1, 1), np.complex128), turns)
    for array in (prepared.mean, prepared.spectrum):
        array.flags.writeable = False
    return prepared


def _plane(text: str, grid: tuple[int, int]) -> Float64:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(grid).astype(np.float64)


def check_frame(
    frame: npt.NDArray[np.uint8],
    reference: Reference,
    grid: tuple[int, int],
    patch_distance: npt.NDArray[np.floating] | None = None,
) -> FrameCheck:
    """Check an image against the good images.

    Args:
        frame: `(H, W, 3)` in the model's frame.
        reference: Look of the good images.
        grid: (h, w) of the patches.
        patch_distance: `(h, w)` distances that the model gave for the image; `None` leaves `unlike` out.
    """
    small, prepared = thumbnail(frame, grid), _prepared(reference, grid)
    moved = (0, 0) if min(grid) < 2 else _moved(small, prepared.spectrum)
    turned = 0 if prepared.turns is None else _turned(leans(small, prepared.turns), reference.turned)
    found = {
        "unlike": patch_distance is not None
        and 0 < reference.unlike < float(lower_quartile(np.asarray(patch_distance)[None])[0]),
        "shift": reference.shift <= _STILL
        and max(map(abs, moved)) > reference.shift + _ROOM_PATCHES
        and _explains(moved, small, prepared.mean),
        "turned": turned != 0,
        "exposure": _exposed_otherwise(small, prepared.mean, reference),
    }
    warnings = tuple(warning for warning in WARNINGS if found[warning])
    return FrameCheck(moved, round(float(small.mean()), 2), round(float(small.std()), 2), turned, warnings)


def _turned(found: tuple[float, ...], limits: tuple[float, ...]) -> int:
    """Return the angle with the largest lean among those above their limits, or 0."""
    above = [(lean, angle) for lean, limit, angle in zip(found, limits, ANGLES, strict=True) if 0 < limit < lean]
    return max(above)[1] if above else 0


def _explains(moved: tuple[int, int], small: Float64, mean: Float64) -> bool:
    """Tell whether the thumbnail is like the moved mean rather than the mean itself.

    A strong defect pulls the correlation as well, but moving the image back makes the rest of it worse.
    """
    there, back = (
        tuple(slice(max(0, sign * by), side + min(0, sign * by)) for by, side in zip(moved, small.shape, strict=True))
        for sign in (1, -1)
    )
    moved_back, at_rest = small[there] - mean[back], small[there] - mean[there]
    return _spread(moved_back) < _EXPLAINED * _spread(at_rest)


def _spread(difference: Float64) -> float:
    return float(np.abs(difference - np.median(difference)).mean())


def _exposed_otherwise(small: Float64, mean: Float64, reference: Reference) -> bool:
    """Tell whether brightness or contrast leaves the good images' range, and not because of a part of the image."""
    if float(small.std()) < reference.contrast[0] / _FLAT:
        return True
    off, most = np.abs(small - mean), small.size - 1 - small.size // _TOUCHED
    rest = np.where(off > np.partition(off.ravel(), most)[most], mean, small)
    return not (
        (_inside(float(small.mean()), reference.brightness) or _inside(float(rest.mean()), reference.brightness))
        and (_inside(float(small.std()), reference.contrast) or _inside(float(rest.std()), reference.contrast))
    )


def _inside(value: float, seen: tuple[float, float]) -> bool:
    room = _ROOM * (seen[1] - seen[0]) + _ROOM_LEVELS
    return seen[0] - room <= value <= seen[1] + room


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _rounded(seen: tuple[float, float]) -> tuple[float, float]:
    return round(seen[0], 3), round(seen[1], 3)
