"""Good images that look unlike the others: perhaps defective, dirty or of another part, and learned as good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FEWEST", "LIMIT", "Suspects", "suspects"]

LIMIT = 4.0
"""Oddness from which an image is named. Of good ones, 1 of 209 bottles, 1 of 320 screws, 8 of 230 commutators and 1 of
31 biscuits reach it; of five broken bottles among 100 good ones, nearly all do."""

FEWEST = 10
"""Smallest number of images that tell what is usual."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Good images in the order of their oddness."""

    order: npt.NDArray[np.int64]
    """`(n,)` indices of the images, the oddest first."""
    oddness: npt.NDArray[np.float64]
    """`(n,)` oddness of each image: robust standard deviations of its score's logarithm from the median."""
    flagged: tuple[int, ...]
    """Indices of the images to be named, the oddest first; mostly empty."""


def suspects(scores: npt.ArrayLike) -> Suspects:
    """Find the images whose scores `(n,)` outside the fit stand apart from the others'.

    The oddness is (log s - median) / (1.4826 MAD), with MAD the median absolute deviation (Leys et al. 2013). It does
    not notice the odd images themselves, as long as they are few.
    """
    logs = np.log(np.maximum(np.asarray(scores, np.float64), 1e-12))
    centre = float(np.median(logs)) if len(logs) else 0.0
    spread = 1.4826 * float(np.median(np.abs(logs - centre))) if len(logs) else 1.0
    oddness = (logs - centre) / max(spread, 1e-6)
    order = np.argsort(-oddness, kind="stable")
    found = () if len(logs) < FEWEST else tuple(int(index) for index in order if oddness[index] > LIMIT)
    return Suspects(order, oddness, found)
