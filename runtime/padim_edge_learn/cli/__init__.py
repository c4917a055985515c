"""The commands that change what a model knows, one file each: `recalibrate`, `threshold` and `update`."""

from __future__ import annotations

import typer

from padim_edge_runtime.cli.options import MODELS

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands; called through the entry point."""
    from padim_edge_learn.cli.recalibrate import recalibrate
    from padim_edge_learn.cli.threshold import threshold
    from padim_edge_learn.cli.update import update

    for command in (recalibrate, threshold, update):
        app.command(rich_help_panel=MODELS)(command)
