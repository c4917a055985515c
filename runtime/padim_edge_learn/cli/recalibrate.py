"""The command `recalibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_runtime.cli.options import (
    DECISION,
    DeviceOption,
    JsonOption,
    ModelArgument,
    print_json,
    tell_extrapolated,
    warn,
)

__all__ = ["recalibrate"]


def recalibrate(
    model: ModelArgument,
    good: Annotated[
        list[Path],
        typer.Argument(metavar="GOOD_FOLDER...", help="Good images that the model was not fitted on."),
    ],
    false_alarm_rate: Annotated[
        float,
        typer.Option(
            help="Share of good images that may raise an alarm; sets the threshold.", rich_help_panel=DECISION
        ),
    ] = 0.01,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Set a new threshold from good images that the model was not fitted on. Nothing else in the file changes."""
    from padim_edge_artifact.container import read_metadata
    from padim_edge_learn.recalibrate import recalibrate as run
    from padim_edge_runtime import image_search, progress

    before = read_metadata(model).threshold
    files = image_search.good_files(good, warn)
    with progress.bar("judging", len(files)) as advance:
        after, unreadable = run(
            model, files, false_alarm_rate=false_alarm_rate, device=device, progress=advance, tell=warn
        )
    for sentence in unreadable:
        warn(f"left out: {sentence}")
    tell_extrapolated(after)
    if as_json:
        print_json(
            {
                "model": str(model),
                "images": after.calibration.images,
                "false_alarm_rate": after.false_alarm_rate,
                "extrapolated": after.extrapolated,
                "threshold_before": before,
                "threshold": after.threshold,
            }
        )
        return
    typer.echo(f"{model}: threshold {after.threshold:.2f}, before {before:.2f}; {after.calibration.images} images")
