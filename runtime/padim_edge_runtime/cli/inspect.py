"""The command `inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import (
    OUTPUT,
    JsonOption,
    ModelArgument,
    ProductOption,
    VerboseOption,
    print_json,
    print_trtexec,
    warn,
)

__all__ = ["inspect"]


def inspect(
    model: ModelArgument,
    product: ProductOption = None,
    trtexec: Annotated[
        int | None,
        typer.Option(
            metavar="BATCH", help="Print the calls of trtexec that build an engine instead.", rich_help_panel=OUTPUT
        ),
    ] = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Describe a model: class, backbone, preprocessing, images, threshold, licence, and where it runs.

    For a bundle without --product, its products are listed.
    """
    from padim_edge_artifact.bundle import is_bundle, open_bundle
    from padim_edge_artifact.container import read_metadata
    from padim_edge_runtime.bundles import bundle_lines, bundle_table
    from padim_edge_runtime.describe import describe, to_json
    from padim_edge_runtime.devices.here import runs_here
    from padim_edge_runtime.devices.trtexec import calls

    if product is None and trtexec is None and is_bundle(model):
        found = bundle_table(open_bundle(model))
        if as_json:
            print_json(found)
        else:
            for line in bundle_lines(found):
                typer.echo(line)
        return
    metadata = read_metadata(model, product)
    if trtexec is not None:
        if verbose:
            raise PadimEdgeError("--trtexec prints the calls only; leave --verbose out")
        if as_json:
            print_json({"trtexec": calls(model, metadata, trtexec)})
        else:
            print_trtexec(model, metadata, trtexec)
        return
    here = runs_here(model, metadata, product)
    if as_json:
        print_json(to_json(metadata, here))
        return
    for name, value in describe(model, metadata, here).items():
        typer.echo(f"{name:>17}  {value}")
    for reason in here.refused if verbose else ():
        warn(reason)
