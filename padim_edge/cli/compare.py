"""The command `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge.cli import options as o
from padim_edge_runtime.cli.options import DEVICE, INPUT, DeviceOption, JsonOption, end_with, print_json, warn

__all__ = ["compare"]


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference, for example the model in fp32.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The model to measure against it, for example in int8.")],
    data: o.DataOption = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Class of the images. By default the models' own.", rich_help_panel=INPUT),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Number of timed calls of each model; they take turns.", rich_help_panel=DEVICE),
    ] = 30,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; one per core unless given.", rich_help_panel=DEVICE)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what model B costs against model A: scores, maps, metrics, size, time and memory, side by side."""
    from padim_edge.evaluation.compare import Timing, compare_files
    from padim_edge_runtime.progress import Feedback, bar

    comparison = compare_files((a, b), data, class_name, Timing(device, threads, rounds), Feedback(bar, warn))
    for sentence in comparison.warnings:
        warn(sentence)
    if as_json:
        print_json(comparison.to_json())
    else:
        typer.echo(str(comparison))
    end_with(comparison.differences.unreadable)
