"""The commands of a line, one file each."""

from __future__ import annotations

import typer

from padim_edge_runtime.cli.options import LINE

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands; called through the entry point."""
    from padim_edge_line.cli.log import log
    from padim_edge_line.cli.promote import promote
    from padim_edge_line.cli.propose import propose
    from padim_edge_line.cli.rollback import rollback
    from padim_edge_line.cli.run import run
    from padim_edge_line.cli.serve import serve
    from padim_edge_line.cli.watch import watch

    for command in (run, watch, serve, log, propose, promote, rollback):
        app.command(rich_help_panel=LINE)(command)
