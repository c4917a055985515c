"""Greedy k-centre selection: the point that is farthest from all taken so far, again and again (Gonzalez 1985).

PatchCore thins its memory in this way (arXiv 2106.08265, algorithm 1). It keeps rare points, where k-means would not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

__all__ = ["cover", "farthest_first"]

_CANDIDATES = 4096
"""Number of points among which the next centres are looked for; they stay in the caches."""
_ROUND = 256
"""Number of centres after which all points are compared with them."""
_ROWS = 1024
"""Number of points that a thread compares at a time; fixed, so that the number of threads does not change any bit."""
_COPY = 1e-5
"""Squared distance to a centre, relative to the point's own squared length, up to which the point is a copy. In float32
two equal vectors come out up to 2e-6 apart."""

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def farthest_first(points: Float32, count: int, *, start: Sequence[int] = (0,), workers: int | None = None) -> Indices:
    """Return the indices of at most `count` points in the order of choice, as `cover` does."""
    return cover(points, count, start=start, workers=workers)[0]


def cover(
    points: Float32, count: int, *, start: Sequence[int] = (0,), workers: int | None = None
) -> tuple[Indices, Indices]:
    """Return at most `count` points in the order of choice, and which of them each point is nearest to.

    The plain loop reads all points for every centre. Here a round begins with all points' distances and keeps only
    those of the farthest few thousand up to date. Distances only fall. So the farthest of these is the farthest of all
    as long as it is farther than the others were when the round began. Then all points are compared with the round's
    centres in one product. The choice is exact up to rounding.

    Args:
        points: `(n, d)` float32, n at least 1.
        count: Number of points to take. Fewer are taken where the other points are copies of those.
        start: Indices of the first points, at least one.
        workers: Number of threads; `None` takes one per core. The result is the same for any number.

    Returns:
        Indices `(c,)` of the points that were taken, and the place `(n,)` of the nearest one among them.
    """
    count = min(count, len(points))
    state = _State(
        points,
        np.einsum("nd,nd->n", points, points),
        np.full(len(points), np.inf, np.float32),
        np.zeros(len(points), np.int64),
    )
    taken: list[int] = []
    fresh = [int(index) for index in dict.fromkeys(start)][:count]
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool, threadpool_limits(1, "blas"):
        while fresh:
            state.approach(pool, fresh, len(taken))
            taken += fresh
            fresh = _next(state, count - len(taken))
    return np.array(taken, np.int64), state.owner


@dataclass(frozen=True, eq=False)
class _State:
    """Points and their nearest centres."""

    points: Float32
    """`(n, d)`."""
    norms: Float32
    """`(n,)` squared lengths."""
    distance: Float32
    """`(n,)` squared distances to the nearest centre; -inf for centres."""
    owner: Indices
    """`(n,)` places of the nearest centres in the order of choice."""

    def approach(self, pool: ThreadPoolExecutor, centres: list[int], before: int) -> None:
        """Lower the distances to those from new centres, where they are less; `before` centres were taken earlier."""
        offset = self.norms[centres]
        others = np.ascontiguousarray(-2 * self.points[centres].T)

        def one(first: int) -> None:
            block = slice(first, first + _ROWS)
            product = self.points[block] @ others
            product += offset
            place = product.argmin(axis=1)
            squared = product[np.arange(len(product)), place] + self.norms[block]
            nearer = squared < self.distance[block]
            np.copyto(self.distance[block], squared, where=nearer)
            np.copyto(self.owner[block], before + place, where=nearer)

        for _ in pool.map(one, range(0, len(self.points), _ROWS)):
            pass
        self.distance[centres] = -np.inf  # nothing is taken twice, whatever rounding says
        self.owner[centres] = before + np.arange(len(centres))


def _next(state: _State, count: int) -> list[int]:
    """Choose the next centres, at most `count`."""
    candidates, limit = _farthest(state.distance, _CANDIDATES)
    vectors = state.points if len(candidates) == len(state.points) else state.points[candidates]
    own, near = state.norms[candidates], state.distance[candidates]
    fresh: list[int] = []
    while len(fresh) < min(count, _ROUND):
        best = int(near.argmax())
        if near[best] <= _COPY * own[best] or (fresh and near[best] <= limit):
            break
        np.minimum(near, own - 2 * (vectors @ vectors[best]) + own[best], out=near)
        near[best] = -np.inf
        fresh.append(int(candidates[best]))
    return fresh


def _farthest(distance: Float32, count: int) -> tuple[Indices, np.float32]:
    """Return the indices of the `count` largest in ascending order, and the largest distance of all others.

    Where that is the larger half, all are taken, because comparing them is cheaper than a copy of half of them.
    """
    if 2 * count >= len(distance):
        return np.arange(len(distance)), np.float32(-np.inf)
    order = np.argpartition(-distance, count)
    return np.sort(order[:count]), distance[order[count]]
