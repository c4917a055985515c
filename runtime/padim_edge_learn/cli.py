"""The commands that change what a model knows: `recalibrate` and `update`. Heavy imports stand inside, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, ModelArgument, print_json, tell_extrapolated, warn

__all__ = ["recalibrate", "update"]


def recalibrate(
    model: ModelArgument,
    good: Annotated[list[Path], typer.Argument(metavar="GOOD_FOLDER...", help="Good images it was not fitted on.")],
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of good images that may raise an alarm; sets the threshold.")
    ] = 0.01,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Set a model's threshold anew, from good images that it was not fitted on. Nothing else in it changes."""
    from padim_edge_artifact.container import read_metadata
    from padim_edge_learn.recalibrate import recalibrate as run
    from padim_edge_runtime import image_files, progress

    before = read_metadata(model).threshold
    files = [path for path, _ in image_files.find(good)]
    with progress.bar("judging", len(files)) as advance:
        after, unreadable = run(
            model, files, false_alarm_rate=false_alarm_rate, device=device, progress=advance, tell=warn
        )
    for sentence in unreadable:
        warn(f"left out: {sentence}")
    tell_extrapolated(after)
    if as_json:
        print_json(
            {
                "model": str(model),
                "images": after.calibration.images,
                "false_alarm_rate": after.false_alarm_rate,
                "extrapolated": after.extrapolated,
                "threshold_before": before,
                "threshold": after.threshold,
            }
        )
        return
    typer.echo(f"{model}: threshold {after.threshold:.2f}, before {before:.2f}; {after.calibration.images} images")


def update(
    model: ModelArgument,
    good: Annotated[list[Path], typer.Argument(metavar="GOOD_FOLDER...", help="Good images it was not fitted on.")],
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What export --keep-statistics wrote; <model>.npz unless given."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The new model; <model>-r2.onnx and so on unless given.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of good images that may raise an alarm; as before unless given.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the backbone runs: " + DEVICE_HELP)] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Let a model learn from more good images. Its old ones are not needed, nor is torch; the statistics are."""
    from padim_edge_artifact import read_metadata
    from padim_edge_runtime import image_files, progress

    try:
        from padim_edge_learn.update import next_name
        from padim_edge_learn.update import update as run
    except ModuleNotFoundError as error:
        raise PadimEdgeError(
            f"update writes a new model and needs {error.name}, which is not installed; install "
            "padim-edge-runtime[update]"
        ) from error
    new = output or next_name(model, read_metadata(model).revision + 1)
    if new.resolve() == model.resolve():
        raise PadimEdgeError(
            f"--output is the model itself, {model}; choose another name, so that both can be compared"
        )
    if new.suffix != ".onnx":
        raise PadimEdgeError(f"--output is {new}, expected a name that ends in .onnx")
    files = [path for path, _ in image_files.find(good)]
    made = run(
        model,
        files,
        statistics=statistics or model.with_suffix(".npz"),
        output=new,
        output_statistics=new.with_suffix(".npz"),
        false_alarm_rate=false_alarm_rate,
        device=device,
        report=progress.bar,
    )
    for sentence in made.unreadable:
        warn(f"left out: {sentence}")
    tell_extrapolated(made.metadata)
    if as_json:
        print_json(
            {
                "model": str(new),
                "statistics": str(new.with_suffix(".npz")),
                "bytes": made.bytes,
                "revision": made.metadata.revision,
                "parent": made.metadata.parent,
                "images_before": made.before.images,
                "images": made.metadata.images,
                "threshold_before": made.before.threshold,
                "threshold": made.metadata.threshold,
            }
        )
        return
    typer.echo(
        f"{new}: revision {made.metadata.revision}, {made.metadata.images} good images, "
        f"{made.before.images} before; threshold {made.metadata.threshold:.2f}, {made.before.threshold:.2f} before"
    )
