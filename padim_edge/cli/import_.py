"""The command `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import (
    DECISION,
    INPUT,
    OUTPUT,
    FitDeviceOption,
    JsonOption,
    end_with,
    print_json,
    tell_worth,
    warn,
)

if TYPE_CHECKING:
    from padim_edge.datasets import Item

__all__ = ["import_"]

_KINDS = ("anomalib",)


def import_(
    kind: Annotated[str, typer.Argument(metavar="anomalib", help="Program that made the file.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its checkpoint (.ckpt), or an ONNX model of it.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Name of the model. By default <class>.onnx, or <file>.onnx in the working folder.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    class_name: o.ClassOption = None,
    good: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Set the threshold from these good images: all that it was fitted on, or only others. By default the "
            "threshold is that of the file.",
            rich_help_panel=DECISION,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Compare the scores of these images in the certificate. By default those of --good, else a drawn one.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    false_alarm_rate: o.FalseAlarmOption = 0.01,
    device: FitDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Turn a PaDiM of anomalib 2.x into a model, with a certificate that both give the same scores."""
    if kind not in _KINDS:
        raise PadimEdgeError(f"there is no import from {kind!r}; choose {', '.join(_KINDS)}")
    name = class_name or file.stem
    path = output or Path(f"{name}.onnx")
    from padim_edge.importing import Choice, import_anomalib
    from padim_edge_runtime.progress import Feedback, bar

    choice = Choice(
        class_name=name,
        good=_items(good),
        compared=_items(images),
        false_alarm_rate=false_alarm_rate,
        device=device,
    )
    made = import_anomalib(file, path, choice, progress=Feedback(bar, warn))
    o.report_unreadable(made.unreadable)
    if good is not None:
        tell_worth(made.metadata)
    if as_json:
        print_json(made.to_json())
    else:
        typer.echo(str(made))
    end_with(list(made.unreadable))


def _items(folder: Path | None) -> tuple[Item, ...]:
    """Return all images of a folder, and of the folders in it."""
    if folder is None:
        return ()
    from padim_edge.datasets import from_images
    from padim_edge_runtime.image_search import good_files

    return from_images(good_files([folder], warn)).good
