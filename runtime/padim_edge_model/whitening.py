"""Constants of the Mahalanobis distance, computed from statistics in the form that the graph multiplies with.

All forms start from the centred vector c = x - m of a patch. With covariance = scatter / (n - 1) + ridge I (PaDiM,
eq. 1) they give the distance d = sqrt(c' covariance^-1 c) (eq. 2):

* `Exact`: covariance = L L', d = |L^-1 c|. L^-1 is triangular, and the square root needs no clamp. The dimensions stand
  in the order of their stages, coarsest first. Nearest upsampling gives all patches of a coarse cell the same vector,
  so they share that block of the covariance and of L, and those rows of L^-1. These rows are stored and computed once
  per cell instead of once per patch, and nothing is lost.
* `LowRank`: with eigenvalues l_i (largest first), the ridge included, and eigenvectors u_i,
  d^2 = t |c|^2 - sum_{i <= r} (t - 1 / l_i) (u_i' c)^2. The directions beyond the rank r share the precision t, one
  over the mean of their eigenvalues. With at most r + 1 images they have no variance but the ridge, so this is exact.
* `Diagonal`: correlations are neglected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge_artifact import PadimEdgeError, Statistics
from padim_edge_artifact.method import Precision
from padim_edge_model.graph import Part

__all__ = [
    "Diagonal",
    "Exact",
    "Form",
    "Level",
    "LowRank",
    "column_blocks",
    "diagonal",
    "exact_numbers",
    "form_of",
    "grams",
    "inverse_of_lower",
    "levels_of",
    "low_rank",
    "whiten",
]

_BLOCK = 32
"""Columns of a triangular block. onnxruntime's matrix-vector kernel works on 64, 32 and 16 columns at a time and slows
down on remainders."""

_CHUNK = 1 << 20
"""Covariance entries that one thread works on at a time; 104 patches at D = 100."""

_WORKERS = 8
"""Largest number of threads; each holds some copies of its covariances."""

_JUDGED = 64
"""Patches whose distances are computed at a time."""

_SMALL = 16
"""Largest number of rows of a triangle that is inverted row by row, for all matrices at once."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Level:
    """Stages of one resolution: P cells with d dimensions of their own, and k = d + those of all coarser levels."""

    parts: tuple[Part, ...]
    """Parts that the d dimensions belong to."""
    grid: tuple[int, int]
    """(h, w), rows and columns of cells; P = h w."""
    mean: Float32
    """`(P, d)` mean of the level's own dimensions."""
    factor: Float32
    """`(P, k, d)` rows of L^-1, transposed. The last d rows are upper triangular."""
    deviation: Float32
    """`(d,)` standard deviation: root of the variance's mean over the patches, the ridge included."""


