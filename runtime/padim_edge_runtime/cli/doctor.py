"""The command `doctor`."""

from __future__ import annotations

import typer

from padim_edge_runtime.cli.options import JsonOption, print_json

__all__ = ["doctor"]


def doctor(as_json: JsonOption = False) -> None:
    """Examine this machine: onnxruntime, the devices that really work, their libraries, memory. Says what to cure."""
    from padim_edge_runtime.doctor import examine

    report = examine()
    if as_json:
        print_json(report.to_json())
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.healthy else 1)
