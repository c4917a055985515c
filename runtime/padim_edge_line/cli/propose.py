"""The command `propose`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.cli.options import LineArgument, line_config
from padim_edge_runtime.cli.options import DECISION, FitDeviceOption, JsonOption, print_json
from padim_edge_runtime.terminal_text import visible

__all__ = ["propose"]

_EXTRA = ("onnx", "threadpoolctl")
"""Packages of the extra `padim-edge-runtime[update]`."""

ProductArgument = Annotated[
    str | None, typer.Argument(metavar="[PRODUCT]", help="The product; not needed where the line has only one.")
]


def propose(
    line: LineArgument,
    product: ProductArgument = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images that may raise an alarm. By default as before.", rich_help_panel=DECISION
        ),
    ] = None,
    device: FitDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Make a better model of the images that persons have marked, beside the one that runs.

    Nothing changes on the line until padim-edge promote. The table shows old against new; its false alarms are counted
    on images that were not learned from.
    """
    missing = " and ".join(name for name in _EXTRA if find_spec(name) is None)
    if missing:
        raise PadimEdgeError(
            f"propose writes a new model and needs {missing}, which the extra update brings; run pip install "
            "'padim-edge-runtime[line,update]'"
        )
    config = line_config(line)
    from padim_edge_line.learning.current import product_of
    from padim_edge_line.learning.propose import propose as run
    from padim_edge_runtime import progress

    chosen = product_of(config, product)
    found = run(config, chosen, false_alarm_rate=false_alarm_rate, device=device, report=progress.bar)
    if as_json:
        print_json(found.to_json())
        return
    typer.echo(visible(found.table()))
    typer.echo(f"\nnext: padim-edge promote {visible(str(line))} {found.product}, and padim-edge rollback to go back")
