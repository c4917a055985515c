"""The command `update`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_learn.cli.options import GoodArgument, TakeOption, tell_set_aside
from padim_edge_runtime.cli.options import (
    DECISION,
    INPUT,
    OUTPUT,
    FitDeviceOption,
    JsonOption,
    ModelArgument,
    end_with,
    print_json,
    tell_worth,
    warn,
)

__all__ = ["update"]

_EXTRA = ("onnx", "threadpoolctl")
"""Packages of the extra `padim-edge-runtime[update]`."""


def update(
    model: ModelArgument,
    good: GoodArgument,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Statistics that export --keep-statistics wrote. By default <model>.npz.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images that may raise an alarm. By default as before.", rich_help_panel=DECISION
        ),
    ] = None,
    take: TakeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="New model. By default <model>-r2.onnx and so on.", rich_help_panel=OUTPUT),
    ] = None,
    device: FitDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Let a model learn from more good images. It needs the kept statistics, but neither the old images nor torch."""
    from padim_edge_runtime import image_search, progress

    try:
        from padim_edge_learn.intake import NothingTakenError
        from padim_edge_learn.update import update as run
        from padim_edge_learn.update import update_files
    except ImportError as error:
        raise PadimEdgeError(_what_to_install(error)) from error
    files = update_files(model, statistics, output)
    images = image_search.good_files(good, warn)
    try:
        made = run(
            files, images, false_alarm_rate=false_alarm_rate, take=take or (), device=device, report=progress.bar
        )
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
    end_with(made.unreadable)


def _what_to_install(error: ImportError) -> str:
    """Name the extra that update needs, with all that is missing of it."""
    missing = " and ".join(name for name in _EXTRA if find_spec(name) is None)
    if missing:
        return (
            f"update writes a new model and needs {missing}, which the extra update brings; run pip install "
            "'padim-edge-runtime[update]'"
        )
    return f"update cannot start ({error}); run pip install --force-reinstall 'padim-edge-runtime[update]'"
