"""The command `unbundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_runtime.cli.options import INPUT, OUTPUT

__all__ = ["unbundle"]


def unbundle(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A file made by padim-edge bundle.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for the models.", rich_help_panel=OUTPUT)
    ],
    product: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this product; may be given several times.", rich_help_panel=INPUT),
    ] = None,
) -> None:
    """Take models out of a bundle, byte by byte as they were."""
    from padim_edge_artifact.bundle import open_bundle
    from padim_edge_artifact.bundling import extract
    from padim_edge_artifact.files import make_folder

    found = open_bundle(source)
    names = product or list(found.members)
    for name in names:
        found.member(name)
    make_folder(output)
    for name in names:
        typer.echo(str(extract(found, name, output / f"{name}.onnx")))
