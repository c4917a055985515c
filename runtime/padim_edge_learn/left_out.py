"""Models of a part of the good images, and the images that these models have not seen.

A model that planted defects are tried on must not know the image beneath. Statistics add up, so a part of the images
can be taken away again: no image needs a second fit. A memory leaves out whole folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Memory, Statistics
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.kept import Kept
from padim_edge_learn.accumulate import BATCH, GaussianLearner, accumulate, batches
from padim_edge_learn.assemble import ModelOptions, constants_of
from padim_edge_learn.held_out import GoodImages
from padim_edge_learn.matching import Matcher
from padim_edge_model import onnx_file
from padim_edge_model.fused import Pair, fuse
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.memory import Nearest, fold_at
from padim_edge_model.repeats import groups_of
from padim_edge_model.statistics import without
from padim_edge_runtime.devices.providers import open_session

__all__ = ["LeftOut", "left_out"]

_THIRDS = ((0, 1, 2), (3, 4, 5), (6, 7))
"""Folds of a memory that are left out together; Gaussians leave out the same images."""

_FEWEST = 2
"""Smallest number of images that a model is made of."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A model without some of the good images."""

    numbers: tuple[int, ...]
    """Numbers of images that the model has not seen, nor a repeat of them."""
    session: Any
    """Session of the fused graph, whose outputs are `names.OUTPUTS`; with both kinds of distance, those of
    `names.FURTHER_OUTPUTS` as well. Both kinds have the factor one half unless the options say otherwise."""


def left_out(
    kept: Kept, images: GoodImages, options: ModelOptions, *, device: str = "cpu", most: int = 240
) -> Iterator[LeftOut]:
    """Make up to three models, each without a third of the images.

    Of many images, only some are taken away from the Gaussians; these are the ones that come back.

    Args:
        kept: Statistics of the images.
        images: The images that were fitted on, or some of them.
        options: Options of the model.
        device: Device that runs the graphs.
        most: Largest number of images that come back, all models together.

    Yields:
        Models one after another; none where too few images would be left.

    Raises:
        PadimEdgeError: One of the images was not fitted on.
    """
    method = kept.recipe.method
    chosen = options.combination or Combination(0.5, (1.0, 1.0))
    order = _Order(kept, images)
    for places, folds in _thirds(kept, most):
        numbers = order.numbers(places)
        if not numbers or kept.statistics.count - len(numbers) < _FEWEST:
            continue
        forms = [constants_of(_reduced(head, images, numbers, device), options, folds) for head in kept.heads]
        form = forms[0]
        if len(forms) > 1:
            gaussians, memory = forms
            assert isinstance(memory, Nearest), "a memory stands beside the Gaussians"
            assert not isinstance(gaussians, Nearest | Pair), "Gaussians come first"
            form = Pair(gaussians, memory, chosen.factors)
        fused = fuse(of_kept(kept), form, method.preprocessing.size, method.sigma, options.inspected)
        del forms, form
        session = open_session(onnx_file.whole(fused), device).session
        del fused
        yield LeftOut(tuple(numbers), session)


def _reduced(head: Kept, images: GoodImages, numbers: Sequence[int], device: str) -> Kept:
    """Take images away from Gaussians; a memory is returned as it is, since it leaves out folds."""
    if not isinstance(head.statistics, Statistics):
        return head
    some = GaussianLearner(Statistics.empty(head.statistics.grid, head.statistics.dims))
    frames = (frame for _, frame in images.read(numbers))
    accumulate(joined(of_kept(head)).SerializeToString(), frames, some, device=device)
    return replace(head, statistics=without(head.statistics, some.finish()))


def _groups(kept: Kept) -> npt.NDArray[np.int64]:
    """Return the group of each image of the fit; each is one of its own where no fingerprints were kept."""
    return groups_of(kept.evidence) if len(kept.evidence.named) else np.arange(kept.statistics.count)


class _Order:
    """Finds the images of some places of the fit.

    Args:
        kept: Statistics of the images.
        images: The images that were fitted on, or some of them. Mostly they come in the same order.
    """

    def __init__(self, kept: Kept, images: GoodImages) -> None:
        self._images, self._groups = images, _groups(kept)
        self._matcher = Matcher(kept.evidence)
        self._same = images.count == kept.statistics.count
        self._by_group: dict[int, list[int]] | None = None

    def numbers(self, places: Sequence[int]) -> list[int]:
        """Return the numbers of all images of the groups at these places; of a group that is not complete, none.

        Raises:
            PadimEdgeError: One of the images was not fitted on.
        """
        if self._same and self._found(places) == [int(self._groups[place]) for place in places]:
            return list(places)
        if self._by_group is None:
            self._by_group = {}
            for number, group in enumerate(self._found(range(self._images.count))):
                self._by_group.setdefault(group, []).append(number)
            self._matcher.refuse_strangers(self._images.count)
        numbers: list[int] = []
        for group, count in zip(*np.unique(self._groups[list(places)], return_counts=True), strict=True):
            own = self._by_group.get(int(group), [])
            numbers += own if len(own) == count else []
        return sorted(numbers)

    def _found(self, numbers: Sequence[int]) -> list[int]:
        """Return the group of each of these images."""
        groups: list[int] = []
        for batch in batches(self._images.read(numbers), BATCH):
            groups += [self._matcher.group(place) for place in self._matcher.find(batch)]
        return groups


def _thirds(kept: Kept, most: int) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Yield images that can be left out together, with all their repeats, and the folds that hold them."""
    memory, count = kept.heads[-1].statistics, kept.statistics.count
    if isinstance(memory, Memory):
        fold_of = memory.fold_of
    else:
        fold_of = np.array([fold_at(place, count) for place in range(count)], np.int64)
    groups = _groups(kept)
    for folds in _THIRDS:
        inside = np.isin(fold_of, folds)
        whole = inside & ~np.isin(groups, groups[~inside])  # a repeat elsewhere would give the image away
        places = np.flatnonzero(whole).tolist()
        yield _some(places, groups, -(-most // len(_THIRDS))), folds


def _some(places: list[int], groups: npt.NDArray[np.int64], most: int) -> list[int]:
    """Return neighbours from the middle, at most so many, with all their repeats."""
    if len(places) <= most:
        return places
    start = (len(places) - most) // 2
    middle = places[start : start + most]
    outside = set(groups[places[:start] + places[start + most :]].tolist())
    return [place for place in middle if groups[place] not in outside]
