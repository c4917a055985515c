"""One defect in one image: where it lies, how strong it is, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_edge.planting.canvas import Canvas, Colours, Drawn, Scenery, cut, scenery
from padim_edge.planting.marks import MARKS
from padim_edge.planting.measuring import Surroundings, compared, measure, surroundings
from padim_edge.planting.pieces import PIECES
from padim_edge.planting.solids import SOLIDS
from padim_edge.planting.values import Mask, Pixels, Plant
from padim_edge.sample.field import Plane
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["EXTENTS", "KINDS", "LIMITS", "MOVED", "PLAIN", "plant", "planted"]

_DRAW = MappingProxyType({**MARKS, **SOLIDS, **PIECES})
KINDS: tuple[str, ...] = tuple(_DRAW)
"""Kinds of defect that can be planted."""
MOVED: tuple[str, ...] = tuple(PIECES)
"""Kinds that move what is there. They stand out by their place rather than by contrast, so theirs is low."""

EXTENTS = (0.01, 0.3)
"""Smallest and largest extent as shares of the image's shorter side, unless others are asked for."""
LIMITS = (0.01, 0.6)
"""Smallest and largest extent that can be asked for."""
PLAIN = 16.0
"""Contrast that a strength of 1 aims at, in deviations of the local texture."""

_CURVE = 2.5
"""Bend of the curve from strength to contrast: half the strength aims at 3.6 deviations, and none at 0."""
_NOTICED = 0.35
"""Least cover of a pixel in the mask, 0 to 1."""
_CHANGE = 4.0
"""Change in grey levels that is more than noise."""
_TRIES = 8
"""Number of places that are looked at."""
_ON_PART = 0.3
"""Share of a defect on the part that suffices, so that no other place is looked for."""
_INSIDE = 0.95
"""The same for a piece that is turned: in its place, it has no rim."""
_LEAST_ON_PART = 0.08
"""Share of a defect on the part below which it is not drawn."""
_QUIET = 1.0
"""Contrast of a good place that is low enough to plant there."""
_RIM = ("missing", "break", "shifted", "bent")
"""Kinds that mostly lie on the rim of a part."""


def plant(
    image: Pixels, kind: str, rng: np.random.Generator, *, extent: float, strength: float, part: Mask | None = None
) -> Plant | None:
    """Draw one defect into a good image.

    Args:
        image: `(H, W, 3)` uint8; it is not changed.
        kind: One of `KINDS`.
        rng: Generator of shape and place.
        extent: Size as a share of the image's shorter side, 0.01 to 0.6. The part's edge may cut it off.
        strength: 0 (nothing changes) to 1 (plain, about `PLAIN` deviations of the local texture).
        part: `(H, W)` bool, True where defects may lie; `None` is everywhere.

    Returns:
        The plant; `None` where the part has no room.

    Raises:
        PadimEdgeError: There is no such kind, a number is out of range, or the image has another form.
    """
    _check(image, kind, extent, strength)
    if part is not None and part.shape != image.shape[:2]:
        raise PadimEdgeError(
            f"the part is {part.shape}, expected {image.shape[:2]} as the image; give a mask of the image's size"
        )
    return planted(scenery(image, part), kind, rng, extent=extent, strength=strength)


def planted(scene: Scenery, kind: str, rng: np.random.Generator, *, extent: float, strength: float) -> Plant | None:
    """Draw one defect into an image that was looked at before; see `plant`."""
    laid = _placed(scene, kind, rng, extent * min(scene.part.shape), strength)
    if laid is None:
        return None
    share = _share(laid, _wanted(strength)) if laid.fades else 1.0
    image, mask = scene.image.copy(), laid.mask.copy()
    new = laid.old + (laid.full - laid.old) * (np.float32(share) * laid.cover)[..., None]
    image[laid.rows, laid.columns] = np.rint(np.clip(new, 0, 255)).astype(np.uint8)
    if laid.fades:
        # The soft edge of a plain defect is visible, too.
        change = np.abs(new - laid.old).max(axis=-1)
        mask[laid.rows, laid.columns] |= change > float(laid.around.deviation.max())
    height, width = scene.part.shape
    row, column = (float(axis.mean() + 0.5) for axis in np.nonzero(mask))
    return Plant(kind, image, mask, measure(image, mask), (row / height, column / width))


@dataclass(frozen=True, eq=False)
class _Laid:
    """A defect at its place in the image, as plain as can be."""

    rows: slice
    """Rows of the window inside the image."""
    columns: slice
    """Columns of the window inside the image."""
    old: Colours
    """`(R, C, 3)`, the window before."""
    full: Colours
    """`(R, C, 3)`, the window where the defect covers all."""
    cover: Plane
    """`(R, C)`, share of each pixel that the defect covers, 0 to 1."""
    mask: Mask
    """`(H, W)`, pixels of the defect."""
    around: Surroundings
    """Surroundings of the mask."""
    fades: bool
    """Whether a fainter defect is a mixture of both."""


def _check(image: Pixels, kind: str, extent: float, strength: float) -> None:
    """Raise PadimEdgeError for what cannot be planted."""
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise PadimEdgeError(
            f"the image is {image.dtype} {image.shape}, expected uint8 (H, W, 3); repeat the channel of a grey image"
        )
    if kind not in _DRAW:
        raise PadimEdgeError(f"there is no kind of defect {kind!r}, only {', '.join(KINDS)}; choose one of those")
    low, high = LIMITS
    if not low <= extent <= high:
        raise PadimEdgeError(f"the extent is {extent:g} of the side, expected {low:g} to {high:g}; give such a share")
    if not 0 <= strength <= 1:
        raise PadimEdgeError(f"the strength is {strength:g}, expected 0 to 1; give such a number")


