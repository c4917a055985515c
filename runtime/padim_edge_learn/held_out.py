"""Scores that the good images would have outside the fit, from the graph that ships; repeats are left out together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.method import Precision
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_learn.matching import Matcher
from padim_edge_model.comparable import Observed
from padim_edge_model.fused import MapStage, combined
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.leave_one_out import distance_of, growth, leave_group_out, leave_one_out, ridge_without
from padim_edge_model.whitening import Form, form_of, whiten
from padim_edge_runtime.channel_order import feed
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import Report, none

__all__ = ["GROUP_BYTES", "LARGEST_GROUP", "Beside", "Drift", "Frames", "GoodImages", "HeldOut", "Shipped", "judged"]

LARGEST_GROUP = 128
"""Largest number of images that are left out together; larger groups are left out in parts of as many."""

GROUP_BYTES = 1 << 27
"""Memory for the embeddings of a group; wide embeddings make the largest group smaller. Copies take twice as much more.
"""

_RIDGES = 0.02
"""Relative difference of two groups' ridges up to which they share a form; it moves distances by at most 1 %."""

_NEIGHBOURS = 10
"""Number of neighbours in time that are left out together where the images are few."""
_FEWEST_BLOCKS, _MOST_BLOCKS = 3, 10
"""Least and usual largest number of such blocks."""
_ROOM, _ROOM_OF = 0.15, 30
"""Share by which the scores without neighbours are followed in any case: 15 % for up to 30 independent images, and less
for more, as 1 / n. For few images, a fit without a third of them shows what the next few may change."""
_DRIFTING = 1.3
"""Factor of a block's scores from which the images count as drifting. Draws of 20 and 30 images of bottle and screw
reach 1.18 by chance."""

Frame = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

Frames = Callable[[Sequence[int]], Iterator[tuple[int, Frame]]]
"""Function that reads the images with these numbers, in this order, and yields (number, frame) of each readable one."""


@dataclass(frozen=True, eq=False)
class GoodImages:
    """Good images for the calibration, all or some of those that were fitted on, in capture order."""

    read: Frames
    """Function that reads some of them into the model's frame, `(H, W, 3)` uint8. It is called several times."""
    count: int
    """Number of images; they are numbered from 0."""


@dataclass(frozen=True)
class Drift:
    """Images that resemble their neighbours in time more than the others."""

    factor: float
    """Factor by which the scores of a block of neighbours rise without the block, against images from everywhere."""
    first: int
    """Number of the first image of the block that is least like the others."""
    last: int
    """Number of the last image of that block."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of good images outside the fit."""

    numbers: npt.NDArray[np.int64]
    """`(n,)` numbers of the images that could be read."""
    alone: Float64
    """`(n,)` score of each image in a fit without its group."""
    scores: Float64
    """`(n,)` scores that the threshold rests on: without the neighbours in time as well, as far as that is followed."""
    groups: npt.NDArray[np.int64]
    """`(n,)` group of each image: repeats, or images that the user named as one group."""
    drift: Drift | None
    """Drift of the images in their order; `None` where there is none."""


@dataclass(frozen=True, eq=False)
class Beside:
    """Distances that a memory gives the images outside its fit, and the factors of both kinds of distance."""

    distances: Mapping[int, npt.NDArray[np.float32]]
    """`(h', w')` distances of each image by its number."""
    factors: tuple[float, float]
    """Factor of the Gaussians' distances, and of the memory's."""

    def __call__(self, number: int, position: Float64) -> Float64:
        """Return the sum `(h, w)` of an image's distances; one that the memory could not judge keeps its own."""
        other = self.distances.get(number)
        return self.factors[0] * position if other is None else combined(position, other, self.factors)


