"""Adding images to the Gaussian statistics of every patch, and merging statistics. One pass, bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.statistics import Statistics

__all__ = ["absorb", "merge", "without"]

_CHUNK = 1 << 20
"""Numbers of a scatter that one thread works on at a time: 8 MB, which caches hold; 104 patches at D = 100."""

Float64 = npt.NDArray[np.float64]


def merge(first: Statistics, second: Statistics, *, in_place: bool = False) -> Statistics:
    """Merge the statistics of two sets of images, exact up to rounding (Chan, Golub, LeVeque 1979).

    Args:
        first: Statistics of some images.
        second: Statistics of other images.
        in_place: Whether to overwrite the arrays of `first`, for wide embeddings whose statistics take gigabytes.

    Raises:
        ArtifactError: The two describe different grids or numbers of dimensions.
    """
    if (first.grid, first.dims) != (second.grid, second.dims):
        raise ArtifactError(
            f"statistics of grid {first.grid} with {first.dims} dimensions cannot be merged with grid {second.grid} "
            f"with {second.dims}; fit both with the same preset, size and dimensions"
        )
    if not first.count or not second.count:
        return first if first.count else second
    mean, scatter = (first.mean, first.scatter) if in_place else (first.mean.copy(), first.scatter.copy())
    total = first.count + second.count
    for part in _parts(mean):  # outer products of all patches at once would double the memory
        delta = second.mean[part] - mean[part]
        mean[part] += delta * (second.count / total)
        scatter[part] += second.scatter[part]
        delta *= np.sqrt(first.count * second.count / total)
        scatter[part] += delta[:, :, None] * delta[:, None, :]
    return Statistics(total, mean, scatter, first.grid)


def without(total: Statistics, part: Statistics) -> Statistics:
    """Return the statistics of all images but some: the inverse of `merge`, up to rounding.

    Args:
        total: Statistics of all images.
        part: Statistics of some of them, of fewer images; its arrays are overwritten, because they may be gigabytes.
    """
    assert part.count < total.count, "no image would be left"
    count = total.count - part.count
    mean, scatter = part.mean, part.scatter
    for some in _parts(mean):
        left_out = mean[some].copy()
        mean[some] = total.mean[some] + (total.mean[some] - left_out) * (part.count / count)
        delta = (left_out - mean[some]) * np.sqrt(count * part.count / total.count)
        np.subtract(total.scatter[some], scatter[some], out=scatter[some])
        scatter[some] -= delta[:, :, None] * delta[:, None, :]
    return Statistics(count, mean, scatter, total.grid)


def absorb(
    mean: Float64, scatter: Float64, count: int, embedding: npt.NDArray[np.float32], *, workers: int = 1
) -> None:
    """Add a batch of embeddings `(N, D, h, w)` to the statistics of `count` images, in place.

    This is Chan's pairwise update, which never subtracts large second moments. The difference between the batch's mean
    and the old mean becomes one more row of the batch's centred vectors. The work goes patch by patch in chunks, so
    nothing of the size of the scatter is copied.

    Args:
        mean: `(P, D)`, P = h w.
        scatter: `(P, D, D)`.
        count: Number of images so far, 0 or more.
        embedding: Embeddings of the images to add.
        workers: Number of threads. As many as cores is best, with numpy's own threads off. The result is the same for
            any number.
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
    """Split all patches into chunks."""
    patches, dims = mean.shape
    step = max(1, _CHUNK // dims**2)
    return [slice(start, start + step) for start in range(0, patches, step)]
