"""The command `plant`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import INPUT, JsonOption, end_with, print_json, warn

__all__ = ["plant"]

_DEFECTS = "Defects"
"""Panel of options in `--help`."""


def plant(
    images: Annotated[
        Path, typer.Argument(metavar="GOOD_IMAGES", help="Folder of good images, or any data set; see --data of fit.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; new or empty.")],
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the images, where there are several.", rich_help_panel=INPUT)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of defects.", rich_help_panel=_DEFECTS)] = 120,
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="a,b", help="Kinds of defect, such as scratch,stain. By default all.", rich_help_panel=_DEFECTS
        ),
    ] = None,
    extent: Annotated[
        str,
        typer.Option(metavar="LOW:HIGH", help="Sizes as shares of the image's shorter side.", rich_help_panel=_DEFECTS),
    ] = "0.01:0.3",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the defects.", rich_help_panel=_DEFECTS)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Plant defects of known size and contrast in good images, and write a data set in MVTec AD's layout."""
    from padim_edge.planting import KINDS
    from padim_edge.planting.folder import Order, write
    from padim_edge_runtime.progress import Feedback, bar

    try:
        low, high = (float(value) for value in extent.split(":"))
    except ValueError:
        raise PadimEdgeError(
            f"--extent {extent!r} is no pair of shares, expected the smallest and the largest; write it like 0.02:0.1"
        ) from None
    chosen = KINDS if kinds is None else tuple(dict.fromkeys(name.strip().lower() for name in kinds.split(",")))
    dataset = o.open_dataset(images, class_name)
    written = write(dataset, folder, Order(count, seed, chosen, (low, high)), Feedback(bar, warn))
    o.report_unreadable(written.unreadable)
    if as_json:
        print_json(written.to_json())
    else:
        typer.echo(str(written))
    end_with(written.unreadable)
