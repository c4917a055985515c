"""The command `promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_line.cli.options import LineArgument, line_config, needs_extra

__all__ = ["promote"]


def promote(
    line: LineArgument,
    product: Annotated[
        str | None, typer.Argument(metavar="[PRODUCT]", help="The product; not needed where the line has only one.")
    ] = None,
    proposal: Annotated[
        str | None,
        typer.Argument(metavar="[PROPOSAL]", help="Name of the proposal's folder. By default the latest one."),
    ] = None,
) -> None:
    """Give a product the model that padim-edge propose has made. A running line takes it between two images."""
    config = line_config(line)
    with needs_extra():
        from padim_edge_line.learning.current import product_of
        from padim_edge_line.learning.promote import promote as run

        typer.echo(str(run(config, product_of(config, product), proposal)))
