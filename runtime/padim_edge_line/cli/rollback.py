"""The command `rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_line.cli.options import LineArgument, line_config, needs_extra

__all__ = ["rollback"]


def rollback(
    line: LineArgument,
    product: Annotated[
        str | None, typer.Argument(metavar="[PRODUCT]", help="The product; not needed where the line has only one.")
    ] = None,
) -> None:
    """Give a product the model that it had before the last padim-edge promote, step by step."""
    config = line_config(line)
    with needs_extra():
        from padim_edge_line.learning.current import product_of
        from padim_edge_line.learning.promote import rollback as run

        typer.echo(str(run(config, product_of(config, product))))
