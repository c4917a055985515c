"""The command `verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import (
    DEVICE,
    JsonOption,
    ModelArgument,
    ProductOption,
    any_case,
    devices,
    print_json,
    warn,
)

__all__ = ["verify"]


def verify(
    model: ModelArgument,
    product: ProductOption = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Try this device only. By default each usable one.", rich_help_panel=DEVICE, **any_case(devices)
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model on this machine: every byte, the contract, and its self-test on each device.

    For a bundle without --product, each of its products is checked.
    """
    from padim_edge_artifact.bundle import is_bundle, open_bundle
    from padim_edge_runtime.verify import verify as run

    several = is_bundle(model) and product is None
    products = list(open_bundle(model).members) if several else [product]
    found = {name: list(run(model, device, tell=warn, product=name)) for name in products}
    if as_json:
        devices = {name: {each.device: each.to_json() for each in some} for name, some in found.items()}
        told = {"products": devices} if several else {"devices": devices[product]}
        print_json({"model": str(model), **told})
    else:
        for name, some in found.items():
            for each in some:
                typer.echo(f"{name}: {each}" if several else str(each))
    if any(each.passed is False for some in found.values() for each in some):
        raise PadimEdgeError("the model answers differently here than where it was made; see the lines above")
