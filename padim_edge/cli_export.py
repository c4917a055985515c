"""The command `export`. Heavy imports stand inside, as in `cli`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from padim_edge.cli_options import (
    BackboneOption,
    DataOption,
    DimsOption,
    FrameOption,
    LayersOption,
    PerturbOption,
    PresetOption,
    ReductionOption,
    SizeOption,
    TargetOption,
    WeightsOption,
    class_names,
    method,
    open_dataset,
    tell_stretched,
)
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, print_json, print_trtexec, tell_extrapolated, warn

if TYPE_CHECKING:
    from padim_edge.build import Built

__all__ = ["export"]


def export(
    class_name: Annotated[
        str | None, typer.Option("--class", help="Name of the part, such as bottle; several as a,b or all.")
    ] = None,
    data: DataOption = None,
    backbone: BackboneOption = None,
    layers: LayersOption = None,
    weights: WeightsOption = "auto",
    preset: PresetOption = "edge",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8, of backbone and constants; fp32 unless given.")
    ] = None,
    target: TargetOption = "cpu",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Keep so many directions of each Gaussian and the mean of the others.")
    ] = None,
    diagonal: Annotated[bool, typer.Option("--diagonal", help="Keep the variances of each Gaussian only.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Take the most accurate form that fits into SIZE, such as 20MB."),
    ] = None,
    reduction: ReductionOption = None,
    dims: DimsOption = None,
    size: SizeOption = None,
    frame: FrameOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the reduction, and of --perturb.")] = 0,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of good images that may raise an alarm; sets the threshold.")
    ] = 0.01,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="<class>.onnx unless given; a folder for several classes.")
    ] = None,
    roi: Annotated[
        Path | None, typer.Option(metavar="MASK", help="An image of the region to inspect: white inside.")
    ] = None,
    perturb: PerturbOption = None,
    keep_statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also keep the statistics, as .npz, for update and merge.")
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Do not fit: take these, of fit or merge, and set the threshold by the good images of --data, which "
            "must be among those that were fitted on.",
        ),
    ] = None,
    trtexec: Annotated[
        int | None, typer.Option(metavar="BATCH", help="Also print the calls of trtexec that build an engine.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the backbone runs while fitting: " + DEVICE_HELP)] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good images and write one fused ONNX model a class."""
    from padim_edge.presets import parse_size
    from padim_edge_artifact.method import Precision
    from padim_edge_runtime import progress

    if statistics is not None:
        given = {
            "--backbone": backbone,
            "--layers": layers,
            "--reduction": reduction,
            "--dims": dims,
            "--size": size,
            "--frame": frame,
            "--budget": budget,
            "--precision": precision,
        }
        fixed = [name for name, value in given.items() if value]
        if fixed:
            raise PadimEdgeError(f"--statistics fixes {fixed[0]}; leave it out, or fit again with it")
    numbers = Precision(precision or "fp32", target, rank, diagonal)
    if budget is not None and (precision is not None or rank is not None or diagonal):
        raise PadimEdgeError("--budget chooses the form itself; leave --precision, --rank and --diagonal out")
    limit = None if budget is None else parse_size(budget)
    if data is None and class_name is None:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge export --class bottle")
    names = class_names(data, class_name)
    folder = output is not None and (output.is_dir() or len(names) > 1)
    if keep_statistics is not None:
        if len(names) > 1:
            raise PadimEdgeError("--keep-statistics takes one class at a time; export the classes one by one")
        if not keep_statistics.resolve().parent.is_dir():
            raise PadimEdgeError(f"the folder of {keep_statistics} does not exist; make it or choose another one")
    loaded = [open_dataset(data, name, perturb=perturb, seed=seed) for name in names]

    from padim_edge import budget as budgets
    from padim_edge.build import build, build_from, check_output
    from padim_edge_artifact.kept import load as load_kept
    from padim_edge_artifact.kept import save as save_kept

    paths = [(output or Path()) / f"{each.class_name}.onnx" if folder or output is None else output for each in loaded]
    for path in paths:
        check_output(path)
    if statistics is not None:
        if len(loaded) > 1:
            raise PadimEdgeError("--statistics takes one class at a time; export the classes one by one")
        kept = load_kept(statistics)
        numbers = Precision(kept.recipe.precision, kept.recipe.target, rank, diagonal)
        built = build_from(
            kept,
            loaded[0],
            paths[0],
            precision=numbers,
            false_alarm_rate=false_alarm_rate,
            roi=roi,
            device=device,
            report=progress.bar,
        )
        _tell(built, quiet=as_json)
        if as_json:
            print_json(_summary(built))
        return
    with progress.bar("loading the backbone", None):
        chosen, trunk = method(
            data,
            backbone=backbone,
            layers=layers,
            weights=weights,
            preset=preset,
            reduction=reduction,
            dims=dims,
            size=size,
            frame=frame,
        )
    told = []
    for dataset, path in zip(loaded, paths, strict=True):
        tell_stretched(dataset, chosen)
        if limit is not None:
            numbers = budgets.choose(limit, chosen, trunk, len(dataset.good), target=target)
        built = build(
            dataset,
            path,
            chosen,
            trunk,
            precision=numbers,
            seed=seed,
            false_alarm_rate=false_alarm_rate,
            roi=roi,
            device=device,
            report=progress.bar,
            tell=warn,
        )
        if keep_statistics is not None:
            save_kept(keep_statistics, built.kept)
        _tell(built, quiet=as_json)
        lost = None
        if limit is not None and numbers != Precision(target=target):
            with tempfile.TemporaryDirectory(prefix="padim-edge-") as scratch:
                whole = Path(scratch) / "exact.onnx"
                exact = build(dataset, whole, chosen, trunk, seed=seed, roi=roi, device=device, report=progress.bar)
                lost = budgets.cost(exact, built, dataset)
            warn(lost.sentence(built.metadata.numbers, exact.bytes))
        told.append(
            {
                **_summary(built),
                **({} if limit is None else {"precision": built.metadata.numbers, "budget": limit}),
                **({} if lost is None else {"cost": lost.to_json()}),
            }
        )
        if trtexec is not None and not as_json:
            print_trtexec(path, built.metadata, trtexec)
    if as_json:
        print_json(told[0] if len(told) == 1 else {"models": told})


def _summary(built: Built) -> dict[str, Any]:
    return {
        "model": str(built.model),
        "bytes": built.bytes,
        "images": built.metadata.images,
        "threshold": built.metadata.threshold,
        "seconds": round(built.seconds, 3),
    }


def _tell(built: Built, *, quiet: bool) -> None:
    for sentence in built.unreadable:
        warn(f"left out: {sentence}")
    images, dims = built.metadata.images, built.metadata.reduction.dims
    if images < 20:
        warn(f"{images} good images are too few to trust the threshold; expected 20 or more, better {2 * dims}")
    elif images < 2 * dims:
        warn(f"{images} good images for {dims} dimensions work; {2 * dims} or more would find more")
    if built.metadata.rank is not None:
        warn(
            "with --rank, thresholds come out low (a tenth with 110 images and rank 16), since the kept directions "
            "were chosen with each image in the fit; better set it with padim-edge recalibrate and unseen images"
        )
    tell_extrapolated(built.metadata)
    if not quiet:
        about = built.metadata
        typer.echo(
            f"{built.model}: {about.backbone.name}, preset {about.preset}, {about.numbers}, {images} good images, "
            f"threshold {about.threshold:.2f}, {built.bytes / 1e6:.1f} MB, {built.seconds:.1f} s"
        )
