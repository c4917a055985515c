"""Scores that the good images would have outside a memory: each fold of images is judged by a model without it.

A memory has no closed form for leaving an image out. Leaving out the image's own prototypes would be biased: patches
of other images that they have displaced stay away. So the prototypes are chosen once more for each fold, from the other
folds alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Memory, PadimEdgeError, names
from padim_edge_artifact.kept import Kept
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_learn.held_out import GoodImages, HeldOut
from padim_edge_learn.matching import Matcher
from padim_edge_model.comparable import Observed
from padim_edge_runtime.channel_order import feed
from padim_edge_runtime.progress import Report, none

__all__ = ["Refit", "cross_validated"]

Numbered = tuple[int, npt.NDArray[np.uint8]]
"""Number of an image, and its frame `(H, W, 3)`."""

Refit = Callable[[frozenset[int]], Any]
"""Function that returns the session of a model without these folds, in the precision that ships."""

_SESSIONS = 2
"""Number of models that are held at a time. Images mostly come fold by fold, so few are enough."""

_MOST_EVERYWHERE = 0.2
"""Largest share of the independent images that may have repeats in every fold, such as an empty conveyor belt. They are
judged by models that have seen them."""


def cross_validated(
    kept: Kept,
    images: GoodImages,
    refit: Refit,
    observed: Observed,
    report: Report = none,
    distances: dict[int, npt.NDArray[np.float32]] | None = None,
) -> HeldOut:
    """Compute the scores that good images have in models without their fold.

    Neighbours in time share a fold, so they are left out together. Repeats of an image in other folds are left out as
    well, with these folds.

    Args:
        kept: Memory of the images.
        images: Good images that are in the fit, in capture order.
        refit: Makes the model without some folds.
        observed: Gains the look and the distances of the images.
        report: Progress bar.
        distances: Gains the distances `(h, w)` of each image by its number, where they are wanted.

    Raises:
        PadimEdgeError: None of the images can be read, one of them was not fitted on, or too few can be held out.
    """
    matcher = Matcher(kept.evidence)
    folds, judge = _Folds(kept.statistics, matcher), _Judge(refit, observed, distances)
    groups: dict[int, int] = {}
    waiting: dict[frozenset[int], list[int]] = {}
    together = side_by_side(kept.recipe.method.preprocessing.input_size)
    with report("calibrating", images.count) as advance:
        for batch in batches(images.read(range(images.count)), together):
            ready: dict[frozenset[int], list[Numbered]] = {}
            for (number, frame), place in zip(batch, matcher.find(batch), strict=True):
                observed.compare(frame)
                groups[number] = matcher.group(place)
                left_out = folds.left_out(place)
                if judge.takes(left_out):
                    ready.setdefault(left_out, []).append((number, frame))
                else:
                    waiting.setdefault(left_out, []).append(number)
            for left_out in sorted(ready, key=judge.lacks):
                judge(left_out, ready[left_out])
                advance(len(ready[left_out]))
        if not groups:
            raise PadimEdgeError("none of the good images can be read; expected some of those that were fitted on")
        matcher.refuse_strangers(images.count)
        folds.require_held_out(set(groups.values()))
        for left_out, numbers in waiting.items():
            for some in batches(images.read(numbers), together):
                judge(left_out, some)
                advance(len(some))
    order = sorted(judge.scores)
    ordered = np.array([judge.scores[number] for number in order])
    return HeldOut(np.array(order, np.int64), ordered, ordered, np.array([groups[number] for number in order]), None)


class _Judge:
    """Scores of images in models without some folds, and the last of these models."""

    def __init__(
        self, refit: Refit, observed: Observed, distances: dict[int, npt.NDArray[np.float32]] | None = None
    ) -> None:
        self.scores: dict[int, float] = {}
        """Score of each image by its number."""
        self._refit, self._observed, self._distances = refit, observed, distances
        self._models: OrderedDict[frozenset[int], Any] = OrderedDict()
        self._made: set[frozenset[int]] = set()

    def takes(self, left_out: frozenset[int]) -> bool:
        """Tell whether images are judged as they come; all others wait, so that each model is made twice at most.

        Repeats in other folds, and statistics that were merged, bring the folds in any order.
        """
        return not self.lacks(left_out) or (len(left_out) == 1 and left_out not in self._made)

    def lacks(self, left_out: frozenset[int]) -> bool:
        """Tell whether the model is not at hand."""
        return left_out not in self._models

    def __call__(self, left_out: frozenset[int], images: Sequence[Numbered]) -> None:
        """Judge numbered images by the model without these folds."""
        if self.lacks(left_out):
            if len(self._models) == _SESSIONS:  # first, so that there is never one more
                self._models.popitem(last=False)
            self._models[left_out] = self._refit(left_out)
            self._made.add(left_out)
        self._models.move_to_end(left_out)
        session = self._models[left_out]
        frames = np.stack([frame for _, frame in images])
        found, distances = session.run([names.SCORE, names.PATCH_DISTANCE], feed(session, frames))
        self._observed.add_distances(np.asarray(distances, np.float64))
        if self._distances is not None:
            self._distances |= {number: each for (number, _), each in zip(images, distances, strict=True)}
        self.scores |= {number: float(score) for (number, _), score in zip(images, found, strict=True)}


class _Folds:
    """Folds to leave out for each image of the fit."""

    def __init__(self, memory: Any, matcher: Matcher) -> None:
        assert isinstance(memory, Memory)
        self.memory, self.matcher = memory, matcher
        self.filled = frozenset(np.unique(memory.fold_of).tolist())
        if len(self.filled) < 2:
            raise PadimEdgeError(
                f"the {memory.count} good images are neighbours in a longer list, so none of them can be held out for "
                "the threshold; fit again without the images that could not be read"
            )
        self._by_group: dict[int, frozenset[int]] = {}
        for place, fold in enumerate(memory.fold_of.tolist()):
            group = matcher.group(place)
            self._by_group[group] = self._by_group.get(group, frozenset()) | {fold}

    def require_held_out(self, groups: set[int]) -> None:
        """Refuse images that mostly have repeats in every fold."""
        count = sum(self._by_group[group] == self.filled for group in groups)
        if count > _MOST_EVERYWHERE * len(groups):
            raise PadimEdgeError(
                f"{count} of the {len(groups)} independent good images come again all over the list, so they cannot be "
                "held out for the threshold; name the parts with --group, or sort the images so that repeats are "
                "neighbours"
            )

    def left_out(self, place: int) -> frozenset[int]:
        """Return the image's fold, and those of its repeats unless nothing would be left."""
        found = self._by_group[self.matcher.group(place)]
        return found if found < self.filled else frozenset({int(self.memory.fold_of[place])})
