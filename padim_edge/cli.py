"""The workstation's commands. Only typer is imported here; torch and the like load inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from padim_edge.cli_compare import compare
from padim_edge.cli_export import export
from padim_edge.cli_fit import fit, merge
from padim_edge.cli_options import DataOption, PerturbOption, open_dataset
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, print_json, warn

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the toolkit's commands; called through the entry point."""
    app.command()(export)
    app.command()(fit)
    app.command()(merge)
    app.command()(evaluate)
    app.command()(compare)
    app.command()(sample)


def evaluate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more models, one a class.")],
    data: DataOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the test images; the model's own unless given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML report that opens offline.")
    ] = None,
    perturb: PerturbOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --perturb.")] = 0,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good a model is on labelled test images; with several models, also the mean over the classes."""
    from padim_edge.evaluation import summary
    from padim_edge.evaluation.evaluate import evaluate as run
    from padim_edge.evaluation.evaluate import mean
    from padim_edge_runtime import progress
    from padim_edge_runtime.detector import Detector

    if class_name is not None and len(models) > 1:
        raise PadimEdgeError("--class is given with several models; leave it out, each model knows its own class")
    if report is not None and not report.resolve().parent.is_dir():
        raise PadimEdgeError(f"the folder of {report} does not exist; make it or choose another one")
    evaluations, pages = [], []
    for model in models:
        detector = Detector.load(model, device, tell=warn)
        name = class_name or detector.metadata.class_name
        dataset = open_dataset(data, name, perturb=perturb, seed=seed)
        with progress.bar(f"evaluating {name}", len(dataset.test)) as advance:
            evaluation = run(detector, dataset, advance)
        for sentence in evaluation.unreadable:
            warn(f"left out: {sentence}")
        if evaluation.without_mask:
            warn(f"{evaluation.without_mask} anomalous images have no mask; they count in the image metrics only")
        evaluations.append(evaluation)
        if report is not None:
            pages.append(summary.page(evaluation, detector, model))
    means = mean(evaluations)
    if report is not None:
        from padim_edge.evaluation.report import write_report

        write_report(report, pages, title="Anomaly detection on test images", means=means)
    if as_json:
        print_json({"classes": {each.class_name: each.to_json() for each in evaluations}, "mean": means})
    else:
        typer.echo(summary.text(evaluations, means))


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; a folder for each class inside.")],
    class_name: Annotated[str, typer.Option("--class", help="bottle (an object) or weave (a texture).")] = "bottle",
    seed: Annotated[int, typer.Option(min=0, help="Which sample.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 320,
) -> None:
    """Write the built-in sample images to disk, in MVTec AD's layout."""
    from padim_edge.sample import images, write

    count = write(images(class_name, seed=seed, size=size), folder)
    typer.echo(f"{folder / class_name}: {count} images")
