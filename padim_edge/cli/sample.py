"""The command `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sample"]


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; each class gets one inside.")],
    class_name: Annotated[str, typer.Option("--class", help="bottle (an object) or weave (a texture).")] = "bottle",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the sample.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 320,
) -> None:
    """Write the built-in sample images to disk, in MVTec AD's layout."""
    from padim_edge.sample import images, write

    count = write(images(class_name, seed=seed, size=size), folder)
    typer.echo(f"{folder / class_name}: {count} images")
