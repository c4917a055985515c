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
    weight = known.astype(np.float32)
    planes = np.moveaxis(np.asarray(values, dtype=np.float32), -1, -3) * weight[..., None, :, :]
    sums = np.concatenate([planes, weight[..., None, :, :]], axis=-3)
    return np.asarray(np.moveaxis(_pull_push(sums), -3, -1))


def _pull_push(sums: _Array) -> _Array:
    """Return the mean where something is known, and the value of the next coarser level elsewhere.

    Args:
        sums: `(..., C + 1, H, W)`, sum of the known values, and how much is known, 0 to 1, in the last plane.

    Returns:
        `(..., C, H, W)`.
    """
    total, weight = sums[..., :-1, :, :], sums[..., -1:, :, :]
    height, width = sums.shape[-2:]
    if height == width == 1 or weight.all():
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    coarse = _halved(sums)
    # A weight of more than 1 counts as known. Otherwise a far, well known place would outweigh a near pixel.
    coarse /= np.maximum(coarse[..., -1:, :, :], np.float32(1.0))
    pushed = _doubled(_pull_push(coarse))[..., :height, :width]
    pushed *= np.float32(1.0) - weight
    pushed += total
    return pushed


def _halved(plane: _Array) -> _Array:
    """Sum blocks of 2 x 2 pixels; an odd last row or column stands alone."""
    *stack, height, width = plane.shape
    if height % 2 or width % 2:
        even = np.zeros((*stack, height + height % 2, width + width % 2), np.float32)
        even[..., :height, :width] = plane
        plane = even
    rows = plane[..., ::2, :] + plane[..., 1::2, :]
    return np.asarray(rows[..., ::2] + rows[..., 1::2], dtype=np.float32)


def _doubled(plane: _Array) -> _Array:
    """Double height and width by linear interpolation; the value before the first pixel is that of the first."""
    near, far = np.float32(0.75), np.float32(0.25)
    *stack, height, width = plane.shape
    most, rest = near * plane, far * plane
    columns = np.empty((*stack, height, 2 * width), np.float32)
    columns[..., 0], columns[..., -1] = plane[..., 0], plane[..., -1]
    columns[..., 2::2] = most[..., 1:] + rest[..., :-1]
    columns[..., 1:-1:2] = most[..., :-1] + rest[..., 1:]
    most, rest = near * columns, far * columns
    both = np.empty((*stack, 2 * height, 2 * width), np.float32)
    both[..., 0, :], both[..., -1, :] = columns[..., 0, :], columns[..., -1, :]
    np.add(most[..., 1:, :], rest[..., :-1, :], out=both[..., 2::2, :])
    np.add(most[..., :-1, :], rest[..., 1:, :], out=both[..., 1:-1:2, :])
    return both