@dataclass(frozen=True, eq=False)
class Exact:
    """Exact distance: d^2 = sum over levels of |c' factor|^2, c the centred dimensions up to that level."""

    levels: tuple[Level, ...]
    """Levels, coarsest first; a single one for all stages if the grids do not fit into each other."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """Distance of r main directions: d = sqrt(tail |c|^2 - |c' factor|^2)."""

    mean: Float32
    """`(P, D)` mean m."""
    factor: Float32
    """`(P, D, r)` columns sqrt(t - 1 / l_i) u_i."""
    tail: Float32
    """`(P,)` precision t of the other directions."""
    deviation: Float32
    """`(D,)` standard deviation, as in `Level`."""


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Distance without correlations: d = |c * scale|."""

    mean: Float32
    """`(P, D)` mean m."""
    scale: Float32
    """`(P, D)` one over the standard deviations, the ridge included."""


Form = Exact | LowRank | Diagonal


def form_of(statistics: Statistics, ridge: float, parts: Sequence[Part], precision: Precision) -> Form:
    """Compute the form that `precision` asks for; of two exact forms, the smaller one.

    With fewer images than dimensions the low-rank form is exact, too, and for few images it is smaller.
    """
    if precision.diagonal:
        return diagonal(statistics, ridge)
    if precision.rank is not None:
        return low_rank(statistics, ridge, precision.rank)
    rank = max(statistics.count - 1, 1)
    if rank * statistics.dims * len(statistics.mean) < exact_numbers(parts):
        return low_rank(statistics, ridge, rank)
    return whiten(statistics, ridge, parts)


def exact_numbers(parts: Sequence[Part]) -> int:
    """Count the numbers in the factors of `Exact`."""
    total = before = 0
    for group in levels_of(parts):
        own = sum(part.dims for part in group)
        rows, columns = max(part.grid for part in group)
        if not before:
            numbers = sum(stop * (stop - start) for start, stop in column_blocks(own))
        else:
            numbers = (before + own) * own
        total += rows * columns * numbers
        before += own
    return total


def column_blocks(dims: int) -> list[tuple[int, int]]:
    """Return (first, last + 1) columns of each block of a triangular factor; it uses the rows up to its last column."""
    ends = list(range(dims, _BLOCK // 2, -_BLOCK))[::-1]
    return list(pairwise([0, *(ends or [dims])]))


def levels_of(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Group the parts by resolution, coarsest first; into one if a grid is no whole multiple of the next coarser."""
    by_grid = [tuple(group) for _, group in groupby(reversed(parts), key=lambda part: part.grid)]
    grids = [group[0].grid for group in by_grid]
    nested = all(finer[axis] % coarser[axis] == 0 for coarser, finer in pairwise(grids) for axis in (0, 1))
    return by_grid if nested else [tuple(reversed(parts))]


def whiten(statistics: Statistics, ridge: float, parts: Sequence[Part]) -> Exact:
    """Compute the exact form by Cholesky factors, in float64.

    Args:
        statistics: Statistics of the embedding that consists of `parts`, in that order.
        ridge: Number added to the diagonal of every covariance.
        parts: Parts of the embedding, finest first.

    Raises:
        PadimEdgeError: There are fewer than two images, the ridge is not positive, or the statistics are not finite.
    """
    starts = dict(zip((part.name for part in parts), np.cumsum([0, *(part.dims for part in parts)]), strict=False))
    deviation = _deviation(statistics, ridge)
    levels, order, ends = [], [], []
    for group in levels_of(parts):
        own = np.concatenate([starts[part.name] + np.arange(part.dims) for part in group])
        order.append(own)
        ends.append(sum(map(len, order)))
        grid = group[0].grid if len({part.grid for part in group}) == 1 else statistics.grid
        first = _first_patches(grid, statistics.grid)
        mean = statistics.mean[first][:, own].astype(np.float32)
        factor = np.empty((len(first), ends[-1], len(own)), np.float32)
        levels.append(Level(group, grid, mean, factor, deviation[own]))
    firsts = [_first_patches(level.grid, statistics.grid) for level in levels]
    permuted = np.concatenate(order)

    def work(part: slice, covariance: Float64) -> None:
        ordered = covariance[:, permuted[:, None], permuted]
        inverse = inverse_of_lower(np.asarray(np.linalg.cholesky(ordered), np.float64))
        for level, end, first in zip(levels, ends, firsts, strict=True):
            cells = np.flatnonzero((first >= part.start) & (first < part.stop))
            own = slice(end - level.mean.shape[1], end)
            level.factor[cells] = inverse[first[cells] - part.start, own, :end].transpose(0, 2, 1)

    _each(statistics, ridge, work)
    return Exact(tuple(levels))


def inverse_of_lower(factor: Float64) -> Float64:
    """Invert `(p, D, D)` lower triangular matrices by halves.

    The inverse of [A 0; B C] is [A^-1 0; -C^-1 B A^-1  C^-1].

    A general inverse takes eight times the arithmetic, and LAPACK spreads it over threads that wait for each other.
    The residual is smaller this way, too.
    """
    dims = factor.shape[-1]
    inverse = np.zeros_like(factor)
    if dims <= _SMALL:
        for i in range(dims):
            inverse[:, i, i] = 1 / factor[:, i, i]
            inverse[:, i, :i] = -inverse[:, i, i, None] * np.einsum("pk,pkj->pj", factor[:, i, :i], inverse[:, :i, :i])
        return inverse
    half = dims // 2
    above, below = slice(None, half), slice(half, None)
    inverse[:, above, above] = inverse_of_lower(factor[:, above, above])
    inverse[:, below, below] = inverse_of_lower(factor[:, below, below])
    inverse[:, below, above] = -inverse[:, below, below] @ (factor[:, below, above] @ inverse[:, above, above])
    return inverse


def squared_distance(form: Exact, vectors: npt.NDArray[np.float32], grid: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Compute squared distances `(P, N)` of embedding vectors `(P, N, D)` on `grid`; only the sums are in float64."""
    total = np.zeros(vectors.shape[:2])
    for chunk, away in _whitened(form, vectors, grid):
        total[chunk] += np.square(away, dtype=np.float64).sum(axis=2)
    return total


def grams(
    form: Exact, vectors: npt.NDArray[np.float32], grid: tuple[int, int]
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Yield patches and inner products `(p, N, N)` of their whitened vectors; `squared_distance` is on the diagonal."""
    current, gram = slice(0), np.empty(0)
    for chunk, away in _whitened(form, vectors, grid):
        wide = away.astype(np.float64)
        part = wide @ wide.transpose(0, 2, 1)
        if chunk == current:
            gram += part
            continue
        if current.stop:
            yield current, gram
        current, gram = chunk, part
    if current.stop:
        yield current, gram


def _whitened(form: Exact, vectors: npt.NDArray[np.float32], grid: tuple[int, int]) -> Iterator[tuple[slice, Float32]]:
    """Yield patches and the whitened vectors `(p, N, d)` of one level after the other."""
    starts = np.cumsum([0, *(part.dims for part in sorted_parts(form))])
    where = {
        part.name: slice(start, start + part.dims) for part, start in zip(sorted_parts(form), starts, strict=False)
    }
    handed = [cells_of(level.grid, grid) for level in form.levels]
    for first in range(0, len(vectors), _JUDGED):  # else the factors of coarse cells would be in memory once per patch
        chunk = slice(first, first + _JUDGED)
        centred: list[Float32] = []
        for level, cells in zip(form.levels, handed, strict=True):
            own = np.concatenate([vectors[chunk, :, where[part.name]] for part in level.parts], axis=2)
            centred.append(own - level.mean[cells[chunk]][:, None])
            yield chunk, np.concatenate(centred, axis=2) @ level.factor[cells[chunk]]


def sorted_parts(form: Exact) -> list[Part]:
    """Return the parts finest first, which is the order of the embedding's dimensions."""
    return [part for level in reversed(form.levels) for part in reversed(level.parts)]


def cells_of(coarse: tuple[int, int], fine: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return `(P,)`: for each cell of `fine`, the cell of `coarse` that it lies in (floor of the scaled index)."""
    rows, columns = (np.arange(many) * few // many for few, many in zip(coarse, fine, strict=True))
    return (rows[:, None] * coarse[1] + columns).ravel()


def _first_patches(grid: tuple[int, int], finest: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return `(P,)` index of the first patch of the finest grid in each cell."""
    rows, columns = (np.arange(cells) * (patches // cells) for cells, patches in zip(grid, finest, strict=True))
    return (rows[:, None] * finest[1] + columns).ravel()


def low_rank(statistics: Statistics, ridge: float, rank: int) -> LowRank:
    """Keep the `rank` directions of largest variance, and one mean variance for the others.

    Raises:
        PadimEdgeError: The rank is outside 1 to D - 1, or one of the reasons of `whiten`.
    """
    patches, dims = statistics.mean.shape
    if not 1 <= rank < dims:
        raise PadimEdgeError(f"the rank is {rank}, expected 1 to {dims - 1} (one less than the dimensions)")
    factor = np.empty((patches, dims, rank), np.float32)
    tail = np.empty(patches, np.float32)

    def work(part: slice, covariance: Float64) -> None:
        values, vectors = np.linalg.eigh(covariance)  # ascending
        values = np.maximum(values, ridge)  # rounding may take a direction without variance below the ridge
        precision = 1 / values[:, :-rank].mean(axis=1)
        weight = np.maximum(precision[:, None] - 1 / values[:, -rank:], 0)  # 0 up to rounding if all are equal
        factor[part] = vectors[:, :, -rank:] * np.sqrt(weight)[:, None, :]
        tail[part] = precision

    _each(statistics, ridge, work)
    return LowRank(statistics.mean.astype(np.float32), factor, tail, _deviation(statistics, ridge))


def diagonal(statistics: Statistics, ridge: float) -> Diagonal:
    """Keep the variances alone.

    Raises:
        PadimEdgeError: One of the reasons of `whiten`.
    """
    scale = 1 / np.sqrt(_variance(statistics, ridge))
    return Diagonal(statistics.mean.astype(np.float32), scale.astype(np.float32))


def _variance(statistics: Statistics, ridge: float) -> Float64:
    """Return variances `(P, D)`, the ridge included."""
    _check(statistics, ridge)
    variance = np.einsum("pii->pi", statistics.scatter) / (statistics.count - 1) + ridge
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        raise _not_finite()
    return np.asarray(variance)


def _deviation(statistics: Statistics, ridge: float) -> Float32:
    return np.asarray(np.sqrt(_variance(statistics, ridge).mean(axis=0)), np.float32)


def _check(statistics: Statistics, ridge: float) -> None:
    if statistics.count < 2:
        raise PadimEdgeError(f"the statistics hold {statistics.count} image(s), expected at least 2")
    if not ridge > 0:
        raise PadimEdgeError(f"the ridge is {ridge}, expected a positive number such as 0.003")


def _not_finite() -> PadimEdgeError:
    return PadimEdgeError("the statistics are not finite or not positive definite; fit again, from undamaged images")


def _each(statistics: Statistics, ridge: float, work: Callable[[slice, Float64], None]) -> None:
    """Call `work` with some patches and their covariances `(p, D, D)`, from several threads.

    Each thread has a core to itself, and LAPACK starts no threads of its own: they would wait for each other at every
    matrix. So the results are equal on any number of cores, bit by bit.
    """
    _check(statistics, ridge)
    diagonal = np.arange(statistics.dims)

    def one(part: slice) -> None:
        covariance = statistics.scatter[part] / (statistics.count - 1)
        covariance[:, diagonal, diagonal] += ridge
        # Clamping can hide that a matrix is not positive definite; its diagonal shows it.
        if not np.isfinite(covariance).all() or (covariance[:, diagonal, diagonal] <= 0).any():
            raise np.linalg.LinAlgError
        work(part, covariance)

    step = max(1, _CHUNK // statistics.dims**2)
    parts = [slice(start, start + step) for start in range(0, len(statistics.mean), step)]
    pool = ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1))
    try:
        with threadpool_limits(1, "blas"):
            for _ in pool.map(one, parts):  # a loop and not `list`, so that the first failure is raised at once
                pass
    except np.linalg.LinAlgError:
        raise _not_finite() from None
    finally:
        pool.shutdown(cancel_futures=True)
