"""The workstation's commands. Only typer is imported here; torch and the like load inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, print_json, tell_extrapolated, warn

if TYPE_CHECKING:
    from padim_edge.build import Built
    from padim_edge.datasets import Dataset
    from padim_edge.presets import Preset

__all__ = ["register"]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="MVTec AD, BTAD or VisA, video frames, a CSV list, or a folder of good pictures. Without it, the sample.",
    ),
]

PerturbOption = Annotated[
    str | None,
    typer.Option(metavar="rotate=10,crop", help="Turn and crop every picture at random, as the paper's Rd-MVTec AD."),
]


def register(app: typer.Typer) -> None:
    """Add the toolkit's commands; called through the entry point."""
    app.command()(export)
    app.command()(evaluate)
    app.command()(sample)


def export(
    class_name: Annotated[
        str | None, typer.Option("--class", help="Name of the part, such as bottle; several as a,b or all.")
    ] = None,
    data: DataOption = None,
    backbone: Annotated[str | None, typer.Option(help="resnet18 or builtin; resnet18 where --data is given.")] = None,
    weights: Annotated[str, typer.Option(metavar="auto|FILE", help="A .safetensors or .pth file, or auto.")] = "auto",
    preset: Annotated[str, typer.Option(help="edge, accurate or paper.")] = "edge",
    dims: Annotated[int | None, typer.Option(help="Embedding dimensions kept; 100 unless given.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Size in pixels to bring the whole frame to, without a crop.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the reduction, and of --perturb.")] = 0,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of good pictures that may raise an alarm; sets the threshold.")
    ] = 0.01,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="<class>.onnx unless given; a folder for several classes.")
    ] = None,
    roi: Annotated[
        Path | None, typer.Option(metavar="MASK", help="A picture of the region to inspect: white inside.")
    ] = None,
    perturb: PerturbOption = None,
    keep_statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also save the statistics, as .npz.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the backbone runs while fitting: " + DEVICE_HELP)] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good pictures and write one fused ONNX model a class."""
    from padim_edge.presets import choose
    from padim_edge_runtime import progress

    chosen = choose(preset, dims=dims, size=size)
    if data is None and class_name is None:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge export --class bottle")
    names = _class_names(data, class_name)
    folder = output is not None and (output.is_dir() or len(names) > 1)
    if keep_statistics is not None:
        if len(names) > 1:
            raise PadimEdgeError("--keep-statistics takes one class at a time; export the classes one by one")
        if not keep_statistics.resolve().parent.is_dir():
            raise PadimEdgeError(f"the folder of {keep_statistics} does not exist; make it or choose another one")
    loaded = [_dataset(data, name, test=False, perturb=perturb, seed=seed) for name in names]

    from padim_edge.build import build, check_output
    from padim_edge_export import backbones

    targets = [
        (output or Path()) / f"{each.class_name}.onnx" if folder or output is None else output for each in loaded
    ]
    for target in targets:
        check_output(target)
    with progress.bar("loading the backbone", None):
        trunk = backbones.load(backbone or ("resnet18" if data else "builtin"), weights)
    told = []
    for dataset, target in zip(loaded, targets, strict=True):
        built = build(
            dataset,
            target,
            chosen,
            trunk,
            seed=seed,
            false_alarm_rate=false_alarm_rate,
            roi=roi,
            device=device,
            report=progress.bar,
        )
        if keep_statistics is not None:
            built.statistics.save(keep_statistics)
        _tell(built, chosen, quiet=as_json)
        told.append(
            {
                "model": str(built.model),
                "bytes": built.bytes,
                "pictures": built.metadata.pictures,
                "threshold": built.metadata.threshold,
                "seconds": round(built.seconds, 3),
            }
        )
    if as_json:
        print_json(told[0] if len(told) == 1 else {"models": told})


