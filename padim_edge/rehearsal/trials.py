"""Trials: defects drawn on good images that are new to the model, and the scores that the model gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.planting import Part, Plant, plants
from padim_edge_learn.accumulate import batches, side_by_side

__all__ = [
    "EXTENTS",
    "PLAIN_CONTRAST",
    "PLAIN_EXTENT",
    "Columns",
    "Crop",
    "Good",
    "Judged",
    "Planting",
    "Score",
    "Trial",
    "columns",
    "crop",
    "judge",
    "per_image",
    "plain",
]

PLAIN_CONTRAST = 3.0
"""Contrast from which a defect is plainly visible, in deviations of the local texture."""
PLAIN_EXTENT = 8.0
"""Extent from which it is, in pixels of the model's frame."""

EXTENTS = (0.01, 0.45)
"""Smallest and largest extent of drawn defects, as shares of the shorter side."""

_MARGIN = 0.6
"""Room around a defect in a crop, as a share of the defect's longer side."""
_LEAST_CROP = 64
"""Smallest side of a crop in pixels, where the image is as large."""

Frame = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Score = Callable[[Frame], Float64]
"""Function that judges images `(N, H, W, 3)` in the model's frame and returns their scores `(N,)`."""


@dataclass(frozen=True)
class Trial:
    """One defect that the model judged: drawn on a good image, or real."""

    kind: str
    """Kind of defect."""
    extent: float
    """Longest side of the defect in pixels of the model's frame, above 0."""
    contrast: float
    """How far the defect stands out, in deviations of the local texture, 0 or more."""
    levels: float
    """How far it stands out in grey levels, 0 to 255."""
    place: tuple[float, float]
    """(row, column) of its centre as shares of the image's height and width, 0 to 1."""
    score: float
    """Score of the image with the defect."""
    image: int
    """Number of the image."""
    before: float | None = None
    """Score of the same image without the defect; `None` for a real defect."""
    area: float = 0.0
    """Number of pixels of the model's frame that it covers; 0 where it is unknown."""


@dataclass(frozen=True)
class Good:
    """One good image that is new to the model."""

    image: int
    """Number of the image."""
    name: str
    """File name or description."""
    score: float
    """Score of the image."""


@dataclass(frozen=True, eq=False)
class Crop:
    """Surroundings of a defect, to look at."""

    trial: Trial
    """The defect."""
    image: Frame
    """`(h, w, 3)` part of the image with the defect."""
    mask: Mask
    """`(h, w)`, True where the defect is."""


@dataclass(frozen=True, eq=False)
class Planting:
    """Which good images gain defects, and how many."""

    images: frozenset[int]
    """Numbers of the images that gain defects."""
    each: int
    """Number of defects on each of these, one by one."""
    seed: int
    """Random seed of the defects."""
    part: Part
    """Function that tells where on an image defects may lie."""
    shrink: float = 1.0
    """Pixels of the model's frame per pixel of the images; below 1 where the graph itself shrinks them."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of good images with and without drawn defects."""

    good: tuple[Good, ...]
    """The good images without defects."""
    crops: tuple[Crop, ...]
    """Every trial with its surroundings, in the order of images."""
    mean: Float64
    """`(H, W, 3)` mean of the good images, 0 to 255."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial."""
        return tuple(each.trial for each in self.crops)


@dataclass(frozen=True, eq=False)
class Columns:
    """Trials as arrays, one number per trial."""

    kind: npt.NDArray[np.str_]
    """`(T,)` kinds."""
    extent: Float64
    """`(T,)` extents in pixels of the model's frame."""
    contrast: Float64
    """`(T,)` contrasts in deviations of the local texture."""
    place: Float64
    """`(T, 2)` places, 0 to 1."""
    score: Float64
    """`(T,)` scores."""
    image: npt.NDArray[np.int64]
    """`(T,)` numbers of the images."""


def columns(trials: Sequence[Trial]) -> Columns:
    """Return trials as arrays."""
    return Columns(
        np.array([each.kind for each in trials], np.str_),
        np.array([each.extent for each in trials], np.float64),
        np.array([each.contrast for each in trials], np.float64),
        np.array([each.place for each in trials], np.float64).reshape(-1, 2),
        np.array([each.score for each in trials], np.float64),
        np.array([each.image for each in trials], np.int64),
    )


