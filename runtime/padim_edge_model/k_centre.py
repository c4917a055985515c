"""Greedy k-centre selection: the point that is farthest from all taken so far, again and again (Gonzalez 1985).

PatchCore thins its memory in this way (arXiv 2106.08265, algorithm 1). It keeps rare points, where k-means would not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

__all__ = ["farthest_first", "nearest_squared"]

_CANDIDATES = 4096
"""Number of points among which the next centres are looked for; they stay in the caches."""
_ROUND = 256
"""Number of centres after which all points are compared with them."""
_ROWS = 2048
"""Number of points that a thread compares at a time; fixed, so that the number of threads does not change any bit."""
_COPY = 1e-5
"""Squared distance to a centre, relative to the point's own squared length, up to which the point is a copy. In float32
two equal vectors come out up to 2e-6 apart."""

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def farthest_first(
    points: Float32,
    count: int,
    *,
    start: int = 0,
    workers: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Indices:
    """Return the indices of at most `count` points in the order of choice; exact up to rounding.

    The plain loop reads all points for every centre. Here a round begins with all points' distances and keeps only
    those of the farthest few thousand up to date. Distances only fall. So the farthest of these is the farthest of all
    as long as it is farther than the others were when the round began. Then all points are compared with the round's
    centres in one product.

    Args:
        points: `(n, d)` float32, n at least 1.
        count: Number of points to take. Fewer are taken where the other points are copies of those.
        start: Index of the first point.
        workers: Number of threads; `None` takes one per core. The result is the same for any number.
        advance: Called with the number of points taken since the last call.
    """
    norms = np.einsum("nd,nd->n", points, points)
    distance = np.full(len(points), np.inf, np.float32)  # squared, to the nearest centre; -inf once taken
    taken, fresh = [start], [start]
    count = min(count, len(points))
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool, threadpool_limits(1, "blas"):
        while True:
            _approach(pool, distance, points, norms, fresh)
            advance(len(fresh))
            candidates, limit = _farthest(distance, _CANDIDATES)
            vectors, own, near = points[candidates], norms[candidates], distance[candidates]
            fresh = []
            while len(taken) < count and len(fresh) < _ROUND:
                best = int(near.argmax())
                if near[best] <= _COPY * own[best] or (fresh and near[best] <= limit):
                    break
                centre = int(candidates[best])
                np.minimum(near, own - 2 * (vectors @ points[centre]) + norms[centre], out=near)
                near[best] = -np.inf
                taken.append(centre)
                fresh.append(centre)
            if not fresh:
                return np.array(taken, np.int64)


def nearest_squared(points: Float32, centres: Float32) -> Float32:
    """Compute the squared distance `(n,)` from each point `(n, d)` to the nearest centre `(m, d)`."""
    distance = np.full(len(points), np.inf, np.float32)
    norms = np.einsum("nd,nd->n", points, points)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, threadpool_limits(1, "blas"):
        for first in range(0, len(centres), _ROUND):
            _lower(pool, distance, points, norms, centres[first : first + _ROUND])
    return np.maximum(distance, 0)


def _farthest(distance: Float32, count: int) -> tuple[Indices, np.float32]:
    """Return the indices of the `count` largest in ascending order, and the largest distance of all others."""
    if count >= len(distance):
        return np.arange(len(distance)), np.float32(-np.inf)
    order = np.argpartition(-distance, count)
    return np.sort(order[:count]), distance[order[count]]


def _approach(pool: ThreadPoolExecutor, distance: Float32, points: Float32, norms: Float32, centres: list[int]) -> None:
    """Lower `distance` in place to the distance from the new centres, where that is less."""
    _lower(pool, distance, points, norms, points[centres])
    distance[centres] = -np.inf  # nothing is taken twice, whatever rounding says


def _lower(pool: ThreadPoolExecutor, distance: Float32, points: Float32, norms: Float32, centres: Float32) -> None:
    offset = np.einsum("md,md->m", centres, centres)
    others = np.ascontiguousarray(-2 * centres.T)

    def one(first: int) -> None:
        block = slice(first, first + _ROWS)
        product = points[block] @ others
        product += offset
        np.minimum(distance[block], product.min(axis=1) + norms[block], out=distance[block])

    for _ in pool.map(one, range(0, len(points), _ROWS)):
        pass
