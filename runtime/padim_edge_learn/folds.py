"""Folds of the images of a memory: neighbours in time together, and named groups as a whole."""

from __future__ import annotations

import numpy as np

from padim_edge_artifact import Memory
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.memory import FOLDS
from padim_edge_model.memory import fold_at

__all__ = ["Folds"]


class Folds:
    """Chooses the fold of each image of a fit as it comes.

    The calibration leaves out all folds that hold an image's group. Parts that are photographed in turn would be in
    every fold, and nothing would be left to judge them by. So a named group stays in one fold, the smallest so far.

    Args:
        start: Statistics that the fit begins with. Gaussians have no folds, and take no note of those chosen.
    """

    def __init__(self, start: Kept) -> None:
        memory = start.heads[-1].statistics
        fold_of = memory.fold_of if isinstance(memory, Memory) else np.empty(0, np.int64)
        self._sizes = np.bincount(fold_of, minlength=FOLDS)
        self._by_group: dict[int, int] = {}
        for named, fold in zip(start.evidence.named.tolist(), fold_of.tolist(), strict=False):
            self._by_group.setdefault(named, fold)

    def choose(self, named: int, place: int, total: int) -> int:
        """Return the fold of an image.

        Args:
            named: Number of the image's named group, 0 for none.
            place: Place of the image in the list of images.
            total: Length of that list.
        """
        usual = fold_at(place, total)
        fold = self._by_group.setdefault(named, int(self._sizes.argmin())) if named else usual
        self._sizes[fold] += 1
        return fold
