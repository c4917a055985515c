"""The command `threshold`."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_learn.cli.options import CopyOption
from padim_edge_runtime.cli.options import (
    DECISION,
    INPUT,
    DeviceOption,
    JsonOption,
    ModelArgument,
    print_json,
    warn,
)

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata

__all__ = ["LABELLED_IMAGES", "threshold"]

LABELLED_IMAGES = "padim_edge.best_f1"
"""Group of entry points for `--best-f1`. The function reads labelled images, which the device's packages cannot.

It is called with the model, the data, and `class_name=`, `device=` and `tell=`, and returns the threshold and the words
for its source.
"""


def threshold(
    model: ModelArgument,
    value: Annotated[float | None, typer.Argument(metavar="[THRESHOLD]", help="New threshold, such as 17.5.")] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Take the threshold that lets this share of good images raise an alarm, such as 0.02, from the "
            "model's own calibration scores.",
            rich_help_panel=DECISION,
        ),
    ] = None,
    best_f1: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Take the threshold with the best F1 score on labelled images, as evaluate reads them.",
            rich_help_panel=DECISION,
        ),
    ] = None,
    previous: Annotated[
        bool,
        typer.Option(
            "--previous",
            help="Take the threshold that the model had before; a second time, the one before that.",
            rich_help_panel=DECISION,
        ),
    ] = False,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Class of the labelled images. By default the model's.", rich_help_panel=INPUT),
    ] = None,
    output: CopyOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show the threshold of a model and where it comes from, or store another one. Nothing else in the file changes."""
    from padim_edge_artifact.container import read_metadata
    from padim_edge_learn import set_threshold as choice

    given = [value, false_alarm_rate, best_f1, previous or None]
    if sum(each is not None for each in given) > 1:
        raise PadimEdgeError(
            "two thresholds are asked for; give one of a number, --false-alarm-rate, --best-f1 and --previous"
        )
    if class_name is not None and best_f1 is None:
        raise PadimEdgeError("--class names the labelled images of --best-f1; leave it out, or give --best-f1 too")
    before = read_metadata(model)
    if all(each is None for each in given):
        if output is not None:
            raise PadimEdgeError("--output is given, but no new threshold; give a number or --false-alarm-rate, too")
        if as_json:
            print_json({"model": str(model), **choice.to_json(before)})
        else:
            first, *others = choice.shown(before)
            typer.echo("\n".join([f"{model}: {first}", *(f"  {line}" for line in others)]))
        return
    if value is not None:
        after = choice.by_hand(before, value)
    elif false_alarm_rate is not None:
        after = choice.at_rate(before, false_alarm_rate)
    elif best_f1 is not None:
        after = choice.by_hand(before, *_best_f1(model, best_f1, class_name, device))
    else:
        after = choice.previous(before)
    _tell(model, output, before, choice.store(model, after, output), as_json=as_json)


def _best_f1(model: Path, data: Path, class_name: str | None, device: str) -> tuple[float, str]:
    """Ask the toolkit for the threshold with the best F1 score, and for the words for its source.

    Raises:
        PadimEdgeError: The toolkit is not installed, or the images do not do.
    """
    for entry in entry_points(group=LABELLED_IMAGES):
        value, rule = entry.load()(model, data, class_name=class_name, device=device, tell=warn)
        return float(value), str(rule)
    raise PadimEdgeError(
        "--best-f1 reads labelled images, which needs padim-edge beside padim-edge-runtime; install padim-edge, or run "
        "this where the model was made and copy the model again"
    )


def _tell(model: Path, output: Path | None, before: Metadata, after: Metadata, *, as_json: bool) -> None:
    """Print what was stored, and how to take it back."""
    from padim_edge_learn import set_threshold as choice
    from padim_edge_runtime.worth import worth

    file = model if output is None else output
    if as_json:
        print_json({"model": str(file), "threshold_before": before.threshold, **choice.to_json(after)})
        return
    if output is None and after == before:
        typer.echo(f"{file}: the threshold was {choice.number(after.threshold)} already; nothing was changed")
        return
    old, new = choice.number(before.threshold), choice.number(after.threshold)
    typer.echo(f"{file}: threshold {new}, before {old}; {after.threshold_rule}")
    typer.echo(f"  {worth(after)}")
    if output is None and after.history:
        typer.echo(f"  The way back: padim-edge threshold {model} --previous")
