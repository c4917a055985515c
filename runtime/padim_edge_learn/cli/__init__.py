"""The commands that change what a model knows, and `package`, which hands it to a server; one file each."""

from __future__ import annotations

import typer

from padim_edge_runtime.cli.options import MODELS

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands; called through the entry point."""
    from padim_edge_learn.cli.package import package
    from padim_edge_learn.cli.recalibrate import recalibrate
    from padim_edge_learn.cli.threshold import threshold
    from padim_edge_learn.cli.update import update

    for command in (recalibrate, threshold, update, package):
        app.command(rich_help_panel=MODELS)(command)
