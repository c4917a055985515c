"""The command `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_runtime.cli.options import OUTPUT, JsonOption, print_json

__all__ = ["merge"]


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE FILE...", help="Statistics of different images.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="File for the merged statistics.", rich_help_panel=OUTPUT)
    ],
    as_json: JsonOption = False,
) -> None:
    """Merge statistics that were fitted apart; the result is that of one fit on all images."""
    from padim_edge_learn.merge import merge_files

    total = merge_files(files, output)
    if as_json:
        print_json({"statistics": str(output), "bytes": output.stat().st_size, "images": total.statistics.count})
    else:
        typer.echo(f"{output}: {total.statistics.count} good images from {len(files)} files")
