"""The command `fit`: statistics without a model, in one process or in several that torchrun started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge.cli import method_options as m
from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import INPUT, OUTPUT, FitDeviceOption, JsonOption, end_with, print_json, warn

if TYPE_CHECKING:
    from padim_edge_artifact.kept import Kept

__all__ = ["fit"]


def fit(
    context: typer.Context,
    class_name: o.ClassOption = None,
    data: o.DataOption = None,
    every: o.EveryOption = None,
    group: o.GroupOption = None,
    exclude: o.ExcludeOption = None,
    perturb: o.PerturbOption = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Fit exactly as these statistics were, so that both can be merged.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    backbone: m.BackboneOption = None,
    layers: m.LayersOption = None,
    weights: m.WeightsOption = "auto",
    preset: m.PresetOption = "edge",
    precision: m.PrecisionOption = "fp32",
    target: m.TargetOption = "cpu",
    reduction: m.ReductionOption = None,
    dims: m.DimsOption = None,
    size: m.SizeOption = None,
    frame: m.FrameOption = None,
    levels: m.LevelsOption = None,
    color: m.ColorOption = None,
    prototypes: m.PrototypesOption = None,
    turned: m.TurnedOption = False,
    seed: o.SeedOption = 0,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Statistics file. By default <class>.npz.", rich_help_panel=OUTPUT),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted fit.", rich_help_panel=OUTPUT)
    ] = False,
    device: FitDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good images and keep the statistics; `export --statistics` makes a model of them.

    Under torchrun, each of the K processes fits a K-th of the images, and the first one writes.
    """
    given = o.given_options(context)
    if not given & {"data", "class_name"}:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge fit --class bottle")
    o.refuse_fixed(given, "like")
    o.tell_unused_seed(given, reduction)
    from padim_edge.exports import stretched
    from padim_edge.fit_job import FitJob, fit_to_file
    from padim_edge.levels import tell_misfit
    from padim_edge.presets import Options
    from padim_edge.settled import settled
    from padim_edge.start import begin, begin_like
    from padim_edge_artifact.files import refuse_inputs, require_folder
    from padim_edge_artifact.kept import read_kept
    from padim_edge_runtime.progress import Feedback, bar

    dataset = o.open_dataset(data, class_name, perturb, seed, every=every, group=group, exclude=exclude)
    job = FitJob(dataset, output or Path(f"{dataset.class_name}.npz"), resume, device)
    require_folder(job.output)
    refuse_inputs([job.output], [] if like is None else [like])
    if resume and os.environ.get("RANK", "0") == "0" and not _interrupted(job.output):  # torchrun: one says so
        warn(f"--resume found no interrupted fit of {job.output}, so this one begins anew")

    def prepare() -> Kept:
        if like is not None:
            found = read_kept(like)
            if (same := found.recipe.method.preprocessing.levels) is not None:
                tell_misfit(dataset, same, warn)
            return begin_like(found, dataset.class_name)
        asked = Options(backbone=backbone, layers=layers, reduction=reduction, dims=dims, size=size, frame=frame)
        numbers = Options(levels=levels, color=color, seed=seed, precision=precision, target=target)
        bank = Options(prototypes=prototypes, turned=turned)
        method = settled(dataset, o.chosen_method(preset, data, asked | numbers | bank), warn)
        if (sentence := stretched(dataset, method)) is not None:
            warn(sentence)
        return begin(dataset, method, weights, device=device, report=bar)

    outcome = fit_to_file(job, prepare, Feedback(bar, warn))
    if outcome is None:
        return
    o.report_unreadable(outcome.unreadable)
    if as_json:
        print_json(outcome.to_json())
    else:
        typer.echo(str(outcome))
    if outcome.ranks == 1:  # torchrun would take it for a crash
        end_with(outcome.unreadable)


def _interrupted(output: Path) -> bool:
    """Tell whether a fit into this file was interrupted. Each process of torchrun has a checkpoint of its own."""
    from padim_edge.gather import checkpoint_of

    unfinished = checkpoint_of(output)
    return any(path.name.startswith(unfinished.name) for path in unfinished.parent.iterdir())
