"""The workstation's commands. Only typer is imported here; torch and the like load inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, ModelArgument, print_json, warn

if TYPE_CHECKING:
    from padim_edge.build import Built
    from padim_edge.evaluate import Evaluation
    from padim_edge.presets import Preset

__all__ = ["register"]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="An MVTec AD root, one class folder, or a folder of good pictures. Without it, the built-in sample.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the toolkit's commands; called through the entry point."""
    app.command()(export)
    app.command()(evaluate)
    app.command()(sample)


def export(
    class_name: Annotated[str | None, typer.Option("--class", help="Name of the part, such as bottle.")] = None,
    data: DataOption = None,
    backbone: Annotated[str | None, typer.Option(help="resnet18 or builtin; resnet18 where --data is given.")] = None,
    weights: Annotated[str, typer.Option(metavar="auto|FILE", help="A .safetensors or .pth file, or auto.")] = "auto",
    preset: Annotated[str, typer.Option(help="edge, accurate or paper.")] = "edge",
    dims: Annotated[int | None, typer.Option(help="Embedding dimensions kept; 100 unless given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the reduction.")] = 0,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="<class>.onnx unless given.")] = None,
    keep_statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also save the statistics, as .npz.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the backbone runs while fitting: " + DEVICE_HELP)] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good pictures and write one fused ONNX model."""
    import dataclasses

    from padim_edge import datasets
    from padim_edge.presets import PRESETS
    from padim_edge_runtime import progress

    if preset not in PRESETS:
        raise PadimEdgeError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    chosen = PRESETS[preset] if dims is None else dataclasses.replace(PRESETS[preset], dims=dims)
    if data is None:
        if class_name is None:
            raise PadimEdgeError("neither --class nor --data is given; try padim-edge export --class bottle")
        dataset = datasets.from_sample(class_name, test=False)
    else:
        dataset = datasets.from_folder(data, class_name)
    if keep_statistics is not None and not keep_statistics.resolve().parent.is_dir():
        raise PadimEdgeError(f"the folder of {keep_statistics} does not exist; make it or choose another one")

    from padim_edge.build import build, check_output
    from padim_edge_export import backbones

    target = output or Path(f"{dataset.class_name}.onnx")
    check_output(target)
    with progress.bar("loading the backbone", None):
        trunk = backbones.load(backbone or ("resnet18" if data else "builtin"), weights)
    built = build(
        dataset,
        target,
        chosen,
        trunk,
        seed=seed,
        device=device,
        report=progress.bar,
    )
    if keep_statistics is not None:
        built.statistics.save(keep_statistics)
    _tell(built, chosen, as_json=as_json)


def _tell(built: Built, preset: Preset, *, as_json: bool) -> None:
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
    if as_json:
        print_json(
            {
                "model": str(built.model),
                "bytes": built.bytes,
                "pictures": pictures,
                "threshold": built.metadata.threshold,
                "seconds": round(built.seconds, 3),
            }
        )
        return
    typer.echo(
        f"{built.model}: {built.metadata.backbone.name}, preset {preset.name}, {pictures} good pictures, threshold "
        f"{built.metadata.threshold:.2f}, {built.bytes / 1e6:.1f} MB, {built.seconds:.1f} s"
    )


def evaluate(
    model: ModelArgument,
    data: DataOption = None,
    class_name: Annotated[str | None, typer.Option("--class", help="The model's own class unless given.")] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good a model is on labelled test pictures."""
    from padim_edge import datasets
    from padim_edge.evaluate import evaluate as run
    from padim_edge_runtime import progress
    from padim_edge_runtime.detector import Detector

    detector = Detector.load(model, device)
    name = class_name or detector.metadata.class_name
    dataset = datasets.from_sample(name, test=True) if data is None else datasets.from_folder(data, name)
    with progress.bar("evaluating", len(dataset.test)) as advance:
        evaluation = run(detector, dataset, advance)
    for sentence in evaluation.unreadable:
        warn(f"left out: {sentence}")
    if evaluation.without_mask:
        warn(f"{evaluation.without_mask} anomalous pictures have no mask; they count in the image metrics only")
    metrics = _metrics(evaluation)
    if as_json:
        print_json({"classes": {dataset.class_name: metrics}, "mean": metrics})
        return
    typer.echo(f"{dataset.class_name}: {evaluation.good} good and {evaluation.anomalous} anomalous pictures")
    for key in ("image_auroc", "image_ap", "pixel_auroc", "false_alarm_rate", "miss_rate"):
        value = metrics[key]
        typer.echo(f"{key.replace('_', ' '):>17}  {'undefined' if value is None else f'{value:.4f}'}")


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(evaluation), "unreadable": len(evaluation.unreadable)}


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
