"""The memory of a fit as a value: candidates for prototypes; `padim_edge_model.memory` fills and merges it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError

__all__ = ["FOLDS", "Memory"]

FOLDS = 8
"""Number of folds that the images are split into."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Memory:
    """Covariance of all patches together, and patches that prototypes are chosen from, in K folds of images.

    A model without one fold can be made of the other folds. Its scores of that fold's images are those of images yet
    to come. So the calibration needs no other fit.
    """

    count: int
    """n, number of images, 0 or more."""
    grid: tuple[int, int]
    """(h, w), rows and columns of patches of an image."""
    fold_of: npt.NDArray[np.int64]
    """`(n,)` fold of each image, 0 to K - 1, in the order of the fit."""
    patches: npt.NDArray[np.int64]
    """`(K,)` number of patches behind the moments of each fold."""
    mean: Float64
    """`(K, D)` mean embedding of each fold's patches."""
    scatter: Float64
    """`(K, D, D)` sum over each fold's patches of (x - mean)(x - mean)'; symmetric."""
    vectors: tuple[npt.NDArray[np.float32], ...]
    """K arrays `(c, D)`: candidates of each fold, embeddings that prototypes are chosen from."""
    weights: tuple[npt.NDArray[np.int64], ...]
    """K arrays `(c,)`: number of the fold's patches that each candidate stands for."""

    def __post_init__(self) -> None:
        folds, dims = self.mean.shape
        right = (
            folds == FOLDS
            and self.scatter.shape == (folds, dims, dims)
            and self.patches.shape == (folds,)
            and len(self.vectors) == folds
            and all(each.ndim == 2 and each.shape[1] == dims for each in self.vectors)
            and len(self.weights) == folds
            and all(one.shape == (len(each),) for one, each in zip(self.weights, self.vectors, strict=True))
            and all((one > 0).all() for one in self.weights)
            and [one.sum() for one in self.weights] == self.patches.tolist()
            and self.fold_of.shape == (self.count,)
            and not (self.count and not 0 <= self.fold_of.min() <= self.fold_of.max() < folds)
        )
        if not right:
            raise ArtifactError(
                f"a memory has count {self.count}, folds {self.fold_of.shape}, mean {self.mean.shape}, scatter "
                f"{self.scatter.shape} and {len(self.vectors)} sets of vectors, which do not fit together; fit again"
            )

    @property
    def dims(self) -> int:
        """D, the number of embedding dimensions."""
        return int(self.mean.shape[1])

    @classmethod
    def empty(cls, grid: tuple[int, int], dims: int) -> Memory:
        """Return the memory of no image, the neutral element of the merge."""
        nothing = np.empty((0, dims), np.float32)
        return cls(
            0,
            grid,
            np.empty(0, np.int64),
            np.zeros(FOLDS, np.int64),
            np.zeros((FOLDS, dims)),
            np.zeros((FOLDS, dims, dims)),
            (nothing,) * FOLDS,
            (np.empty(0, np.int64),) * FOLDS,
        )

    def digest(self) -> str:
        """Compute a SHA-256 that tells memories apart, 64 hexadecimal digits."""
        found = hashlib.sha256(json.dumps([self.count, self.grid, self.dims]).encode())
        found.update(np.ascontiguousarray(self.patches).data)
        found.update(np.ascontiguousarray(self.mean).data)
        found.update(np.ascontiguousarray(np.einsum("kii->ki", self.scatter)).data)
        for each in (*self.vectors, *self.weights):
            found.update(np.ascontiguousarray(each).data)
        return found.hexdigest()