def plain(trial: Trial) -> bool:
    """Tell whether a defect is plainly visible."""
    return trial.contrast >= PLAIN_CONTRAST and trial.extent >= PLAIN_EXTENT


def per_image(images: int, count: int) -> tuple[list[int], int]:
    """Spread `count` defects evenly over images.

    Returns:
        Numbers of the images that gain defects, and how many each gains: all images where there are no more images
        than defects, else an even selection.
    """
    if images <= count:
        return list(range(images)), -(-count // images)
    return np.linspace(0, images - 1, count).round().astype(np.int64).tolist(), 1


def judge(
    score: Score,
    frames: Iterable[tuple[int, str, Frame]],
    planting: Planting,
    advance: Callable[[int], object] = lambda _: None,
) -> Judged:
    """Judge good images without a defect, and some of them with defects drawn on them.

    Batches hold as many images whatever the number of cores, so the scores do not depend on it.

    Args:
        score: The model.
        frames: Number, name and pixels `(H, W, 3)` of each good image, as the model takes it.
        planting: Number and places of the defects.
        advance: Called with the number of images done, those with defects included.
    """
    good: list[Good] = []
    crops: list[Crop] = []
    total: Float64 | None = None
    for batch in _batches(frames):
        stack = np.stack([frame for _, _, frame in batch])
        scores = score(stack)
        good += [Good(number, name, float(found)) for (number, name, _), found in zip(batch, scores, strict=True)]
        added = stack.sum(axis=0, dtype=np.float64)
        total = added if total is None else total + added
        advance(len(batch))
        before = {number: float(found) for (number, _, _), found in zip(batch, scores, strict=True)}
        chosen = [(number, frame) for number, _, frame in batch if number in planting.images]
        drawn = plants(chosen, planting.each, planting.seed, extents=EXTENTS, part=planting.part)
        for some in batches(drawn, side_by_side((stack.shape[1], stack.shape[2]))):
            found = score(np.stack([plant.image for _, plant in some]))
            for (number, plant), value in zip(some, found, strict=True):
                trial = _trial(plant, number, float(value), before[number], planting.shrink)
                crops.append(Crop(trial, *crop(plant.image, plant.mask)))
            advance(len(some))
    assert total is not None, "there is at least one image"
    return Judged(tuple(good), tuple(crops), total / len(good))


def _batches(frames: Iterable[tuple[int, str, Frame]]) -> Iterator[list[tuple[int, str, Frame]]]:
    iterator = iter(frames)
    for first in iterator:
        size = side_by_side((first[2].shape[0], first[2].shape[1]))
        batch = [first]
        for other in iterator:
            batch.append(other)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _trial(plant: Plant, number: int, score: float, before: float, shrink: float) -> Trial:
    measured = plant.measured
    return Trial(
        plant.kind,
        float(measured.extent) * shrink,
        float(measured.contrast),
        float(measured.levels),
        (float(plant.place[0]), float(plant.place[1])),
        score,
        number,
        before,
        float(measured.area) * shrink**2,
    )


def crop(image: Frame, mask: Mask) -> tuple[Frame, Mask]:
    """Cut a square around the defect out of an image `(H, W, 3)` and its mask `(H, W)`."""
    rows, columns_ = np.nonzero(mask)
    if not len(rows):
        return image, mask
    tall, wide = int(rows.max() - rows.min()) + 1, int(columns_.max() - columns_.min()) + 1
    side = max(_LEAST_CROP, round(max(tall, wide) * (1 + 2 * _MARGIN)))
    spans = []
    for low, high, size in (
        (rows.min(), rows.max(), mask.shape[0]),
        (columns_.min(), columns_.max(), mask.shape[1]),
    ):
        length = min(side, size)
        start = min(max(0, (int(low) + int(high) + 1 - length) // 2), size - length)
        spans.append(slice(start, start + length))
    return image[spans[0], spans[1]].copy(), mask[spans[0], spans[1]].copy()
