"""Gaussian statistics of every patch as a value; `padim_edge_model.statistics` adds images and merges."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError

__all__ = ["Statistics"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Count, mean and scatter of the embeddings of each of the `P = h * w` patches.

    Accumulated in float64: the whitening divides by eigenvalues down to the ridge, so rounding of the scatter is
    magnified by the largest eigenvalue over the ridge (about 1e4), which float32 cannot afford.
    """

    count: int
    """Number of images, 0 or more."""
    mean: Float64
    """`(P, D)` mean embedding."""
    scatter: Float64
    """`(P, D, D)` sum over the images of (x - mean)(x - mean)'; symmetric."""
    grid: tuple[int, int]
    """(h, w), rows and columns of patches."""

    def __post_init__(self) -> None:
        patches, dims = self.mean.shape
        if self.scatter.shape != (patches, dims, dims) or patches != self.grid[0] * self.grid[1] or self.count < 0:
            raise ArtifactError(
                f"statistics have count {self.count}, mean {self.mean.shape}, scatter {self.scatter.shape} and grid "
                f"{self.grid}, expected (P, D), (P, D, D) and P = h * w"
            )

    @property
    def dims(self) -> int:
        """D, the number of embedding dimensions."""
        return int(self.mean.shape[1])

    @classmethod
    def empty(cls, grid: tuple[int, int], dims: int) -> Statistics:
        """Return the statistics of no image, the neutral element of the merge."""
        patches = grid[0] * grid[1]
        return cls(0, np.zeros((patches, dims)), np.zeros((patches, dims, dims)), grid)

    def digest(self) -> str:
        """Compute a SHA-256 that tells statistics apart, 64 hexadecimal digits.

        It covers count, mean and variances only, which is fast.
        """
        found = hashlib.sha256(json.dumps([self.count, self.grid, self.dims]).encode())
        found.update(np.ascontiguousarray(self.mean).data)
        found.update(np.ascontiguousarray(np.einsum("pii->pi", self.scatter)).data)
        return found.hexdigest()
