"""Scores that the good images would have outside a memory: each fold of images is judged by a model without it.

A memory has no closed form for leaving an image out. Leaving out the image's own prototypes would be biased: patches
of other images that they have displaced stay away. So the prototypes are chosen once more for each fold, from the other
folds alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from padim_edge_artifact import Memory, PadimEdgeError, names
from padim_edge_artifact.kept import Kept
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_learn.held_out import GoodImages, HeldOut
from padim_edge_learn.matching import Matcher
from padim_edge_model.comparable import Observed
from padim_edge_runtime.progress import Report, none

__all__ = ["Refit", "cross_validated"]

Refit = Callable[[frozenset[int]], Any]
"""Function that returns the session of a model without these folds, in the precision that ships."""

_SESSIONS = 2
"""Number of models that are held at a time. Images come fold by fold, so few are enough."""


def cross_validated(kept: Kept, images: GoodImages, refit: Refit, observed: Observed, report: Report = none) -> HeldOut:
    """Compute the scores that good images have in models without their fold.

    Neighbours in time share a fold, so they are left out together. Repeats of an image in other folds are left out as
    well, with these folds.

    Args:
        kept: Memory of the images.
        images: Good images that are in the fit, in capture order.
        refit: Makes the model without some folds.
        observed: Gains the look and the distances of the images.
        report: Progress bar.

    Raises:
        PadimEdgeError: None of the images can be read, or one of them was not fitted on.
    """
    matcher = Matcher(kept.evidence)
    folds = _Folds(kept.statistics, matcher)
    models: OrderedDict[frozenset[int], Any] = OrderedDict()
    scores: dict[int, float] = {}
    groups: dict[int, int] = {}
    together = side_by_side(kept.recipe.method.preprocessing.input_size)
    with report("calibrating", images.count) as advance:
        for batch in batches(images.read(range(images.count)), together):
            places = matcher.find(batch)
            for left_out in dict.fromkeys(map(folds.left_out, places)):
                own = [each for each, place in zip(batch, places, strict=True) if folds.left_out(place) == left_out]
                model = models.pop(left_out, None) or refit(left_out)
                models[left_out] = model
                while len(models) > _SESSIONS:
                    models.popitem(last=False)
                feed = {names.IMAGE: np.stack([frame for _, frame in own])}
                found, distances = model.run([names.SCORE, names.PATCH_DISTANCE], feed)
                observed.add_distances(np.asarray(distances, np.float64))
                scores |= {number: float(score) for (number, _), score in zip(own, found, strict=True)}
            for (number, frame), place in zip(batch, places, strict=True):
                observed.compare(frame)
                groups[number] = matcher.group(place)
            advance(len(batch))
    if not scores:
        raise PadimEdgeError("none of the good images can be read; expected some of those that were fitted on")
    matcher.refuse_strangers(images.count)
    order = sorted(scores)
    ordered = np.array([scores[number] for number in order])
    return HeldOut(np.array(order, np.int64), ordered, ordered, np.array([groups[number] for number in order]), None)


class _Folds:
    """Folds to leave out for each image of the fit."""

    def __init__(self, memory: Any, matcher: Matcher) -> None:
        assert isinstance(memory, Memory)
        self.memory, self.matcher = memory, matcher
        self.filled = frozenset(np.unique(memory.fold_of).tolist())
        self._by_group: dict[int, frozenset[int]] = {}
        for place, fold in enumerate(memory.fold_of.tolist()):
            group = matcher.group(place)
            self._by_group[group] = self._by_group.get(group, frozenset()) | {fold}

    def left_out(self, place: int) -> frozenset[int]:
        """Return the image's fold, and those of its repeats unless nothing would be left."""
        found = self._by_group[self.matcher.group(place)]
        return found if found < self.filled else frozenset({int(self.memory.fold_of[place])})
