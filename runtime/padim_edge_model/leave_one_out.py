"""Closed-form leave-one-out: the score that each good image would get from a fit without it, or without its group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from padim_edge_model.whitening import Exact, Form, LowRank, grams, squared_distance

__all__ = ["distance_of", "growth", "leave_group_out", "leave_one_out", "ridge_without"]

_JUDGED = 64
"""Patches whose distances are computed at a time."""
_FLOOR = 1e-6
"""Smallest share of an image's own weight that is taken to remain without it."""


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


def ridge_without(ridge: float, count: int, left_out: int) -> float:
    """Return the ridge of the form that `leave_group_out` needs, so that a refit with `ridge` itself is computed.

    Args:
        ridge: Number added to the diagonal of every covariance.
        count: n, number of images in the fit.
        left_out: g, number of images in the group, less than n.
    """
    return ridge * max(count - left_out - 1, 1) / (count - 1)


def leave_group_out(form: Form, embedding: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Compute the distances that the images of a group would have in a fit without the whole group.

    Removing g of n images shifts the mean and takes g ranks out of the scatter. With z_i the whitened residuals of the
    group in the full fit, H the g x g matrix of z_i' z_j / (n - 1), m = n - g, and K = I + 1 1' / m, the Woodbury
    identity gives

        d_i^2 = (m - 1) [K H (I - K H)^-1 K]_ii.

    For g = 1 this is the equation of `leave_one_out`. The form is that of all images with the ridge of
    `ridge_without`; the result is then that of a refit. Each form is treated as in `growth`. One g x g system is
    solved per patch, so a group of 128 images takes seconds and one of 1000 minutes; larger groups are best left out
    in parts.

    Args:
        form: Constants of the distance.
        embedding: `(g, D, h, w)` embeddings of the images of the group, all of which were in the fit.
        count: n, number of images in the fit, more than g.

    Returns:
        `(g, h, w)` distances.
    """
    added, dims, h, w = embedding.shape
    vectors = np.ascontiguousarray(embedding.reshape(added, dims, -1).transpose(2, 0, 1))  # (P, g, D)
    found = np.empty((h * w, added))
    if isinstance(form, Exact):
        for chunk, gram in grams(form, vectors, (h, w)):
            found[chunk] = _without_group(gram, count)
    elif isinstance(form, LowRank):
        shared = dims - form.factor.shape[2]
        for chunk, kept, rest in _low_rank_grams(form, vectors):
            found[chunk] = _without_group(kept, count) + shared * _without_group(rest / shared, count)
    else:
        remaining = count - added
        for chunk in _chunks(h * w):
            each = np.asarray((vectors[chunk] - form.mean[chunk, None]) * form.scale[chunk, None], np.float64)
            each /= np.sqrt(count - 1)
            total = each.sum(axis=1, keepdims=True)
            own = np.square(each).sum(axis=1, keepdims=True) + np.square(total) / remaining
            without = np.square(each + total / remaining) / np.maximum(1 - own, _FLOOR)
            found[chunk] = max(remaining - 1, 1) * without.sum(axis=2)
    return _on_grid(np.sqrt(found), embedding)


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
    distance, grown = _with_and_without(form, embedding, count)
    ratio = np.sqrt(grown / np.maximum(distance, 1e-12))
    return _on_grid(ratio, embedding)


def distance_of(form: Form, embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Compute the distances `(N, h, w)` of embeddings `(N, D, h, w)` in floating point, from the form alone."""
    distance, _ = _with_and_without(form, embedding, 3)
    return _on_grid(np.sqrt(distance), embedding)


def _with_and_without(
    form: Form, embedding: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute squared distances `(P, N)` in the fit, and in fits without each image."""
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
    return distance, grown


def _on_grid(values: npt.NDArray[np.float64], embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Bring `(P, N)` to `(N, h, w)`."""
    return np.ascontiguousarray(values.T.reshape(len(embedding), *embedding.shape[2:]))


def _squared(squared: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Apply the equation of `leave_one_out` to squared distances."""
    remaining = 1 - squared * (count / (count - 1) ** 2)
    # In exact arithmetic d^2 < (n - 1)^2 / n. Float32 distances may touch that bound when n is far below D.
    remaining = np.maximum(remaining, _FLOOR)
    scale = (count / (count - 1)) ** 2 * ((count - 2) / (count - 1) if count > 2 else 1)
    return np.asarray(scale * squared / remaining)


def _without_group(gram: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Apply the equation of `leave_group_out` to inner products `(p, g, g)` of whitened residuals; `(p, g)` squared."""
    group = gram.shape[1]
    remaining = count - group
    # The symmetric root of K keeps the system symmetric: L L = K, M = L H L, d^2 = (m - 1) [L (I - M)^-1 M L]_ii.
    root = np.eye(group) + (np.sqrt(1 + group / remaining) - 1) / group
    weight = root @ (gram / (count - 1)) @ root
    solved = np.linalg.solve(np.eye(group) * (1 + _FLOOR) - weight, weight)
    squared = np.einsum("ij,pjk,ik->pi", root, solved, root, optimize=True)
    return np.asarray(max(remaining - 1, 1) * np.maximum(squared, 0))


def _low_rank_grams(
    form: LowRank, vectors: npt.NDArray[np.float32]
) -> Iterator[tuple[slice, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Yield patches and their inner products `(p, g, g)`: of the kept directions, and of all others."""
    for chunk in _chunks(len(vectors)):
        centred = np.asarray(vectors[chunk] - form.mean[chunk, None], np.float64)
        factor = np.asarray(form.factor[chunk], np.float64)
        weight = np.square(factor).sum(axis=1)[:, None]  # t - 1 / l
        tail = form.tail[chunk, None, None].astype(np.float64)
        along = (centred @ factor) / np.sqrt(np.maximum(weight, 1e-30))
        kept = (along * np.sqrt(np.maximum(tail - weight, 0))) @ (
            along * np.sqrt(np.maximum(tail - weight, 0))
        ).transpose(0, 2, 1)
        whole = tail * (centred @ centred.transpose(0, 2, 1))
        yield chunk, kept, whole - tail * (along @ along.transpose(0, 2, 1))


def _chunks(patches: int) -> list[slice]:
    return [slice(start, start + _JUDGED) for start in range(0, patches, _JUDGED)]
