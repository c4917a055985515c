"""The command `recalibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_learn.cli.options import CopyOption, GoodArgument, TakeOption, tell_set_aside
from padim_edge_runtime.cli.options import (
    DECISION,
    DeviceOption,
    JsonOption,
    ModelArgument,
    end_with,
    print_json,
    tell_worth,
    warn,
)

__all__ = ["recalibrate"]


def recalibrate(
    model: ModelArgument,
    good: GoodArgument,
    false_alarm_rate: Annotated[
        float,
        typer.Option(
            help="Share of good images that may raise an alarm; sets the threshold.", rich_help_panel=DECISION
        ),
    ] = 0.01,
    take: TakeOption = None,
    output: CopyOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Set a new threshold from good images that the model was not fitted on. Nothing else in the file changes."""
    from padim_edge_learn.intake import NothingTakenError
    from padim_edge_learn.recalibrate import HeldOutChoice
    from padim_edge_learn.recalibrate import recalibrate as run
    from padim_edge_runtime import image_search, progress

    choice = HeldOutChoice(false_alarm_rate=false_alarm_rate, take=take or (), output=output)
    files = image_search.good_files(good, warn)
    try:
        with progress.bar("judging", len(files)) as advance:
            made = run(model, files, choice, device=device, progress=advance, tell=warn)
    except NothingTakenError as error:
        tell_set_aside(error.set_aside)
        raise
    for sentence in made.unreadable:
        warn(f"left out: {sentence}")
    tell_set_aside(made.set_aside)
    tell_worth(made.metadata)
    if as_json:
        print_json(made.to_json())
    else:
        typer.echo(str(made))
        if output is None and made.metadata.history:
            typer.echo(f"  The way back: padim-edge threshold {model} --previous")
    end_with(made.unreadable)
