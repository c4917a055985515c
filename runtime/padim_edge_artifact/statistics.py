"""Gaussian statistics of every patch: one pass, mergeable, and of a size that does not depend on the image count."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError

__all__ = ["Statistics", "absorb"]

_CHUNK = 1 << 20
"""Numbers of a scatter that are worked on at a time, by one thread; 8 MB, which caches hold: 104 patches at D = 100."""

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
        """Statistics of no image at all, the neutral element of `merge`."""
        patches = grid[0] * grid[1]
        return cls(0, np.zeros((patches, dims)), np.zeros((patches, dims, dims)), grid)

    def merge(self, other: Statistics, *, in_place: bool = False) -> Statistics:
        """Statistics of both sets of images together, exact up to rounding (Chan, Golub, LeVeque 1979).

        Args:
            other: Of other images.
            in_place: Write over the arrays of `self`, for wide embeddings whose statistics take gigabytes.

        Raises:
            ArtifactError: The two describe different grids or numbers of dimensions.
        """
        if (self.grid, self.dims) != (other.grid, other.dims):
            raise ArtifactError(
                f"statistics of grid {self.grid} with {self.dims} dimensions cannot be merged with grid {other.grid} "
                f"with {other.dims}; fit both with the same preset, size and dimensions"
            )
        if not self.count or not other.count:
            return self if self.count else other
        mean, scatter = (self.mean, self.scatter) if in_place else (self.mean.copy(), self.scatter.copy())
        total = self.count + other.count
        for part in _parts(mean):  # outer products of all patches at once would double the memory
            delta = other.mean[part] - mean[part]
            mean[part] += delta * (other.count / total)
            scatter[part] += other.scatter[part]
            delta *= np.sqrt(self.count * other.count / total)
            scatter[part] += delta[:, :, None] * delta[:, None, :]
        return Statistics(self.count + other.count, mean, scatter, self.grid)

    def digest(self) -> str:
        """SHA-256 that tells statistics apart, 64 hexadecimal digits; of count, mean and variances, which is quick."""
        found = hashlib.sha256(json.dumps([self.count, self.grid, self.dims]).encode())
        found.update(np.ascontiguousarray(self.mean).data)
        found.update(np.ascontiguousarray(np.einsum("pii->pi", self.scatter)).data)
        return found.hexdigest()


def absorb(
    mean: Float64, scatter: Float64, count: int, embedding: npt.NDArray[np.float32], *, workers: int = 1
) -> None:
    """Add a batch of embeddings `(N, D, h, w)` to the statistics of `count` images, in place.

    Chan's pairwise update, so that no difference of large second moments is ever taken: what the batch's mean differs
    by from the old one is one more row of the batch's centred vectors. Some patches at a time, so that nothing of the
    size of the scatter is ever copied.

    Args:
        mean: `(P, D)`, P = h w.
        scatter: `(P, D, D)`.
        count: Images in them so far, 0 or more.
        embedding: Of the images to add.
        workers: Threads, each of which has some patches. Best as many as cores, with numpy's own threads off. The
            result is the same with any number.
    """
    added, dims = embedding.shape[:2]
    vectors = embedding.reshape(added, dims, -1).transpose(2, 0, 1)  # (P, N, D)
    total = count + added

    def one(part: slice) -> None:
        own = vectors[part]
        rows = np.empty((len(own), added + 1, dims))
        rows[:, :added] = own
        batch_mean = rows[:, :added].mean(axis=1)
        rows[:, :added] -= batch_mean[:, None, :]
        delta = batch_mean - mean[part]
        mean[part] += delta * (added / total)
        rows[:, added] = delta * np.sqrt(count * added / total)
        scatter[part] += np.matmul(rows.transpose(0, 2, 1), rows)

    if workers == 1:
        for part in _parts(mean):
            one(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, _parts(mean)):  # and not list: the first failure is raised at once
            pass


def _parts(mean: Float64) -> list[slice]:
    """All patches, some at a time."""
    patches, dims = mean.shape
    step = max(1, _CHUNK // dims**2)
    return [slice(start, start + step) for start in range(0, patches, step)]
