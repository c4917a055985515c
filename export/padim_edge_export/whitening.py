"""Statistics -> the constants of the Mahalanobis distance in whitening form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError, Statistics

__all__ = ["Whitening", "whiten"]

_CHUNK = 256  # patches at a time, so that float64 copies stay small


@dataclass(frozen=True, eq=False)
class Whitening:
    """`d(x) = |x' factor - bias|` for each patch."""

    factor: npt.NDArray[np.float32]
    """`(P, D, D)` A' with A = L^-1 and L L' the covariance; upper triangular."""
    bias: npt.NDArray[np.float32]
    """`(P, D)` A mean."""


def whiten(statistics: Statistics, ridge: float) -> Whitening:
    """Factor the covariances, in float64.

    With `covariance = scatter / (n - 1) + ridge I = L L'` and `A = L^-1`, the distance
    `sqrt((x - m)' covariance^-1 (x - m))` (PaDiM, eq. 2, with the covariance of eq. 1) equals `|A x - A m|`.

    Raises:
        PadimEdgeError: Fewer than two pictures, a ridge that is not positive, or statistics that are not finite.
    """
    if statistics.count < 2:
        raise PadimEdgeError(f"the statistics hold {statistics.count} picture(s), expected at least 2")
    if not ridge > 0:
        raise PadimEdgeError(f"the ridge is {ridge}, expected a positive number such as 0.003")
    patches, dims = statistics.mean.shape
    factor = np.empty((patches, dims, dims), np.float32)
    bias = np.empty((patches, dims), np.float32)
    diagonal = np.arange(dims)
    for start in range(0, patches, _CHUNK):
        part = slice(start, start + _CHUNK)
        covariance = statistics.scatter[part] / (statistics.count - 1)
        covariance[:, diagonal, diagonal] += ridge
        try:
            if not np.isfinite(covariance).all():
                raise np.linalg.LinAlgError
            inverse = np.tril(np.linalg.inv(np.linalg.cholesky(covariance)))
        except np.linalg.LinAlgError:
            raise PadimEdgeError(
                "the statistics are not finite or not positive definite; fit again, from undamaged pictures"
            ) from None
        factor[part] = inverse.transpose(0, 2, 1)
        bias[part] = np.einsum("pij,pj->pi", inverse, statistics.mean[part])
    return Whitening(factor, bias)
