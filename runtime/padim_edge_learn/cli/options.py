"""Options and printing that the commands which change a model share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_runtime.cli.options import INPUT, OUTPUT, warn

if TYPE_CHECKING:
    from padim_edge_learn.intake import SetAside

__all__ = ["CopyOption", "GoodArgument", "TakeOption", "tell_set_aside"]

_SHOWN = 10
"""Number of images that are named for each reason."""

GoodArgument = Annotated[
    list[Path], typer.Argument(metavar="GOOD_FOLDER...", help="Good images that the model was not fitted on.")
]

CopyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write a copy of the model with it, and leave the model alone.", rich_help_panel=OUTPUT
    ),
]

TakeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REASON",
        help="Take images that would be set aside: fitted, not-comparable, anomalous or repeated, several with commas, "
        "or all. Look at the images first.",
        rich_help_panel=INPUT,
    ),
]


def tell_set_aside(set_aside: Sequence[SetAside]) -> None:
    """Name the images that were set aside on stderr, with their reasons."""
    by_reason: dict[str, list[SetAside]] = {}
    for each in set_aside:
        by_reason.setdefault(each.reason, []).append(each)
    for reason, images in by_reason.items():
        for each in images[:_SHOWN]:
            warn(f"set aside: {each}")
        if len(images) > _SHOWN:
            warn(f"set aside: {len(images) - _SHOWN} more that are {reason}")
