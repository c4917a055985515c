"""Options and printing that `recalibrate` and `update` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_runtime.cli.options import INPUT, warn

if TYPE_CHECKING:
    from padim_edge_learn.intake import SetAside

__all__ = ["TakeOption", "tell_set_aside"]

_SHOWN = 10
"""Number of images that are named for each reason."""

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
