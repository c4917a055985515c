"""Projection before PatchCore's greedy selection (arXiv 2106.08265, algorithm 1), and neighbours in the bank.

The selection itself is `padim_edge_model.k_centre`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_BYTES", "PROJECTED", "neighbours", "projection"]

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

PROJECTED = 128
"""Number of dimensions in which the selection measures distances, as in the published code."""

BLOCK_BYTES = 8_000_000
"""Bytes of any matrix of distances that is held at a time."""


def projection(dims: int, seed: int) -> Float32:
    """Draw a random map that keeps distances on average (Johnson and Lindenstrauss): `(dims, min(dims, 128))`.

    Entries are normal with variance 1 / 128. The published code takes 128 dense dimensions, as here; others follow
    scikit-learn's rule with eps = 0.9. Vectors of no more than 128 dimensions need none: identity.
    """
    if dims <= PROJECTED:
        return np.eye(dims, dtype=np.float32)
    drawn: Float32 = np.random.default_rng(seed).standard_normal((dims, PROJECTED), np.float32)
    drawn /= np.float32(np.sqrt(PROJECTED))
    return drawn


def neighbours(bank: Float32, count: int) -> Indices:
    """Find the vectors nearest to each vector of the bank `(M, D)`, itself among them: `(M, min(count, M))`."""
    norms = np.einsum("md,md->m", bank, bank)
    count = min(count, len(bank))
    found = np.empty((len(bank), count), np.int64)
    rows = max(1, BLOCK_BYTES // (4 * len(bank)))
    for first in range(0, len(bank), rows):
        squared = bank[first : first + rows] @ (-2 * bank.T)
        squared += norms  # a row's own norm would not change its order
        here = np.arange(len(squared))
        squared[here, first + here] = -np.inf  # rounding must not let a twin displace the vector itself
        found[first : first + rows] = np.argpartition(squared, count - 1, axis=1)[:, :count]
    return found
