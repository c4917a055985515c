"""The command `card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_runtime.cli.options import INPUT, OUTPUT, ModelArgument, ProductOption

__all__ = ["card"]


def card(
    model: ModelArgument,
    product: ProductOption = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Output of `evaluate --json` for this model.", rich_help_panel=INPUT),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the card there, instead of to stdout.", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Write a model card: what it is, its data, numbers, limits and licence, and how to run it."""
    from padim_edge_artifact.container import read_metadata
    from padim_edge_artifact.files import refuse_inputs, replacing
    from padim_edge_runtime.card import Called
    from padim_edge_runtime.card import card as write
    from padim_edge_runtime.card_numbers import read_numbers

    if output is not None:
        refuse_inputs([output], [model, *([] if evaluation is None else [evaluation])])
    metadata = read_metadata(model, product)
    numbers = None if evaluation is None else read_numbers(evaluation, metadata)
    text = write(metadata, Called(file=model.name, product=product), numbers)
    if output is None:
        typer.echo(text, nl=False)
        return
    with replacing(output) as place:
        place.write_text(text, encoding="utf-8")
