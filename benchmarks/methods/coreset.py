"""Greedy k-centre selection, as PatchCore thins its bank (arXiv 2106.08265, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_BYTES", "PROJECTED", "greedy", "neighbours", "projection"]

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

PROJECTED = 128
"""Number of dimensions in which the selection measures distances, as in the published code."""

BLOCK_BYTES = 8_000_000
"""Bytes of any matrix of distances that is held at a time."""

_CANDIDATES = 4096
"""Number of points among which `greedy` looks for the next centres; they stay in the caches."""
_ROUND = 256
"""Number of centres after which all points are compared with them."""


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


def greedy(points: Float32, count: int, *, start: int, progress: Callable[[int], object] = lambda _: None) -> Indices:
    """Take the point that is farthest from all taken so far, again and again. Exact, up to rounding.

    The plain loop reads all points for every centre. Here a round begins with all points' distances and keeps only
    those of the farthest few thousand up to date. Distances only fall, so the farthest of these is the farthest of all
    as long as it is farther than the others were when the round began. Then all points are compared with the round's
    centres in one product.

    Args:
        points: `(n, d)` float32.
        count: Number of points to take, 1 to n.
        start: Index of the first point.
        progress: Called with the number of points taken since the last call.

    Returns:
        Indices `(count,)` in the order of choice.
    """
    norms = np.einsum("nd,nd->n", points, points)
    distance = np.full(len(points), np.inf, np.float32)  # squared, to the nearest centre; -inf once taken
    taken, fresh = [start], [start]
    while True:
        _approach(distance, points, norms, fresh)
        progress(len(fresh))
        if len(taken) == count:
            return np.array(taken, np.int64)
        candidates, limit = _farthest(distance, _CANDIDATES)
        vectors, own, near = points[candidates], norms[candidates], distance[candidates]
        fresh = []
        while len(taken) < count and len(fresh) < _ROUND:
            best = int(near.argmax())
            if fresh and near[best] <= limit:
                break
            centre = int(candidates[best])
            np.minimum(near, own - 2 * (vectors @ points[centre]) + norms[centre], out=near)
            near[best] = -np.inf
            taken.append(centre)
            fresh.append(centre)


def _farthest(distance: Float32, count: int) -> tuple[Indices, np.float32]:
    """Return the indices of the `count` largest in ascending order, and the largest distance of all others."""
    if count >= len(distance):
        return np.arange(len(distance)), np.float32(-np.inf)
    order = np.argpartition(-distance, count)
    return np.sort(order[:count]), distance[order[count]]


def _approach(distance: Float32, points: Float32, norms: Float32, centres: list[int]) -> None:
    """Lower `distance` in place to the distance from the new centres, where that is less."""
    offset = norms[centres]
    others = -2 * points[centres].T
    rows = max(1, BLOCK_BYTES // (4 * len(centres)))
    for first in range(0, len(points), rows):
        block = slice(first, first + rows)
        product = points[block] @ others
        product += offset
        np.minimum(distance[block], product.min(axis=1) + norms[block], out=distance[block])
    distance[centres] = -np.inf  # nothing is taken twice, whatever rounding says


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
