"""From judged images to the outcome of a rehearsal, and what all ways to one share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from padim_edge.rehearsal.result import HELD_OUT, Rehearsal, chosen_examples
from padim_edge.rehearsal.trials import Judged
from padim_edge_artifact import Metadata, PadimEdgeError

__all__ = ["COUNT", "RehearsalOptions", "conclude"]

COUNT = 360
"""Usual number of drawn defects."""


@dataclass(frozen=True)
class RehearsalOptions:
    """Options of a rehearsal."""

    count: int = COUNT
    """Least number of defects to draw, 1 or more. Each image gains as many, so up to twice as many are drawn."""
    seed: int = 0
    """Random seed of the defects, 0 or more."""
    device: str = "auto"
    """Device that judges the images: `auto`, `cpu`, `cuda` or `tensorrt`. A `Detector` stays on its own device."""
    weights: str | os.PathLike[str] = "auto"
    """Weights of the backbone where the method is fitted again, as in `fit`."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PadimEdgeError(f"the count is {self.count}, expected 1 or more defects; {COUNT} are usual")
        if self.seed < 0:
            raise PadimEdgeError(f"the seed is {self.seed}, expected 0 or more")


def conclude(
    judged: Judged, metadata: Metadata, seed: int, *, how: str = HELD_OUT, notes: Sequence[str] = (), scale: float = 1.0
) -> Rehearsal:
    """Turn judged images into the outcome of a rehearsal, and choose the defects that a report shows.

    Args:
        judged: Scores of good images with and without drawn defects, in units of the model's own.
        metadata: Metadata of the model.
        seed: Random seed of the defects.
        how: Origin of the good images, in words.
        notes: Remarks, one sentence each.
        scale: Factor by which the scores were divided.

    Raises:
        PadimEdgeError: No defect could be drawn.
    """
    if not judged.crops:
        raise PadimEdgeError(
            "no defect could be drawn on the good images, expected some room on the part; check the region of interest "
            "and the images"
        )
    found = Rehearsal(
        metadata, judged.good, judged.trials, seed, how, mean=judged.mean, notes=tuple(notes), scale=scale
    )
    counted = set(map(id, found.counted))
    crops = [each for each in judged.crops if id(each.trial) in counted]
    return replace(found, examples=chosen_examples(crops, metadata.threshold, found.chart))
