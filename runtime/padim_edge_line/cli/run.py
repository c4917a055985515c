"""The command `run`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_line.cli.options import LineArgument, LogJsonOption, line_config, needs_extra, start
from padim_edge_runtime.cli.options import OUTPUT

__all__ = ["run"]


def run(
    line: LineArgument,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the file, load every model and try every connection.")
    ] = False,
    log_json: LogJsonOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Judge images for months: sources, models and sinks as a file says, with a page and a durable record.

    It ends within two seconds after Ctrl-C or SIGTERM.
    """
    if not check:
        start(lambda: line_config(line), log_json=log_json, verbose=verbose)
        return
    config = line_config(line)
    with needs_extra():
        from padim_edge_line.checks import checks

        failed = False
        for each in checks(config):
            failed |= not each.passed
            typer.echo(f"{'ok    ' if each.passed else 'FAILED'}  {each.what}: {each.sentence}")
    raise typer.Exit(int(failed))
