"""The command `rehearse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge.cli import method_options as m
from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import refuse_inputs, require_folder
from padim_edge_runtime.cli.options import INPUT, DeviceOption, JsonOption, ModelArgument, end_with, print_json, warn

__all__ = ["rehearse"]


def rehearse(
    model: ModelArgument,
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="GOOD_IMAGES", help="Good images that the model was not fitted on: a folder, data set or list."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Instead of GOOD_IMAGES: the images that the model was fitted on. Its method is fitted again; each "
            "third is left out once, and judged by the others.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    defects: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real defects with masks, to compare the chart with.", rich_help_panel=INPUT),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the drawn defects.", rich_help_panel=INPUT)] = 0,
    count: Annotated[
        int,
        typer.Option(min=1, help="Least number of defects to draw; each image gains as many.", rich_help_panel=INPUT),
    ] = 360,
    weights: m.WeightsOption = "auto",
    report: o.ReportOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draw defects on good images and tell how visible a defect must be for the model to find it."""
    if (images is None) == (data is None):
        raise PadimEdgeError(
            f"{'neither' if images is None else 'both'} of GOOD_IMAGES and --data given, expected one of them: "
            "GOOD_IMAGES that the model was not fitted on, or --data with those that it was"
        )
    if report is not None:
        require_folder(report)
        refuse_inputs([report], [model, *(path for path in (images, data, defects) if path is not None)])
    from padim_edge.rehearsal.rehearse import RehearsalOptions
    from padim_edge.rehearsal.rehearse import rehearse as run
    from padim_edge_runtime.progress import Feedback, bar

    options = RehearsalOptions(count, seed, device, weights)
    found = run(model, images, data=data, defects=defects, options=options, progress=Feedback(bar, warn))
    for sentence in found.notes:
        warn(sentence)
    if report is not None:
        found.report(report)
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(str(found))
    end_with(found.unreadable)
