"""The command `bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import OUTPUT

__all__ = ["bundle"]


def bundle(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]MODEL...", help="Models. The product's name is that of the file, if none is given."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="New bundle.", rich_help_panel=OUTPUT)
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Bundle to put the models into. Products of the same name are replaced, the others stay as they are.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --into: leave this product out.", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Put many models into one file with one digest; constants that they share are stored once."""
    from padim_edge_artifact.bundle import open_bundle
    from padim_edge_artifact.bundling import Source, write
    from padim_edge_artifact.files import refuse_inputs
    from padim_edge_runtime.bundles import bundle_lines, bundle_table

    if (output is None) == (into is None):
        raise PadimEdgeError("give either --output for a new bundle, or --into for one that is there")
    if drop and into is None:
        raise PadimEdgeError("--drop leaves products out of a bundle that is there; name it with --into")
    sources: dict[str, Source] = {}
    if into is not None:
        sources = {name: Source(into, name) for name in open_bundle(into).members}
    for name in drop or ():
        if sources.pop(name, None) is None:
            raise PadimEdgeError(f"--drop names {name!r}, expected one of {', '.join(sources)}")
    given: set[str] = set()
    for text in models or ():
        name, equals, path = text.partition("=")
        model = Path(path if equals else text)
        name = name if equals else model.stem
        if name in given:
            raise PadimEdgeError(f"two models are called {name}; give one another name, as in other={model}")
        given.add(name)
        sources[name] = Source(model)
    if output is not None:
        refuse_inputs([output], [source.path for source in sources.values()])
    for line in bundle_lines(bundle_table(write(output or into or Path(), sources))):
        typer.echo(line)
