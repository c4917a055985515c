"""A region of interest, as it stands in the metadata: run lengths, since masks are mostly large and plain."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError

__all__ = ["from_runs", "to_runs"]

Mask = npt.NDArray[np.bool_]


def to_runs(mask: Mask) -> tuple[int, ...]:
    """Lengths of the runs of a mask `(H, W)`, row by row, beginning with those outside (perhaps of length 0)."""
    flat = np.concatenate(([False], mask.ravel()))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(stop - start) for start, stop in pairwise([0, *changes.tolist(), mask.size]))


def from_runs(runs: tuple[int, ...], size: tuple[int, int]) -> Mask:
    """The mask `(H, W)` again, True inside.

    Raises:
        ArtifactError: The runs do not add up to the size.
    """
    if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
        raise ArtifactError(f"the region of interest does not fill {size[0]}x{size[1]} pixels; export the model again")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)
