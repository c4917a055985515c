"""The score that each good image would have had, had it not been in the fit: closed-form leave-one-out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_edge_model.whitening import Exact, Form, LowRank, squared_distance

__all__ = ["growth", "leave_one_out"]


def leave_one_out(patch_distance: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Distances of images that were in the fit, turned into distances to the fit without them.

    Removing x from n images shifts the mean and takes one rank out of the scatter; by Sherman and Morrison, with d
    the distance to the full fit and c = n / (n - 1)^2,

        d_loo^2 = (n / (n - 1))^2 (n - 2) / (n - 1) d^2 / (1 - c d^2),

    exact where the refit's ridge is scaled by (n - 1) / (n - 2), and otherwise up to that. For n = 2 that scale is
    infinite; there the ridge is kept and the factor (n - 2) / (n - 1) drops out.

    Args:
        patch_distance: `(..., h, w)` distances d of images that were in the fit.
        count: n, 2 or more.

    Returns:
        `(..., h, w)` d_loo.
    """
    return np.sqrt(_squared(np.square(patch_distance, dtype=np.float64), count))


def growth(form: Form, embedding: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """How much farther each patch of an image would be from a fit without that image.

    For models whose own distances are rounded or cut, so that `leave_one_out` of them would magnify the error: the
    growth is computed from the form in floating point, and the model's distances are multiplied by it. Each form grows
    as its refit would: `Exact` by the equation of `leave_one_out`; `LowRank` by it in the kept directions, and in the
    others, which share one precision, with c / (D - r) for c; `Diagonal` by it in each dimension.

    Args:
        form: The constants.
        embedding: `(N, D, h, w)` of images that were in the fit.
        count: n, 2 or more.

    Returns:
        `(N, h, w)`, 1 or more up to rounding.
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
    """Leave-one-out of squared distances."""
    remaining = 1 - squared * (count / (count - 1) ** 2)
    # In exact arithmetic d^2 < (n - 1)^2 / n; float32 distances may touch the bound when n is far below D.
    remaining = np.maximum(remaining, 1e-6)
    scale = (count / (count - 1)) ** 2 * ((count - 2) / (count - 1) if count > 2 else 1)
    return np.asarray(scale * squared / remaining)
