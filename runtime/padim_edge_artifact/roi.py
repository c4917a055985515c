"""The region of interest as metadata keep it: run lengths, because most masks are large and plain."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError

__all__ = ["from_runs", "to_runs"]

Mask = npt.NDArray[np.bool_]


def to_runs(mask: Mask) -> tuple[int, ...]:
    """Encode a mask `(H, W)` as lengths of runs, row by row. The first run lies outside and may have length 0."""
    flat = np.concatenate(([False], mask.ravel()))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(stop - start) for start, stop in pairwise([0, *changes.tolist(), mask.size]))


def from_runs(runs: tuple[int, ...], size: tuple[int, int]) -> Mask:
    """Decode a mask `(H, W)`, True inside.

    Raises:
        ArtifactError: The runs do not add up to the size.
    """
    if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
        raise ArtifactError(f"the region of interest does not fill {size[0]}x{size[1]} pixels; export the model again")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)