def _wanted(strength: float) -> float:
    """Return the contrast that a strength asks for."""
    return PLAIN * math.expm1(_CURVE * strength) / math.expm1(_CURVE)


def _placed(scene: Scenery, kind: str, rng: np.random.Generator, extent: float, strength: float) -> _Laid | None:
    """Choose a place for a defect of `extent` pixels and draw it there as plain as can be.

    A place will do where enough of the defect lies on the part, and where the image is quiet: a place that stands out
    by itself, such as a highlight, would lend its own contrast to the defect. Else the best place is taken.
    """
    places = _places(scene, kind, rng, extent)
    light = float(rng.uniform(-2.6, -0.5))  # lamps hang above
    seeds = rng.integers(0, 2**63, len(places))
    need = _INSIDE if kind == "turned" else _ON_PART
    best, found = -math.inf, None
    for (row, column), seed in zip(places, seeds, strict=True):
        canvas, corner = cut(scene, (int(row), int(column)), max(extent, 2.0), light)
        flaw = _DRAW[kind](canvas, np.random.default_rng(int(seed)), strength)
        share = float((flaw.cover * canvas.part).sum()) / max(float(flaw.cover.sum()), 1e-6)
        laid = _laid(scene, canvas, flaw, corner) if share >= _LEAST_ON_PART else None
        if laid is None:
            continue
        channels = laid.around.deviation.size
        loud = compared(laid.around, scene.image[laid.mask].astype(np.float32)[:, :channels])[0]
        worth = min(share / need, 1.0) - max(loud - _QUIET, 0.0)
        if worth > best:
            best, found = worth, laid
        if share >= need and loud <= _QUIET:
            break
    return found


def _places(scene: Scenery, kind: str, rng: np.random.Generator, extent: float) -> npt.NDArray[np.int64]:
    """Return `(K, 2)` rows and columns on the part to try; those on its rim first for some kinds."""
    room = scene.part
    if scene.background is not None and kind in _RIM:
        inner = ndimage.distance_transform_cdt(scene.part, "chessboard")
        rim = scene.part & (inner <= max(2.0, 0.2 * extent))
        room = rim if rim.any() else room
    spots = np.flatnonzero(room)
    if not len(spots):
        return np.empty((0, 2), np.int64)
    chosen = np.stack(np.unravel_index(rng.choice(spots, _TRIES), room.shape), axis=1)
    if kind not in PIECES:
        return chosen
    # A piece that moves shows only where there is something to see, so busy places go first.
    reach = max(3, round(extent / 2))
    green = scene.image[..., 1].astype(np.float32)
    spread = [float(green[max(0, r - reach) : r + reach, max(0, c - reach) : c + reach].std()) for r, c in chosen]
    return chosen[np.argsort(spread, kind="stable")[::-1]]


def _laid(scene: Scenery, canvas: Canvas, flaw: Drawn, corner: tuple[int, int]) -> _Laid | None:
    """Bring a defect from its canvas to the image; `None` where nothing of it lies in the image."""
    (top, left), (height, width) = corner, scene.part.shape
    rows = slice(max(0, top), min(height, top + canvas.size))
    columns = slice(max(0, left), min(width, left + canvas.size))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    old, full, cover = canvas.pixels[inner], flaw.full[inner], flaw.cover[inner]
    mask = np.zeros((height, width), np.bool_)
    if not flaw.fades:
        mask[rows, columns] = _changed(old, full, cover)
        # A moved piece is drawn as it is, with its own edges.
        cover = (cover > 0.01).astype(np.float32)
        return _Laid(rows, columns, old, full, cover, mask, surroundings(scene.image, mask), flaw.fades)
    cover = cover * (canvas.beyond if flaw.gap else canvas.inside)[inner]
    highest = float(cover.max(initial=0.0))
    if highest <= 0.05:
        return None
    mask[rows, columns] = cover >= min(_NOTICED, 0.6 * highest)
    return _Laid(rows, columns, old, full, cover, mask, surroundings(scene.image, mask), flaw.fades)


def _share(laid: _Laid, wanted: float) -> float:
    """Return how much of the defect to mix in, 0 to 1, so that its contrast is what is wanted."""
    if wanted == 0:
        return 0.0
    inside = laid.mask[laid.rows, laid.columns]
    channels = laid.around.deviation.size
    old, cover = laid.old[inside][:, :channels], laid.cover[inside][:, None]
    whole = (laid.full[inside][:, :channels] - old) * cover
    if compared(laid.around, np.clip(old + whole, 0, 255))[0] <= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        contrast = compared(laid.around, old + whole * np.float32(middle))[0]
        low, high = (low, middle) if contrast > wanted else (middle, high)
    return (low + high) / 2


def _changed(old: Colours, new: Colours, cover: Plane) -> Mask:
    """Return where a moved piece changed the image by more than noise; its whole place where nothing did.

    Gaps between the changes are closed: one who marks a piece by hand does not leave out what looks alike by chance.
    """
    inside = cover >= _NOTICED
    if not inside.any():
        inside = cover >= 0.6 * float(cover.max())
    difference = np.abs(new - old).max(axis=-1)
    clear = (difference > _CHANGE) & (cover > 0.01)
    if np.count_nonzero(clear) < max(4, 0.02 * np.count_nonzero(inside)):
        return inside
    reach = max(1, round(0.12 * math.sqrt(np.count_nonzero(inside))))
    closed = ndimage.binary_closing(np.pad(clear, reach + 1), iterations=reach)[
        reach + 1 : -reach - 1, reach + 1 : -reach - 1
    ]
    return np.asarray(ndimage.binary_fill_holes(closed))
