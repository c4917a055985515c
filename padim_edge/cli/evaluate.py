"""The command `evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import refuse_inputs, require_folder
from padim_edge_runtime.cli.options import INPUT, DeviceOption, JsonOption, end_with, print_json, warn

__all__ = ["evaluate"]


def evaluate(
    context: typer.Context,
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more models, one per class.")],
    data: o.DataOption = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Class of the test images. By default the model's own.", rich_help_panel=INPUT),
    ] = None,
    perturb: o.PerturbOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for --perturb.", rich_help_panel=INPUT)] = 0,
    report: o.ReportOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model judges labelled test images, and say which threshold to choose and what to try next."""
    if class_name is not None and len(models) > 1:
        raise PadimEdgeError("--class is given with several models; leave it out, each model knows its own class")
    given = o.given_options(context)
    if "seed" in given and "perturb" not in given:
        raise PadimEdgeError("--seed is the seed of --perturb, which is not given; give both, or neither")
    if report is not None:
        require_folder(report)
        refuse_inputs([report], [*models, *([] if data is None else [data])])
    from padim_edge.evaluation.evaluate import evaluate as run
    from padim_edge.evaluation.operating import Origin
    from padim_edge.evaluation.result import mean, summary
    from padim_edge_artifact import read_metadata
    from padim_edge_runtime.progress import Feedback, bar

    evaluations = []
    for model in models:
        dataset = o.open_dataset(data, class_name or read_metadata(model).class_name, perturb, seed)
        evaluation = run(model, dataset, device=device, progress=Feedback(bar, warn))
        if data is not None and perturb is None:
            chosen = ("--class", class_name) if class_name else ()
            evaluation = replace(evaluation, origin=Origin(str(model), (str(data), *chosen)))
        for sentence in evaluation.warnings:
            warn(sentence)
        evaluations.append(evaluation)
    if report is not None:
        from padim_edge.evaluation.report import write_report

        write_report(report, [each.page() for each in evaluations], means=mean(evaluations))
    if as_json:
        classes = {each.class_name: each.to_json() for each in evaluations}
        print_json({"classes": classes, "mean": mean(evaluations)})
    else:
        typer.echo(summary(evaluations))
    end_with([sentence for each in evaluations for sentence in each.unreadable])
