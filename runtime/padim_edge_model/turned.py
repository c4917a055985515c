"""Lean of a thumbnail towards the mean good thumbnail turned by a quarter, a half or three quarters of a circle.

A round part looks alike from all sides, so its patch distances tell little of a turned camera. What turns with the
camera is the light. With the mean thumbnail m, the mean turned by an angle R m, and a thumbnail x, the lean is

    <x - m, R m - m> / <R m - m, R m - m>

It is about 0 for a good image and about 1 for a turned one (Fisher's linear discriminant with a diagonal covariance).
The product weighs each patch with the inverse of its variance over the good images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ANGLES", "Turns", "leans", "turns_of"]

Float64 = npt.NDArray[np.float64]

ANGLES = (90, 180, 270)
"""Angles in degrees, counterclockwise."""

_NOISE = 4.0
"""Least variance of a patch, in squared grey levels, for images so few or so equal that theirs is nearly 0."""
_CLIP = 6.0
"""Standard deviations that a patch may differ by, or more where the turned mean does. What is beyond is a defect and
says nothing about the camera."""


@dataclass(frozen=True, eq=False)
class Turns:
    """Mean thumbnail prepared for many leans; all arrays are read-only."""

    mean: Float64
    """`(P,)` mean thumbnail."""
    scale: Float64
    """`(P,)` standard deviation of each patch."""
    still: Float64
    """`(P, 0 to 4)` orthonormal changes that are no turn, whitened: brightness, contrast, small moves."""
    towards: Float64
    """`(3, P)` whitened direction of each angle, divided by its squared length; 0 where the turned mean is the same or
    has another shape."""
    most: Float64
    """`(3, P)` largest whitened difference that counts, for each angle."""


def turns_of(mean: Float64, deviation: Float64) -> Turns:
    """Prepare the leans from the mean thumbnail `(h, w)` and the standard deviation of its patches `(h, w)`."""
    scale = np.sqrt(deviation**2 + _NOISE)
    down, right = np.gradient(mean) if min(mean.shape) > 1 else (np.zeros_like(mean), np.zeros_like(mean))
    changes = np.stack([each / scale for each in (np.ones_like(mean), mean, down, right)], axis=-1).reshape(-1, 4)
    left, lengths, _ = np.linalg.svd(changes, full_matrices=False)
    still = left[:, lengths > 1e-6 * lengths[0]]  # a plain mean has no edges to move
    towards, most = np.zeros((len(ANGLES), mean.size)), np.full((len(ANGLES), mean.size), _CLIP)
    for i, angle in enumerate(ANGLES):
        turned = np.rot90(mean, angle // 90)
        if turned.shape != mean.shape:
            continue
        direction = ((turned - mean) / scale).ravel()
        most[i] = np.maximum(_CLIP, np.abs(direction))
        direction -= still @ (still.T @ direction)
        length = float(direction @ direction)
        if length > 1e-9 * mean.size:
            towards[i] = direction / length
    return Turns(mean.ravel(), scale.ravel(), still, towards, most)


def leans(small: Float64, turns: Turns) -> tuple[float, float, float]:
    """Compute the lean of a thumbnail `(h, w)` towards each of `ANGLES`; 0 where a turn cannot be told."""
    off = ((small.ravel() - turns.mean) / turns.scale).clip(-turns.most, turns.most)
    off -= (off @ turns.still) @ turns.still.T
    quarter, half, three_quarters = (turns.towards * off).sum(axis=1).tolist()
    return quarter, half, three_quarters