@dataclass(frozen=True, eq=False)
class Shipped:
    """A model that is about to be written, and the statistics that it was made of."""

    kept: Kept
    """Statistics and their origin."""
    session: Any
    """Session of the fused graph."""
    form: Form | None
    """Constants of the distance; `None` where the graph computes with exactly these, so that they need not be held."""
    precision: Precision
    """Precision that ships."""
    to_map: MapStage
    """Map stage."""
    device: str
    """Device that judges the images."""
    beside: Beside | None = None
    """Distances of a memory that are added; `None` for Gaussians alone."""

    @property
    def count(self) -> int:
        """n, number of images in the fit."""
        return self.kept.statistics.count

    @property
    def statistics(self) -> Statistics:
        """Gaussians of the patches."""
        assert isinstance(self.kept.statistics, Statistics), "memories are cross-validated"
        return self.kept.statistics

    @property
    def largest(self) -> int:
        """Largest number of images that are left out together."""
        patches, dims = self.statistics.mean.shape
        return int(max(1, min(LARGEST_GROUP, GROUP_BYTES // (4 * patches * dims), self.count - 1)))


def judged(shipped: Shipped, images: GoodImages, observed: Observed, report: Report = none) -> HeldOut:
    """Compute the scores that good images would have had outside the fit.

    Args:
        shipped: The model and its statistics.
        images: Good images that are in the fit.
        observed: Gains the look and the distances of the images.
        report: Progress bar for each stage.

    Raises:
        PadimEdgeError: None of the images can be read, or one of them was not fitted on.
    """
    outside = _Outside(shipped)
    with report("calibrating", images.count) as advance:
        alone = _AlonePass(outside, observed, advance)
        alone.run(images)
    if not alone.groups:
        raise PadimEdgeError("none of the good images can be read; expected some of those that were fitted on")
    outside.matcher.refuse_strangers(images.count)
    scores = dict(alone.scores)
    repeated = _repeated(alone)
    if repeated:
        with report("leaving out repeats", sum(map(len, repeated.values()))) as advance:
            for group, numbers in repeated.items():
                size = int(outside.sizes[group])
                for part in _parts(numbers, shipped.largest):
                    without = outside.group(images.read, part, size)
                    if without:  # the files may have gone since they were read
                        observed.add_distances(np.stack(list(without.values())))
                    scores |= outside.scores(without)
                    advance(len(part))
    order = sorted(scores)
    lone = np.array([scores[number] for number in order])
    groups = np.array([alone.groups[number] for number in order])
    lifted, drift = _with_neighbours(outside, images, order, (lone, groups), report)
    return HeldOut(np.array(order, np.int64), lone, lifted, groups, drift)


class _Outside:
    """Patch distances that images would have outside the fit, from the graph that ships."""

    def __init__(self, shipped: Shipped) -> None:
        self.shipped = shipped
        kept = shipped.kept
        self.parts = of_kept(kept).parts
        self.matcher = Matcher(kept.evidence)
        """Finds the images of the fit."""
        self.sizes = np.bincount(self.matcher.groups)
        """Number of images in each group."""
        self._embedding: Any = None
        self._last: tuple[int, Form] | None = None

    def alone(self, frames: Frame) -> Float64:
        """Compute the distances `(N, h, w)` of frames `(N, H, W, 3)` in fits without each of them."""
        distance = self._distance(frames)
        if self.shipped.form is None:
            return leave_one_out(distance, self.shipped.count)
        return np.asarray(distance * growth(self.shipped.form, self.embedding(frames), self.shipped.count))

    def group(self, read: Frames, numbers: Sequence[int], size: int) -> dict[int, Float64]:
        """Compute the distance `(h, w)` of each of these images in a fit without all of them.

        Where the fit holds more repeats of them, `size` in all, these are taken to be the same images once more.
        """
        shipped = self.shipped
        together = side_by_side(shipped.kept.recipe.method.preprocessing.input_size)
        found: list[int] = []
        rounded: list[npt.NDArray[np.float32]] = []
        dims, (h, w) = shipped.kept.statistics.dims, shipped.kept.statistics.grid
        vectors = np.empty((max(len(numbers), min(size, shipped.largest)), dims, h, w), np.float32)
        for batch in batches(read(numbers), together):
            frames = np.stack([frame for _, frame in batch])
            vectors[len(found) : len(found) + len(batch)] = self.embedding(frames)
            found += [number for number, _ in batch]
            if shipped.form is not None:
                rounded.append(self._distance(frames))
        if not found:
            return {}
        vectors = vectors[: max(len(found), min(size, shipped.largest))]
        for copy in range(len(found), len(vectors)):
            vectors[copy] = vectors[copy % len(found)]
        without = leave_group_out(self._form(len(vectors)), vectors, shipped.count)[: len(found)]
        if shipped.form is not None:  # what the graph rounds or cuts, it does outside the fit as well
            without *= np.concatenate(rounded) / np.maximum(distance_of(shipped.form, vectors[: len(found)]), 1e-6)
        return self.summed(dict(zip(found, without, strict=True)))

    def summed(self, distances: dict[int, Float64]) -> dict[int, Float64]:
        """Add the distances of the memory to those of the Gaussians, by number, where there is one."""
        beside = self.shipped.beside
        if beside is None:
            return distances
        return {number: beside(number, each) for number, each in distances.items()}

    def scores(self, distances: dict[int, Float64]) -> dict[int, float]:
        """Compute the score of each image from its distances `(h, w)`."""
        return {number: float(self.shipped.to_map(each[None]).max()) for number, each in distances.items()}

    def embedding(self, frames: Frame) -> npt.NDArray[np.float32]:
        """Compute the embeddings `(N, D, h, w)` of frames `(N, H, W, 3)`."""
        if self._embedding is None:
            graph = joined(of_kept(self.shipped.kept)).SerializeToString()
            self._embedding = open_session(graph, self.shipped.device).session
        return np.asarray(self._embedding.run([names.EMBEDDING], feed(self._embedding, frames))[0])

    def _distance(self, frames: Frame) -> npt.NDArray[np.float32]:
        name = names.PATCH_DISTANCE if self.shipped.beside is None else names.DISTANCE_OF_POSITION
        return np.asarray(self.shipped.session.run([name], feed(self.shipped.session, frames))[0])

    def _form(self, left_out: int) -> Form:
        """Return the form for a group of this size; groups of nearly the same size share one."""
        shipped, kept = self.shipped, self.shipped.kept
        ridge = ridge_without(kept.recipe.method.ridge, shipped.count, left_out)
        step = round(math.log(ridge) / _RIDGES)
        if self._last is None or self._last[0] != step:
            self._last = None  # forms are large; groups come in order of their size, so one is enough
            if shipped.precision.exact:
                self._last = step, whiten(shipped.statistics, ridge, self.parts)
            else:
                self._last = step, form_of(shipped.statistics, ridge, self.parts, shipped.precision)
        return self._last[1]


class _AlonePass:
    """The pass over all images: looks, groups, and scores of the images that have no repeats."""

    def __init__(self, outside: _Outside, observed: Observed, advance: Callable[[int], object]) -> None:
        self.outside, self.observed, self.advance = outside, observed, advance
        self.scores: dict[int, float] = {}
        self.groups: dict[int, int] = {}
        self.matcher = outside.matcher

    def run(self, images: GoodImages) -> None:
        """Judge the images."""
        together = side_by_side(self.outside.shipped.kept.recipe.method.preprocessing.input_size)
        for batch in batches(images.read(range(images.count)), together):
            self._look(batch)
            sizes = self.outside.sizes
            alone = [each for each in batch if not len(sizes) or sizes[self.groups[each[0]]] == 1]
            if alone:
                distances = self.outside.alone(np.stack([frame for _, frame in alone]))
                by_number = self.outside.summed(dict(zip((number for number, _ in alone), distances, strict=True)))
                self.observed.add_distances(np.stack(list(by_number.values())))
                self.scores |= self.outside.scores(by_number)
            self.advance(len(batch))

    def _look(self, batch: Sequence[tuple[int, Frame]]) -> None:
        """Note the look and the group of each image."""
        for _, frame in batch:
            self.observed.compare(frame)
        for (number, _), place in zip(batch, self.matcher.find(batch), strict=True):
            self.groups[number] = self.matcher.group(place)


def _repeated(alone: _AlonePass) -> dict[int, list[int]]:
    """Return the numbers of the images of each group with repeats, the smallest groups first."""
    found: dict[int, list[int]] = {}
    for number, group in alone.groups.items():
        if number not in alone.scores:
            found.setdefault(group, []).append(number)
    return dict(sorted(found.items(), key=lambda item: alone.outside.sizes[item[0]]))


def _parts(numbers: Sequence[int], largest: int) -> list[Sequence[int]]:
    return [numbers[start : start + largest] for start in range(0, len(numbers), largest)]


def _with_neighbours(
    outside: _Outside,
    images: GoodImages,
    numbers: Sequence[int],
    found: tuple[Float64, npt.NDArray[np.int64]],
    report: Report,
) -> tuple[Float64, Drift | None]:
    """Return the scores that images have without their neighbours in time, and their drift; `found` are scores, groups.

    Neighbours are more alike than strangers. And a fit without a tenth of its images shows what the next few images
    change. So the scores without a block of neighbours are closer to those of images yet to come. Up to `_ROOM` they
    are followed always, and beyond it where the images drift.
    """
    alone, groups = found
    count, independent = len(numbers), len(np.unique(groups))
    blocks = max(_FEWEST_BLOCKS, min(independent // _NEIGHBOURS, _MOST_BLOCKS), -(-count // outside.shipped.largest))
    if count < 2 * _FEWEST_BLOCKS:
        return alone, None

    def without(split: npt.NDArray[np.int64], words: str) -> Float64:
        scores: dict[int, float] = {}
        with report(words, count) as advance:
            for block in range(blocks):
                own = [number for number, other in zip(numbers, split, strict=True) if other == block]
                scores |= outside.scores(outside.group(images.read, own, 0))
                advance(len(own))
        return np.array([scores.get(number, score) for number, score in zip(numbers, alone, strict=True)])

    contiguous = np.arange(count) * blocks // count
    neighbours = without(contiguous, "leaving out neighbours")
    lift = neighbours / np.maximum(alone, 1e-12)
    steady = np.clip(neighbours, alone, alone * (1 + _ROOM * min(1.0, _ROOM_OF / independent)))
    if max(np.median(lift[contiguous == block]) for block in range(blocks)) < _DRIFTING:
        return steady, None
    # Fewer images in the fit raise the scores as well. Blocks that are spread over the whole set tell how much.
    spread = without(np.arange(count) % blocks, "leaving out others")
    drift = neighbours / np.maximum(spread, 1e-12)
    factors = [float(np.median(drift[contiguous == block])) for block in range(blocks)]
    worst = int(np.argmax(factors))
    if factors[worst] < _DRIFTING:
        return steady, None
    own = [number for number, block in zip(numbers, contiguous, strict=True) if block == worst]
    return np.maximum(neighbours, alone), Drift(factors[worst], own[0], own[-1])
