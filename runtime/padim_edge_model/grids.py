"""Linear maps along one axis of a grid, as matrices: upsampling, resizing, mean pooling, Gaussian filter.

All are separable, so a map of the plane is `rows @ x @ columns.T`. Every execution provider takes these two small
MatMuls, and matrices of several maps can be multiplied together beforehand.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "FIXED_POINT",
    "antialiased",
    "bicubic",
    "bilinear",
    "gaussian",
    "mean_of",
    "mean_pool",
    "nearest",
    "resampled",
]

Float64 = npt.NDArray[np.float64]

FIXED_POINT = 22
"""Fractional bits of the weights that Pillow gives 8-bit pixels: 32, less 8 for the pixel and 2 for sums that
overshoot."""


def nearest(outputs: int, inputs: int) -> Float64:
    """Return `(outputs, inputs)`: each output takes the input cell that it lies in (floor of the scaled index)."""
    matrix: Float64 = np.zeros((outputs, inputs))
    matrix[np.arange(outputs), np.arange(outputs) * inputs // outputs] = 1
    return matrix


def bilinear(outputs: int, inputs: int) -> Float64:
    """Return `(outputs, inputs)`: linear interpolation, centres aligned, edge replicated.

    PyTorch's and ONNX's linear resize without antialiasing follow the same convention.
    """
    position = ((np.arange(outputs) + 0.5) * inputs / outputs - 0.5).clip(0, inputs - 1)
    return np.asarray(np.maximum(1 - np.abs(np.subtract.outer(position, np.arange(inputs))), 0))


def mean_of(outputs: int, inputs: int) -> Float64:
    """Return `(outputs, inputs)`: each of fewer outputs is the mean of the cells that it covers, by covered length."""
    edges = np.arange(outputs + 1) * inputs / outputs
    upper = np.minimum(edges[1:, None], np.arange(1, inputs + 1))
    covered = np.maximum(upper - np.maximum(edges[:-1, None], np.arange(inputs)), 0)
    return np.asarray(covered * outputs / inputs)


def resampled(outputs: int, inputs: int, upsampling: str) -> Float64:
    """Return `(outputs, inputs)`: mean of the covered cells where cells get fewer, and upsampling where they get more.

    Args:
        outputs: Number of cells wanted.
        inputs: Number of cells given.
        upsampling: `nearest` or `bilinear`.
    """
    if outputs < inputs:
        return mean_of(outputs, inputs)
    return bilinear(outputs, inputs) if upsampling == "bilinear" else nearest(outputs, inputs)


def mean_pool(cells: int, side: int) -> Float64:
    """Return `(cells, cells)`: mean over a window of `side` (odd) cells; at the border, over the cells that exist."""
    distance = np.abs(np.subtract.outer(np.arange(cells), np.arange(cells)))
    window: Float64 = (distance <= side // 2).astype(np.float64)
    window /= window.sum(axis=1, keepdims=True)
    return window


def bicubic(outputs: int, inputs: int) -> Float64:
    """Return `(outputs, inputs)`: cubic convolution (Keys 1981) with a = -0.75, centres aligned, edge replicated.

    PyTorch's and ONNX's bicubic resize without antialiasing follow the same convention.
    """
    a = -0.75
    position = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
    matrix = np.zeros((outputs, inputs))
    for tap in range(-1, 3):
        index = np.floor(position).astype(int) + tap
        t = np.abs(position - index)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        weight = np.where(t <= 1, near, far)
        np.add.at(matrix, (np.arange(outputs), index.clip(0, inputs - 1)), weight)
    return matrix


def antialiased(outputs: int, inputs: int, interpolation: str, extent: float | None = None) -> Float64:
    """Return `(outputs, inputs)`: the weights with which Pillow resizes 8-bit pixels, in units of 2**-FIXED_POINT.

    The kernel is widened for shrinking, cut off at the border and normalised. Pillow resizes in two passes, the
    horizontal one first; behind each it rounds the sums to whole grey levels, halves up, and clips them.

    Args:
        outputs: Number of pixels after the resize.
        inputs: Number of pixels before it.
        interpolation: `bicubic` (Keys' cubic convolution with a = -0.5) or `bilinear` (a triangle).
        extent: Length in pixels that is resized, where the last pixel stands for a part of one; by default all inputs.
    """
    scale = float(np.float32(inputs if extent is None else extent)) / outputs  # Pillow has float32 for the extent
    width = max(scale, 1.0)
    reach = {"bicubic": 2.0, "bilinear": 1.0}[interpolation] * width
    matrix = np.zeros((outputs, inputs))
    for i in range(outputs):
        center = (i + 0.5) * scale
        taps = np.arange(max(0, int(center - reach + 0.5)), min(inputs, int(center + reach + 0.5)))
        t = np.abs((taps - center + 0.5) / width)
        if interpolation == "bilinear":
            weight = np.maximum(1 - t, 0)
        else:
            weight = np.where(t < 1, (1.5 * t - 2.5) * t**2 + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2)
            weight[t >= 2] = 0
        weight = weight / weight.sum() * 2.0**FIXED_POINT
        matrix[i, taps] = np.trunc(weight + np.copysign(0.5, weight))
    return matrix


def gaussian(cells: int, sigma: float) -> Float64:
    """Return `(cells, cells)`: Gaussian filter cut at 4 sigma, the signal mirrored at its edges (edge cell repeated).

    `scipy.ndimage.gaussian_filter`, which the published implementations use, follows the same convention.
    """
    if sigma <= 0:
        return np.eye(cells)
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((cells, cells))
    for offset, weight in zip(offsets, kernel, strict=True):
        index = np.mod(np.arange(cells) + offset, 2 * cells)
        np.add.at(matrix, (np.arange(cells), np.minimum(index, 2 * cells - 1 - index)), weight)
    return matrix
