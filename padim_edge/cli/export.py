"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from padim_edge.cli import method_options as m
from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_learn.cli.package import TritonOption
from padim_edge_runtime.cli.options import (
    FitDeviceOption,
    JsonOption,
    end_with,
    print_json,
    print_trtexec,
    tell_worth,
    warn,
)

if TYPE_CHECKING:
    from padim_edge.exports import Exported

__all__ = ["export"]


def export(
    context: typer.Context,
    class_name: o.ClassesOption = None,
    data: o.DataOption = None,
    every: o.EveryOption = None,
    group: o.GroupOption = None,
    exclude: o.ExcludeOption = None,
    exclude_suspects: o.ExcludeSuspectsOption = False,
    perturb: o.PerturbOption = None,
    statistics: o.StatisticsOption = None,
    backbone: m.BackboneOption = None,
    layers: m.LayersOption = None,
    weights: m.WeightsOption = "auto",
    preset: m.PresetOption = "edge",
    precision: m.PrecisionOption = "fp32",
    target: m.TargetOption = "cpu",
    rank: m.RankOption = None,
    diagonal: m.DiagonalOption = False,
    budget: m.BudgetOption = None,
    reduction: m.ReductionOption = None,
    dims: m.DimsOption = None,
    size: m.SizeOption = None,
    frame: m.FrameOption = None,
    levels: m.LevelsOption = None,
    color: m.ColorOption = None,
    prototypes: m.PrototypesOption = None,
    turned: m.TurnedOption = False,
    memory_share: m.MemoryShareOption = None,
    fast: m.FastOption = False,
    improve: m.ImproveOption = None,
    seed: o.SeedOption = 0,
    false_alarm_rate: o.FalseAlarmOption = 0.01,
    roi: o.RoiOption = None,
    output: o.ModelOption = None,
    keep_statistics: o.KeepOption = None,
    suspects: o.SuspectsOption = None,
    trtexec: o.TrtexecOption = None,
    triton: TritonOption = None,
    device: FitDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good images and write one fused ONNX model per class."""
    given = o.given_options(context)
    several = class_name == "all" or "," in (class_name or "")
    _check(given, several=several)
    o.tell_unused_seed(given, reduction)
    from padim_edge.exports import Job, check_trtexec, export_class, export_statistics, output_paths
    from padim_edge.fitted import ExportOptions, load_fitted
    from padim_edge.presets import Options, parse_bytes
    from padim_edge_artifact.files import refuse_inputs, require_folder
    from padim_edge_artifact.method import Precision
    from padim_edge_learn.triton import check_repository, package
    from padim_edge_runtime.devices.trtexec import calls
    from padim_edge_runtime.progress import Feedback, bar

    limit = None if budget is None else parse_bytes(budget)
    form = Precision(precision, target, rank, diagonal)
    if keep_statistics is not None:
        require_folder(keep_statistics)
        refuse_inputs([keep_statistics], [Path(each) for each in (data, exclude, roi, weights) if each is not None])
    if trtexec is not None and statistics is None:
        check_trtexec(form, trtexec, may_be_int8=limit is not None)
    datasets = [
        o.open_dataset(data, name, perturb, seed, every=every, group=group, exclude=exclude)
        for name in o.class_names(data, class_name)
    ]
    paths = output_paths([each.class_name for each in datasets], output)
    if triton is not None:
        for path in paths:
            check_repository(triton, path.stem)
    settings = ExportOptions(None, false_alarm_rate, roi, device, memory_share, fast)
    job = None
    if statistics is None:
        asked = Options(backbone=backbone, layers=layers, reduction=reduction, dims=dims, size=size, frame=frame)
        method = o.chosen_method(
            preset,
            data,
            asked
            | Options(levels=levels, color=color, seed=seed, precision=form, prototypes=prototypes, turned=turned),
        )
        job = Job(method, weights, settings, limit, keep_statistics, exclude_suspects, improve)
    told: list[dict[str, object]] = []
    unreadable: list[str] = []
    for dataset, path in zip(datasets, paths, strict=True):
        feedback = Feedback(bar, warn)
        if job is not None:
            made = export_class(dataset, path, job, feedback)
        elif statistics is not None:
            fitted = load_fitted(statistics, dataset)
            if trtexec is not None:
                check_trtexec(fitted.method.precision, trtexec)
            made = export_statistics(fitted, path, settings, (rank, diagonal), feedback)
        model = made.model
        o.report_unreadable(model.unreadable)
        unreadable += model.unreadable
        for sentence in model.warnings:
            warn(sentence)
        tell_worth(model.metadata)
        if suspects is not None:
            _draw(suspects / dataset.class_name if len(datasets) > 1 else suspects, made)
        if made.cost is not None:
            warn(made.cost.sentence(model.metadata.method))
        commands = {} if trtexec is None else {"trtexec": calls(path, model.metadata, trtexec)}
        packaged = None if triton is None else package(path, triton)
        served = {} if packaged is None else {"triton": packaged.to_json()}
        for sentence in () if packaged is None else packaged.warnings:
            warn(sentence)
        told.append(made.to_json() | commands | served)
        if not as_json:
            typer.echo(str(model))
            _tell_visibility(made)
            if trtexec is not None:
                print_trtexec(path, model.metadata, trtexec)
            if packaged is not None:
                typer.echo(str(packaged))
    if not (as_json or several or data is None or given & {"statistics", "keep_statistics"}):
        warn("to let this model learn from more images later (padim-edge update), add --keep-statistics FILE")
    if as_json:
        print_json(told[0] if len(told) == 1 else {"models": told})
    end_with(unreadable)


def _tell_visibility(made: Exported) -> None:
    """Say what the model sees; of one that is nearly blind, what to try."""
    if made.rehearsal is None:
        return
    typer.echo(made.rehearsal.line)
    for step in made.rehearsal.remedies if made.rehearsal.level == "blind" else ():
        warn(f"{step.sentence} {step.command}".strip())


def _draw(folder: Path, made: Exported) -> None:
    """Write the heat maps of the suspects, and say where they are."""
    from padim_edge.suspects import draw

    found = draw(folder, made.model, (*made.left_out, *made.model.suspects), warn)
    count = f"{len(found)} heat map{'' if len(found) == 1 else 's'} of good images that look unlike the others"
    warn(f"{count}: {folder}" if found else "no good image looks unlike the others, so --suspects has nothing to draw")


def _check(given: set[str], *, several: bool) -> None:
    """Refuse options that exclude each other."""
    if not given & {"data", "class_name"}:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge export --class bottle")
    o.refuse_fixed(given, "statistics")
    for name in sorted(given & {"exclude", "exclude_suspects"}) if "statistics" in given else ():
        raise PadimEdgeError(
            f"--statistics were fitted already, so --{name.replace('_', '-')} comes too late; fit again without those "
            "images"
        )
    if "budget" in given and given & {"precision", "rank", "diagonal"}:
        raise PadimEdgeError("--budget chooses the form itself; leave --precision, --rank and --diagonal out")
    for name in sorted(given & {"budget", "exclude_suspects", "fast"}) if "improve" in given else ():
        raise PadimEdgeError(
            f"--improve compares methods by drawn defects, and --{name.replace('_', '-')} does not go with that; leave "
            "one of them out"
        )
    for name in sorted(given & {"statistics", "keep_statistics"}) if several else ():
        raise PadimEdgeError(f"--{name.replace('_', '-')} takes one class at a time; export the classes one by one")
