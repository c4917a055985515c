"""The command `export`."""

from __future__ import annotations

import typer

from padim_edge.cli import options as o
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import (
    FitDeviceOption,
    JsonOption,
    print_json,
    print_trtexec,
    tell_extrapolated,
    warn,
)

__all__ = ["export"]


def export(
    context: typer.Context,
    class_name: o.ClassesOption = None,
    data: o.DataOption = None,
    every: o.EveryOption = None,
    group: o.GroupOption = None,
    perturb: o.PerturbOption = None,
    statistics: o.StatisticsOption = None,
    backbone: o.BackboneOption = None,
    layers: o.LayersOption = None,
    weights: o.WeightsOption = "auto",
    preset: o.PresetOption = "edge",
    precision: o.PrecisionOption = "fp32",
    target: o.TargetOption = "cpu",
    rank: o.RankOption = None,
    diagonal: o.DiagonalOption = False,
    budget: o.BudgetOption = None,
    reduction: o.ReductionOption = None,
    dims: o.DimsOption = None,
    size: o.SizeOption = None,
    frame: o.FrameOption = None,
    levels: o.LevelsOption = None,
    seed: o.SeedOption = 0,
    false_alarm_rate: o.FalseAlarmOption = 0.01,
    roi: o.RoiOption = None,
    output: o.ModelOption = None,
    keep_statistics: o.KeepOption = None,
    trtexec: o.TrtexecOption = None,
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
    from padim_edge_artifact.files import require_folder
    from padim_edge_artifact.method import Precision
    from padim_edge_runtime.devices.trtexec import calls
    from padim_edge_runtime.progress import Feedback, bar

    limit = None if budget is None else parse_bytes(budget)
    form = Precision(precision, target, rank, diagonal)
    if keep_statistics is not None:
        require_folder(keep_statistics)
    if trtexec is not None and statistics is None:
        check_trtexec(form, trtexec, may_be_int8=limit is not None)
    datasets = [
        o.open_dataset(data, name, perturb, seed, every=every, group=group) for name in o.class_names(data, class_name)
    ]
    paths = output_paths([each.class_name for each in datasets], output)
    settings = ExportOptions(None, false_alarm_rate, roi, device)
    job = None
    if statistics is None:
        asked = Options(backbone=backbone, layers=layers, reduction=reduction, dims=dims, size=size, frame=frame)
        method = o.chosen_method(preset, data, asked | Options(levels=levels, seed=seed, precision=form))
        job = Job(method, weights, settings, limit, keep_statistics)
    told = []
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
        for sentence in model.warnings:
            warn(sentence)
        tell_extrapolated(model.metadata)
        if made.cost is not None:
            warn(made.cost.sentence(model.metadata.precision))
        commands = {} if trtexec is None else {"trtexec": calls(path, model.metadata, trtexec)}
        told.append(made.to_json() | commands)
        if not as_json:
            typer.echo(str(model))
            if trtexec is not None:
                print_trtexec(path, model.metadata, trtexec)
    if not (as_json or several or data is None or given & {"statistics", "keep_statistics"}):
        warn("to let this model learn from more images later (padim-edge update), add --keep-statistics FILE")
    if as_json:
        print_json(told[0] if len(told) == 1 else {"models": told})


def _check(given: set[str], *, several: bool) -> None:
    """Refuse options that exclude each other."""
    if not given & {"data", "class_name"}:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge export --class bottle")
    o.refuse_fixed(given, "statistics")
    if "budget" in given and given & {"precision", "rank", "diagonal"}:
        raise PadimEdgeError("--budget chooses the form itself; leave --precision, --rank and --diagonal out")
    for name in sorted(given & {"statistics", "keep_statistics"}) if several else ():
        raise PadimEdgeError(f"--{name.replace('_', '-')} takes one class at a time; export the classes one by one")
