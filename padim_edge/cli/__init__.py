"""The workstation's commands, one file each. Torch and the like load inside the commands."""

from __future__ import annotations

import typer

from padim_edge_runtime.cli.options import WORKSTATION

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the toolkit's commands; called through the entry point."""
    from padim_edge.cli.compare import compare
    from padim_edge.cli.evaluate import evaluate
    from padim_edge.cli.export import export
    from padim_edge.cli.fit import fit
    from padim_edge.cli.import_ import import_
    from padim_edge.cli.merge import merge
    from padim_edge.cli.plant import plant
    from padim_edge.cli.rehearse import rehearse
    from padim_edge.cli.sample import sample

    for command in (export, fit, merge, evaluate, rehearse, compare, plant, sample):
        app.command(rich_help_panel=WORKSTATION)(command)
    app.command("import", rich_help_panel=WORKSTATION)(import_)
