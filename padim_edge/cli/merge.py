"""The command `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import OUTPUT, JsonOption, print_json

__all__ = ["merge"]


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE FILE...", help="Statistics of different images.")],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File for the merged statistics. By default <first file>-merged.npz beside it.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge statistics that were fitted apart; the result is that of one fit on all images."""
    from padim_edge_artifact.files import require_folder
    from padim_edge_learn.merge import merge_files

    if output is None:
        output = files[0].with_name(f"{files[0].stem}-merged.npz")
        if output.resolve() in {path.resolve() for path in files}:
            raise PadimEdgeError(f"{output} is one of the files to merge; name another file with --output")
    require_folder(output)
    total = merge_files(files, output)
    if as_json:
        print_json({"statistics": str(output), "bytes": output.stat().st_size, "images": total.statistics.count})
    else:
        typer.echo(f"{output}: {total.statistics.count} good images from {len(files)} files")
