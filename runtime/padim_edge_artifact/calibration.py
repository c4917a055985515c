"""Distribution of good images' scores as a model file keeps it; `padim_edge_model.calibration` computes with it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.schema import MOST_IMAGES, Distance, Several, Whole, check

__all__ = ["MOST_SCORES", "Calibration", "check_threshold"]

MOST_SCORES = 4096
"""Largest number of scores that a file keeps; more scores are replaced by this many equally spaced quantiles."""


def check_threshold(threshold: float) -> float:
    """Return a threshold that may be used.

    Raises:
        PadimEdgeError: It is not a finite number of 0 or more. Above NaN, nothing would be anomalous.
    """
    if not 0 <= threshold < float("inf"):
        raise PadimEdgeError(f"the threshold is {threshold}, expected a distance of 0 or more, below infinity")
    return float(threshold)


BY_HAND = "set by hand"
"""Source of a threshold that a person gave as a number, in words."""

BEST_F1 = "best F1 on "
"""Beginning of the source of a threshold that labelled images gave, in words; the images follow."""


@dataclass(frozen=True)
class Calibration:
    """Scores of good images outside the fit."""

    images: Annotated[int, Whole(1, MOST_IMAGES)]
    """n, number of good images behind the scores, 1 or more."""
    scores: Annotated[tuple[Distance, ...], Several(1, MOST_SCORES)]
    """Scores in ascending order: all n, or `MOST_SCORES` equally spaced quantiles of them."""

    def __post_init__(self) -> None:
        if not self.scores or self.images < 1:
            raise ArtifactError(
                f"the calibration has {len(self.scores)} scores of {self.images} images, expected at least 1; "
                "export the model again"
            )
        check(self)
        if len(self.scores) != min(self.images, MOST_SCORES):
            raise ArtifactError(
                f"the calibration has {len(self.scores)} scores of {self.images} images, expected one each, up to "
                f"{MOST_SCORES}; export the model again"
            )
        if any(low > high for low, high in pairwise(self.scores)):
            raise ArtifactError("the calibration scores are not in ascending order; export the model again")

    @property
    def resolution(self) -> float:
        """Smallest false-alarm rate that the scores themselves resolve, 1 / (n + 1)."""
        return 1 / (self.images + 1)


def behind(calibration: Calibration, rule: str) -> str:
    """Name the images behind a threshold, and its source where that is not their scores.

    Args:
        calibration: Scores of good images.
        rule: Source of the threshold, in words.
    """
    if rule.startswith((BY_HAND, BEST_F1)):
        return f"{calibration.images} good images; but the threshold is another one: {rule}"
    return f"{calibration.images} {rule}"
