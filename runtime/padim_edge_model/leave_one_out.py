"""Closed-form leave-one-out: the score that each good image would get from a fit without it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_edge_model.whitening import Exact, Form, LowRank, squared_distance

__all__ = ["growth", "leave_one_out"]


def leave_one_out(patch_distance: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Turn distances of images in the fit into distances to a fit without each of them.

    Removing x from n images shifts the mean and takes one rank out of the scatter. By the Sherman-Morrison formula,
    with d the distance to the full fit and c = n / (n - 1)^2,

        d_loo^2 = (n / (n - 1))^2 (n - 2) / (n - 1) d^2 / (1 - c d^2).

    This is exact if the refit's ridge is scaled by (n - 1) / (n - 2). For n = 2 that scale is infinite; there the
    ridge is kept and the factor (n - 2) / (n - 1) drops out.

    Args:
        patch_distance: `(..., h, w)` distances d of images that were in the fit.
        count: n, number of images in the fit, 2 or more.

    Returns:
        `(..., h, w)` distances d_loo.
    """
    return np.sqrt(_squared(np.square(patch_distance, dtype=np.float64), count))


def growth(form: Form, embedding: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Compute the factor by which each patch's distance grows in a fit without its image.

    It serves models whose own distances are rounded or cut, because `leave_one_out` would magnify that error. The
    factor is computed from the form in floating point; the caller multiplies the model's distances by it.

    Each form grows as its refit would. `Exact` follows the equation of `leave_one_out`. `LowRank` follows it in the
    kept directions; the other directions share one precision and follow it with c / (D - r) instead of c. `Diagonal`
    follows it in each dimension.

    Args:
        form: Constants of the distance.
        embedding: `(N, D, h, w)` embeddings of images that were in the fit.
        count: n, number of images in the fit, 2 or more.

    Returns:
        `(N, h, w)` factors, 1 or more up to rounding.
    """
    added, dims, h, w = embedding.shape
    vectors = np.ascontiguousarray(embedding.reshape(added, dims, -1).transpose(2, 0, 1))  # (P, N, D)
    if isinstance(form, Exact):
        distance = squared_distance(form, vectors, (h, w))
        grown = _squared(distance, count)
    elif isinstance(form, LowRank):
        centred = vectors - form.mean[:, None]
        away = np.square(centred @ form.factor, dtype=np.float64)
        weight = np.square(form.factor, dtype=np.float64).sum(axis=1)[:, None]  # t - 1 / l
        precision = form.tail[:, None, None] - weight
        kept = (away / np.maximum(weight, 1e-30) * precision).sum(axis=2)
        whole = form.tail[:, None] * np.square(centred, dtype=np.float64).sum(axis=2)
        rest = np.maximum(whole - away.sum(axis=2) - kept, 0)
        shared = dims - form.factor.shape[2]
        distance = kept + rest
        grown = _squared(kept, count) + _squared(rest / shared, count) * shared
    else:
        each = np.square((vectors - form.mean[:, None]) * form.scale[:, None], dtype=np.float64)
        distance = each.sum(axis=2)
        grown = _squared(each, count).sum(axis=2)
    ratio = np.sqrt(grown / np.maximum(distance, 1e-12))
    return np.ascontiguousarray(ratio.T.reshape(added, h, w))


def _squared(squared: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Apply the equation of `leave_one_out` to squared distances."""
    remaining = 1 - squared * (count / (count - 1) ** 2)
    # In exact arithmetic d^2 < (n - 1)^2 / n. Float32 distances may touch that bound when n is far below D.
    remaining = np.maximum(remaining, 1e-6)
    scale = (count / (count - 1)) ** 2 * ((count - 2) / (count - 1) if count > 2 else 1)
    return np.asarray(scale * squared / remaining)
