"""Good images of a calibration, matched with the images of the fit by their fingerprints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.evidence import Evidence
from padim_edge_model.repeats import Prepared, fingerprint, groups_of, limit

__all__ = ["Matcher"]

Frame = npt.NDArray[np.uint8]


class Matcher:
    """Finds the image of the fit that each image is, or is a repeat of.

    Args:
        evidence: Fingerprints of the images of the fit.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.groups = groups_of(evidence)
        """`(n,)` group of each image of the fit, in its order."""
        self.strangers: list[int] = []
        """Numbers of the images that were not fitted on."""
        self._fitted, self._within = Prepared.of(evidence.fingerprints), limit(evidence.fingerprints)

    def find(self, batch: Sequence[tuple[int, Frame]]) -> list[int]:
        """Return the place in the fit of each numbered image; its number, if the fit kept no fingerprints."""
        if not len(self._fitted.mean):
            return [number for number, _ in batch]
        apart = self._fitted.apart(np.stack([fingerprint(frame) for _, frame in batch]))
        for (number, _), distance in zip(batch, apart.min(axis=1), strict=True):
            if distance > self._within:
                self.strangers.append(number)
        return [int(place) for place in apart.argmin(axis=1)]

    def group(self, place: int) -> int:
        """Return the group of an image of the fit; its place, if the fit kept no fingerprints."""
        return int(self.groups[place]) if len(self.groups) else place

    def refuse_strangers(self, count: int) -> None:
        """Refuse images that were not fitted on.

        Args:
            count: Number of all images.

        Raises:
            PadimEdgeError: There are some.
        """
        if self.strangers:
            raise PadimEdgeError(
                f"{len(self.strangers)} of the {count} good images were not fitted on (the first is number "
                f"{self.strangers[0] + 1}); expected images that are in the statistics, so name those, or fit again"
            )
