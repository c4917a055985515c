"""Filling, merging and using a memory: patches of good images in the metric of one covariance for all of them.

With S the covariance of all patches of all good images, ridge included, S = U diag(l) U' and W = U diag(l)^-1/2,
z = W' (x - mean) has the Mahalanobis distance of S as its Euclidean distance. Positions do not matter. PaDiM keeps one
mean and one covariance per position instead (arXiv 2011.08785, eq. 1).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.memory import FOLDS, Memory
from padim_edge_artifact.method import Bank, Method
from padim_edge_artifact.statistics import Statistics
from padim_edge_model.k_centre import cover
from padim_edge_model.statistics import absorb, merge

__all__ = [
    "BUFFER_BYTES",
    "MemoryLearner",
    "Metric",
    "Nearest",
    "buffered_patches",
    "candidates_of",
    "fold_at",
    "merge_memories",
    "metric_of",
    "nearest_of",
    "prototypes_of",
]

BUFFER_BYTES = 200_000_000
"""Memory for the patches of a fold before they are thinned, at most."""

_BUFFER_IMAGES = 64
"""Number of images whose patches are kept before they are thinned; see `BUFFER_BYTES`."""

_PARTS = 8
"""Least number of parts that fill the buffer, so that it is thinned soon after it is full."""

_CANDIDATES = 0.5
"""Number of candidates that each fold keeps, relative to the number of prototypes."""

_DRAWN = 16
"""Number of patches drawn at random that a selection begins with. The farthest patches are rare ones; without these,
chance would decide whether the most frequent patches have a prototype near them."""

_ROWS = 1024
"""Number of patches that are mapped at a time, so that they are not held once more."""

_REACH = 0.9999
"""Quantile of the candidates' coordinates that codes of 8 bits reach to."""
_CODES = 127
"""Largest code of a coordinate, its sign apart."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Metric:
    """Linear map after which the Euclidean distance is the distance of the model: z = (x - mean) @ whitening."""

    mean: Float64
    """`(D,)` mean of all patches."""
    whitening: Float64
    """`(D, D)` map; identity for Euclidean distances."""

    def __call__(self, vectors: npt.NDArray[np.float32]) -> Float32:
        """Map `(n, D)` embeddings, in float32 after an exact centring."""
        mean, whitening = self.mean.astype(np.float32), self.whitening.astype(np.float32)
        found = np.empty_like(vectors)
        with threadpool_limits(1, "blas"):  # another number of threads would round differently
            for start in range(0, len(vectors), _ROWS):
                block = slice(start, start + _ROWS)
                np.matmul(vectors[block] - mean, whitening, out=found[block])
        return found


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distance to the nearest prototype: d^2 = |z|^2 + min over m of (|c_m|^2 - 2 c_m' z), z = (x - mean) whitening."""

    mean: Float32
    """`(D,)` mean of all patches."""
    whitening: Float32
    """`(D, D)` map to coordinates with the distance's metric."""
    prototypes: Float32
    """`(M, D)` prototypes c in these coordinates, the most frequent ones first."""
    frequent: int
    """Number of prototypes that all patches are compared with; M for all."""
    searched: float
    """Share of an image's patches that are compared with the other prototypes as well, in (0, 1]."""
    step: float
    """Distance of two codes of a coordinate in int8."""
    neighbours: npt.NDArray[np.int64] | None = None
    """`(M, b)` prototypes nearest to each prototype, itself first, for the re-weighting; `None` without it."""


def metric_of(moments: Statistics, ridge: float, *, whitened: bool) -> Metric:
    """Compute the metric from the moments of all patches, a `Statistics` of one cell.

    Args:
        moments: Number, mean and scatter of the patches.
        ridge: Number added to the diagonal of the covariance, positive.
        whitened: Whether the metric is that of the covariance; otherwise Euclidean.

    Raises:
        PadimEdgeError: There are fewer than two patches, or the moments are not finite.
    """
    if moments.count < 2:
        raise PadimEdgeError(f"the memory holds {moments.count} patches, expected those of at least 2 images")
    if not whitened:
        return Metric(moments.mean[0], np.eye(moments.dims))
    covariance = moments.scatter[0] / (moments.count - 1)
    if not np.isfinite(covariance).all():
        raise PadimEdgeError("the memory is not finite; fit again, from undamaged images")
    with threadpool_limits(1, "blas"):  # more threads would round differently
        values, vectors = np.linalg.eigh(covariance)
    return Metric(moments.mean[0], vectors / np.sqrt(np.maximum(values, 0) + ridge))


def moments_of(memory: Memory, folds: Collection[int]) -> Statistics:
    """Merge the moments of some folds into a `Statistics` of one cell."""
    total = Statistics.empty((1, 1), memory.dims)
    for fold in sorted(folds):
        total = merge(total, _moments(memory, fold))
    return total


