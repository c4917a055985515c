"""Filling of holes in images from what lies around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["filled"]

_Array = npt.NDArray[np.float32]


def filled(values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> _Array:
    """Replace unknown pixels by a smooth continuation of the known ones.

    This is pull-push: known pixels are averaged over blocks of 2, 4, 8 ... pixels, and a hole takes its values from the
    finest average that reaches it. Known pixels keep their values.

    Args:
        values: `(..., H, W, C)`, one image or a stack of them.
        known: `(..., H, W)` bool. Where no pixel is known at all, the result is 0.

    Returns:
        `(..., H, W, C)` float32.
    """
    weight = known.astype(np.float32)[..., None]
    return _pull_push(np.asarray(np.asarray(values, dtype=np.float32) * weight, dtype=np.float32), weight)


def _pull_push(total: _Array, weight: _Array) -> _Array:
    """Return `total / weight` where there is weight, and the value of the next coarser level elsewhere.

    Args:
        total: `(..., H, W, C)`, sum of the known values.
        weight: `(..., H, W, 1)`, how much is known, 0 to 1.
    """
    height, width = total.shape[-3:-1]
    if height == width == 1 or weight.all():
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    coarse_total, coarse_weight = _halved(total), _halved(weight)
    # A weight of more than 1 counts as known. Otherwise a far, well known place would outweigh a near pixel.
    most = np.maximum(coarse_weight, np.float32(1.0))
    coarse = _pull_push(np.divide(coarse_total, most), np.divide(coarse_weight, most))
    return total + (1.0 - weight) * _doubled(coarse)[..., :height, :width, :]


def _halved(plane: _Array) -> _Array:
    """Sum blocks of 2 x 2 pixels; an odd last row or column stands alone."""
    for axis in (-3, -2):
        if plane.shape[axis] % 2:
            pads = [(0, 0)] * plane.ndim
            pads[axis] = (0, 1)
            plane = np.pad(plane, pads)
    rows = plane[..., ::2, :, :] + plane[..., 1::2, :, :]
    return rows[..., ::2, :] + rows[..., 1::2, :]


def _doubled(plane: _Array) -> _Array:
    """Double height and width by linear interpolation."""
    for axis in (-3, -2):
        moved = np.moveaxis(plane, axis, 0)
        before = np.concatenate([moved[:1], moved[:-1]])
        after = np.concatenate([moved[1:], moved[-1:]])
        most = np.float32(0.75) * moved
        both = np.stack([most + np.float32(0.25) * before, most + np.float32(0.25) * after], axis=1)
        plane = np.asarray(np.moveaxis(both.reshape(-1, *moved.shape[1:]), 0, axis), dtype=np.float32)
    return plane
