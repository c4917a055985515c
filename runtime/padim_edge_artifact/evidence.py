"""Evidence behind a fit, image by image; `padim_edge_model.repeats` makes it and finds repeats in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CELLS", "SIDE", "Evidence"]

SIDE = 8
"""Number of cells along each side of an image."""
CELLS = SIDE * SIDE
"""Number of cells of a fingerprint."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Fingerprint and group of every fitted image, in the order of the fit; 136 bytes an image."""

    fingerprints: npt.NDArray[np.uint16]
    """`(n, 64)` mean grey levels of the cells, in steps of 1/256."""
    named: npt.NDArray[np.int64]
    """`(n,)` number of the group that the user put the image in; 0 where none was named."""

    @classmethod
    def nothing(cls) -> Evidence:
        """Return the evidence of no image, the neutral element of `merged`."""
        return cls(np.empty((0, CELLS), np.uint16), np.empty(0, np.int64))

    def merged(self, other: Evidence) -> Evidence:
        """Return the evidence of both sets of images, these first."""
        return Evidence(
            np.concatenate([self.fingerprints, other.fingerprints]), np.concatenate([self.named, other.named])
        )