def _moments(memory: Memory, fold: int) -> Statistics:
    return Statistics(int(memory.patches[fold]), memory.mean[fold, None], memory.scatter[fold, None], (1, 1))


def fold_at(position: int, total: int) -> int:
    """Return the fold of an image by its place in the list of all images.

    Neighbours in time share a fold, so that the calibration leaves them out together.
    """
    return position * FOLDS // max(total, 1)


def candidates_of(bank: Bank, patches: int) -> int:
    """Return the number of candidates that a fold of so many patches keeps, at most."""
    if bank.prototypes is not None:
        return math.ceil(_CANDIDATES * bank.prototypes)
    assert bank.share is not None
    return math.ceil(bank.share * patches)


def buffered_patches(grid: tuple[int, int], dims: int) -> int:
    """Return the number of patches of a fold from which they are thinned."""
    return min(_BUFFER_IMAGES * grid[0] * grid[1], BUFFER_BYTES // (4 * dims))


class MemoryLearner:
    """A memory that images are added to.

    Args:
        memory: Memory to begin with; it is not changed.
        method: Method of the fit, with a bank.
    """

    def __init__(self, memory: Memory, method: Method) -> None:
        assert method.bank is not None
        self.bank: Bank = method.bank
        self.turned = method.bank.turned
        """Whether images are learned from turned as well."""
        self._ridge = method.ridge
        self._grid, self._dims = memory.grid, memory.dims
        self._fold_of = memory.fold_of.tolist()
        self._moments = [_moments(memory, fold) for fold in range(FOLDS)]
        self._seed = method.seed
        self._vectors = [[each] if len(each) else [] for each in memory.vectors]
        self._weights = [[each] if len(each) else [] for each in memory.weights]
        self._coming: list[int] = []

    def expect(self, fold: int) -> None:
        """Say into which fold the next image comes; asked once for each image, in order."""
        self._coming.append(fold)

    def add(self, variants: Sequence[npt.NDArray[np.float32]], workers: int = 1) -> None:
        """Add a batch of images.

        Args:
            variants: Embeddings `(N, D, h, w)` of the images; and of the images turned, where the bank asks for it.
            workers: Number of threads.

        Raises:
            PadimEdgeError: An embedding is not finite.
        """
        count = len(variants[0])
        folds, self._coming = np.array(self._coming[:count], np.int64), self._coming[count:]
        assert len(folds) == count, "expect() was not called for each image"
        for fold in np.unique(folds).tolist():
            places = np.flatnonzero(folds == fold).tolist()
            for embedding in variants:
                for some in (places[at : at + self._together] for at in range(0, len(places), self._together)):
                    self._add(fold, _rows(embedding, some), workers)
        self._fold_of += folds.tolist()
        last = int(folds[-1])
        for fold in range(FOLDS):
            if fold != last:  # images come fold by fold, so the others are complete
                self._thin(fold, self._candidates(fold))

    def _add(self, fold: int, vectors: Float32, workers: int) -> None:
        moments = self._moments[fold]
        mean, scatter = moments.mean.copy(), moments.scatter.copy()
        absorb(mean, scatter, moments.count, vectors[:, :, None, None], workers=workers)
        self._moments[fold] = Statistics(moments.count + len(vectors), mean, scatter, (1, 1))
        self._vectors[fold].append(vectors)
        self._weights[fold].append(np.ones(len(vectors), np.int64))
        count = self._candidates(fold)
        if sum(map(len, self._vectors[fold])) > max(self._room, 2 * count):
            self._thin(fold, count)

    @property
    def _together(self) -> int:
        """Number of images whose patches are added at a time."""
        return max(1, self._room // (_PARTS * self._grid[0] * self._grid[1]))

    @property
    def _room(self) -> int:
        return buffered_patches(self._grid, self._dims)

    def _candidates(self, fold: int) -> int:
        return candidates_of(self.bank, self._moments[fold].count)

    def _thin(self, fold: int, count: int) -> None:
        if sum(map(len, self._vectors[fold])) <= count:
            return
        vectors, weights = np.concatenate(self._vectors[fold]), np.concatenate(self._weights[fold])
        self._vectors[fold] = [vectors]  # and not the parts beside it
        metric = metric_of(self._moments[fold], self._ridge, whitened=self.bank.whitened)
        points = metric(vectors)
        taken, owner = cover(points, count, start=_drawn(weights, self._seed))
        order = np.argsort(taken)  # in the order of the images
        counts = np.bincount(owner, weights, minlength=len(taken)).astype(np.int64)
        self._vectors[fold] = [np.ascontiguousarray(vectors[taken[order]])]
        self._weights[fold] = [counts[order]]

    def unite(self, other: Memory) -> None:
        """Add the images of another memory, fold by fold."""
        for fold in range(FOLDS):
            self._moments[fold] = merge(self._moments[fold], _moments(other, fold))
            self._vectors[fold].append(other.vectors[fold])
            self._weights[fold].append(other.weights[fold])
        self._fold_of += other.fold_of.tolist()

    def finish(self) -> Memory:
        """Return the memory, thinned."""
        for fold in range(FOLDS):
            self._thin(fold, self._candidates(fold))
        return self.found

    @property
    def found(self) -> Memory:
        """Memory so far, whose last fold may not be thinned yet."""
        nothing = np.empty((0, self._dims), np.float32)
        return Memory(
            len(self._fold_of),
            self._grid,
            np.array(self._fold_of, np.int64),
            np.array([each.count for each in self._moments], np.int64),
            np.concatenate([each.mean for each in self._moments]),
            np.concatenate([each.scatter for each in self._moments]),
            tuple(np.concatenate(each) if each else nothing for each in self._vectors),
            tuple(np.concatenate(each) if each else np.empty(0, np.int64) for each in self._weights),
        )


def _rows(embedding: Float32, places: Sequence[int]) -> Float32:
    """Return all patches `(n h w, D)` of some of the images of an embedding `(N, D, h, w)`."""
    _, dims, height, width = embedding.shape
    found = np.empty((len(places), height, width, dims), np.float32)
    for image, place in zip(found, places, strict=True):
        image[...] = embedding[place].transpose(1, 2, 0)
    return found.reshape(-1, dims)


def _drawn(weights: npt.NDArray[np.int64], seed: int) -> list[int]:
    """Draw some candidates at random, each as likely as the patches that it stands for."""
    count = min(_DRAWN, len(weights))
    generator = np.random.default_rng([seed, int(weights.sum())])
    return [int(index) for index in generator.choice(len(weights), count, replace=False, p=weights / weights.sum())]


def merge_memories(first: Memory, second: Memory, method: Method) -> Memory:
    """Merge the memories of two sets of images, fold by fold.

    Moments merge exactly. Candidates are united and thinned again.

    Raises:
        ArtifactError: The two describe different grids or numbers of dimensions.
    """
    if (first.grid, first.dims) != (second.grid, second.dims):
        raise ArtifactError(
            f"a memory of grid {first.grid} with {first.dims} dimensions cannot be merged with grid {second.grid} with "
            f"{second.dims}; fit both with the same preset, size and dimensions"
        )
    learner = MemoryLearner(first, method)
    learner.unite(second)
    return learner.finish()


def nearest_of(memory: Memory, method: Method, without: Collection[int] = ()) -> Nearest:
    """Choose the prototypes of a model.

    Args:
        memory: Memory of the good images.
        method: Method of the fit, with a bank.
        without: Folds that are left out.

    Raises:
        PadimEdgeError: Nothing is left, or the memory is not finite.
    """
    bank = method.bank
    assert bank is not None
    folds = [fold for fold in range(FOLDS) if fold not in without and len(memory.vectors[fold])]
    if not folds:
        raise PadimEdgeError("the memory is empty; expected at least 2 good images")
    moments = moments_of(memory, folds)
    metric = metric_of(moments, method.ridge, whitened=bank.whitened)
    points = metric(np.concatenate([memory.vectors[fold] for fold in folds]))
    weights = np.concatenate([memory.weights[fold] for fold in folds])
    taken, owner = cover(points, prototypes_of(bank, moments.count), start=_drawn(weights, method.seed))
    frequency = np.bincount(owner, weights, minlength=len(taken))
    prototypes = points[taken[np.argsort(-frequency, kind="stable")]]
    return Nearest(
        metric.mean.astype(np.float32),
        metric.whitening.astype(np.float32),
        prototypes,
        len(prototypes) if bank.searched == 1 else min(bank.frequent, len(prototypes)),
        bank.searched,
        (float(np.quantile(np.abs(points), _REACH)) or 1.0) / _CODES,
        _neighbours(prototypes, bank.neighbours) if bank.neighbours > 1 else None,
    )


def prototypes_of(bank: Bank, patches: int) -> int:
    """Return the largest number of prototypes of a model of so many patches."""
    if bank.prototypes is not None:
        return min(bank.prototypes, patches)
    assert bank.share is not None
    return max(1, int(bank.share * patches))


def _neighbours(prototypes: Float32, count: int) -> npt.NDArray[np.int64]:
    """Return the prototypes nearest to each one `(M, min(count, M))`, itself first."""
    norms = np.einsum("md,md->m", prototypes, prototypes)
    count = min(count, len(prototypes))
    found = np.empty((len(prototypes), count), np.int64)
    for first in range(0, len(prototypes), 1024):
        with threadpool_limits(1, "blas"):
            squared = prototypes[first : first + 1024] @ (-2 * prototypes.T) + norms
        squared[np.arange(len(squared)), first + np.arange(len(squared))] = -np.inf
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(squared, nearest, axis=1).argsort(axis=1)
        found[first : first + 1024] = np.take_along_axis(nearest, order, axis=1)
    return found
