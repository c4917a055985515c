"""The score that each good picture would have had, had it not been in the fit: closed-form leave-one-out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["leave_one_out"]


def leave_one_out(patch_distance: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Distances of pictures that were in the fit, turned into distances to the fit without them.

    Removing x from n pictures shifts the mean and takes one rank out of the scatter; by Sherman and Morrison, with d
    the distance to the full fit and c = n / (n - 1)^2,

        d_loo^2 = (n / (n - 1))^2 (n - 2) / (n - 1) d^2 / (1 - c d^2),

    exact where the refit's ridge is scaled by (n - 1) / (n - 2), and otherwise up to that. For n = 2 that scale is
    infinite; there the ridge is kept and the factor (n - 2) / (n - 1) drops out.

    Args:
        patch_distance: `(..., h, w)` distances d of pictures that were in the fit.
        count: n, 2 or more.

    Returns:
        `(..., h, w)` d_loo.
    """
    squared = np.square(patch_distance, dtype=np.float64)
    remaining = 1 - squared * (count / (count - 1) ** 2)
    # In exact arithmetic d^2 < (n - 1)^2 / n; float32 distances may touch the bound when n is far below D.
    remaining = np.maximum(remaining, 1e-6)
    scale = (count / (count - 1)) ** 2 * ((count - 2) / (count - 1) if count > 2 else 1)
    return np.sqrt(scale * squared / remaining)
