"""Rehearsal without new images: models of parts of the good images judge the others.

Such a model knows fewer images, so it scores all images a little higher. Its scores are divided by the ratio of the
medians of good images, so that they can be compared with the threshold of the model that ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.rehearsal.outcome import RehearsalOptions, conclude
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import Crop, Good, Judged, Planting, Score, judge, per_image
from padim_edge.rehearsal.where import on_part, shrink_of
from padim_edge_artifact import Metadata, PadimEdgeError, names
from padim_edge_artifact.kept import Kept
from padim_edge_learn.assemble import ModelOptions
from padim_edge_learn.held_out import GoodImages
from padim_edge_learn.left_out import left_out
from padim_edge_runtime.channel_order import feed
from padim_edge_runtime.progress import Report, none

__all__ = ["LEFT_OUT", "Made", "rehearse_left_out", "rescaled"]

LEFT_OUT = "good images, each judged by a model of the others"
"""Origin of the good images, in words."""

_MOST = 240
"""Largest number of images that are left out, all models together."""
_FEWEST = 3
"""Number of images below which no third can be left out."""

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Made:
    """Statistics, images and options behind a model."""

    kept: Kept
    """Statistics of the good images."""
    images: GoodImages
    """The good images that were fitted on, in the same order."""
    options: ModelOptions
    """Options of the model."""
    paths: tuple[str, ...]
    """Name of each image."""


def rehearse_left_out(
    made: Made, metadata: Metadata, options: RehearsalOptions, *, device: str = "cpu", report: Report = none
) -> Rehearsal:
    """Leave parts of the good images out of a model, draw defects on them, and judge them by the model of the others.

    Args:
        made: Statistics, images and options that the model was made of.
        metadata: Metadata of the model that ships; its threshold counts.
        options: Number of defects, and seed.
        device: Device that judges the images.
        report: Progress bar.

    Raises:
        PadimEdgeError: There are too few images to leave any out, or no defect could be drawn.
    """
    count = made.images.count
    if count < _FEWEST:
        raise PadimEdgeError(_too_few(count))
    most = min(_MOST, options.count)  # each image that comes back gains a defect
    each = per_image(min(count, most), options.count)[1]
    part = on_part(made.images, made.options.inspected, metadata.input_size)
    found: list[Judged] = []
    with report("rehearsing", min(count, most) * (1 + each)) as advance:
        for fold in left_out(made.kept, made.images, made.options, device=device, most=most):
            frames = _named(made, fold.numbers)
            chosen = frozenset(fold.numbers)
            planting = Planting(chosen, each, options.seed, part, shrink_of(metadata.preprocessing))
            found.append(judge(_score_of(fold.session), frames, planting, advance))
    if not found:
        raise PadimEdgeError(
            f"none of the {count} good images can be left out, expected 6 or more without repeats all over the list; "
            "take more good images"
        )
    both, scale = rescaled(found, metadata)
    return conclude(both, metadata, options.seed, how=LEFT_OUT, scale=scale)


def _too_few(count: int) -> str:
    return f"{count} good images are too few to leave any out, expected 6 or more; take more good images"


def _named(made: Made, numbers: Sequence[int]) -> Iterator[tuple[int, str, Frame]]:
    for number, frame in made.images.read(numbers):
        yield number, made.paths[number], frame


def _score_of(session: Any) -> Score:
    """Return the function that judges frames with an onnxruntime session of a fused graph."""

    def score(frames: Frame) -> npt.NDArray[np.float64]:
        (found,) = session.run([names.SCORE], feed(session, frames))
        return np.asarray(found, np.float64)

    return score


def rescaled(found: Sequence[Judged], metadata: Metadata) -> tuple[Judged, float]:
    """Join what several models judged, with scores in units of the model that ships.

    Returns:
        All of it, and the factor by which the scores were divided: the median score of the good images over that of the
        calibration, 1 or more.
    """
    good = [each for judged in found for each in judged.good]
    usual = float(np.median(metadata.calibration.scores))
    scale = max(1.0, float(np.median([each.score for each in good])) / usual) if usual > 0 else 1.0
    total = sum(len(judged.good) for judged in found)
    mean = np.sum([judged.mean * (len(judged.good) / total) for judged in found], axis=0)
    crops = [each for judged in found for each in judged.crops]
    return (
        Judged(tuple(_scaled_good(each, scale) for each in good), tuple(_scaled(each, scale) for each in crops), mean),
        scale,
    )


def _scaled_good(each: Good, scale: float) -> Good:
    return replace(each, score=each.score / scale)


def _scaled(each: Crop, scale: float) -> Crop:
    trial = each.trial
    before = None if trial.before is None else trial.before / scale
    return replace(each, trial=replace(trial, score=trial.score / scale, before=before))
