"""The command `verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import DEVICE, JsonOption, ModelArgument, any_case, devices, print_json, warn

__all__ = ["verify"]


def verify(
    model: ModelArgument,
    device: Annotated[
        str | None,
        typer.Option(
            help="Try this device only. By default each usable one.", rich_help_panel=DEVICE, **any_case(devices)
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model on this machine: every byte, the contract, and its self-test on each device."""
    from padim_edge_runtime.verify import verify as run

    found = list(run(model, device, tell=warn))
    if as_json:
        print_json({"model": str(model), "devices": {each.device: each.to_json() for each in found}})
    else:
        for each in found:
            typer.echo(str(each))
    if any(each.passed is False for each in found):
        raise PadimEdgeError("the model answers differently here than where it was made; see the lines above")