def _class_names(data: Path | None, asked: str | None) -> tuple[str | None, ...]:
    """The classes that `--class` means."""
    if asked == "all":
        from padim_edge import datasets, sample

        return sample.CLASSES if data is None else datasets.class_names(data)
    return tuple(name.strip() for name in asked.split(",") if name.strip()) if asked else (None,)


def _dataset(data: Path | None, name: str | None, *, test: bool, perturb: str | None, seed: int) -> Dataset:
    """One class, with remarks on stderr."""
    from padim_edge import datasets

    dataset = datasets.from_sample(name or "", test=test) if data is None else datasets.from_folder(data, name)
    if perturb is not None:
        from padim_edge.perturb import parse, perturbed

        dataset = perturbed(dataset, **parse(perturb), seed=seed)
    for note in dataset.notes:
        warn(f"{dataset.class_name}: {note}")
    return dataset


def _tell(built: Built, preset: Preset, *, quiet: bool) -> None:
    for sentence in built.unreadable:
        warn(f"left out: {sentence}")
    pictures = built.metadata.pictures
    if pictures < 20:
        warn(
            f"{pictures} good pictures are too few to trust the threshold; expected 20 or more, better "
            f"{2 * preset.dims}"
        )
    elif pictures < 2 * preset.dims:
        warn(f"{pictures} good pictures for {preset.dims} dimensions work; {2 * preset.dims} or more would find more")
    tell_extrapolated(built.metadata)
    if not quiet:
        typer.echo(
            f"{built.model}: {built.metadata.backbone.name}, preset {preset.name}, {pictures} good pictures, threshold "
            f"{built.metadata.threshold:.2f}, {built.bytes / 1e6:.1f} MB, {built.seconds:.1f} s"
        )


def evaluate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more models, one a class.")],
    data: DataOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the test pictures; the model's own unless given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML report that opens offline.")
    ] = None,
    perturb: PerturbOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --perturb.")] = 0,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good a model is on labelled test pictures; with several models, also the mean over the classes."""
    from padim_edge import summary
    from padim_edge.evaluate import evaluate as run
    from padim_edge.evaluate import mean
    from padim_edge_runtime import progress
    from padim_edge_runtime.detector import Detector

    if class_name is not None and len(models) > 1:
        raise PadimEdgeError("--class is given with several models; leave it out, each model knows its own class")
    if report is not None and not report.resolve().parent.is_dir():
        raise PadimEdgeError(f"the folder of {report} does not exist; make it or choose another one")
    evaluations, pages = [], []
    for model in models:
        detector = Detector.load(model, device)
        name = class_name or detector.metadata.class_name
        dataset = _dataset(data, name, test=True, perturb=perturb, seed=seed)
        with progress.bar(f"evaluating {name}", len(dataset.test)) as advance:
            evaluation = run(detector, dataset, advance)
        for sentence in evaluation.unreadable:
            warn(f"left out: {sentence}")
        if evaluation.without_mask:
            warn(f"{evaluation.without_mask} anomalous pictures have no mask; they count in the image metrics only")
        evaluations.append(evaluation)
        if report is not None:
            pages.append(summary.page(evaluation, detector, model))
    means = mean(evaluations)
    if report is not None:
        from padim_edge.report import write_report

        write_report(report, pages, title="Anomaly detection on test pictures", means=means)
    if as_json:
        print_json({"classes": {each.class_name: each.to_json() for each in evaluations}, "mean": means})
    else:
        typer.echo(summary.text(evaluations, means))


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; a folder for each class inside.")],
    class_name: Annotated[str, typer.Option("--class", help="bottle (an object) or weave (a texture).")] = "bottle",
    seed: Annotated[int, typer.Option(min=0, help="Which sample.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 320,
) -> None:
    """Write the built-in sample pictures to disk, in MVTec AD's layout."""
    from padim_edge.sample import write

    count = write(class_name, folder, seed=seed, size=size)
    typer.echo(f"{folder / class_name}: {count} pictures")
