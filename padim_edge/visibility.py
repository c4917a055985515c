"""Rehearsal of a model that was just written: the line at the end of an export."""

from __future__ import annotations

from padim_edge.frames import numbered_frames
from padim_edge.model import Model
from padim_edge.rehearsal.folds import LEFT_OUT, Made, rehearse_left_out, rescaled
from padim_edge.rehearsal.outcome import RehearsalOptions, conclude
from padim_edge.rehearsal.result import Rehearsal
from padim_edge_learn.assemble import options_of
from padim_edge_learn.held_out import GoodImages
from padim_edge_runtime.progress import Report, none

__all__ = ["PLANTS", "visibility"]

PLANTS = 180
"""Number of defects that the line of an export rests on: half of those of `rehearse`."""


def visibility(model: Model, *, device: str = "cpu", report: Report = none) -> Rehearsal:
    """Draw defects on the good images of a model, and let models of the others judge them.

    Where Gaussians and memory were weighed, the defects that both have judged then are taken.

    Args:
        model: Outcome of an export, whose images can still be read.
        device: Device that judges the images.
        report: Progress bar.

    Raises:
        PadimEdgeError: There are too few images to leave any out, or no defect could be drawn.
    """
    metadata = model.metadata
    if model.compared is not None and metadata.combination is not None and model.compared.drawn:
        judged, scale = rescaled(model.compared.scored(metadata.combination), metadata)
        return conclude(judged, metadata, 0, how=LEFT_OUT, scale=scale)
    items = model.good.items
    made = Made(
        model.kept,
        GoodImages(numbered_frames(items, metadata.preprocessing, {}), len(items)),
        options_of(metadata),
        tuple(item.name for item in items),
    )
    return rehearse_left_out(made, metadata, RehearsalOptions(PLANTS), device=device, report=report)
