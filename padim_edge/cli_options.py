"""Options that several of the workstation's commands share, and the data set that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_runtime.cli import warn

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.presets import Preset
    from padim_edge_export.backbones import Trunk

__all__ = [
    "BackboneOption",
    "DataOption",
    "DimsOption",
    "FrameOption",
    "LayersOption",
    "PerturbOption",
    "PresetOption",
    "ReductionOption",
    "SizeOption",
    "TargetOption",
    "WeightsOption",
    "class_names",
    "method",
    "open_dataset",
    "tell_stretched",
]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="MVTec AD, BTAD or VisA, video frames or files, a CSV list, a folder of good images; else the sample.",
    ),
]

PerturbOption = Annotated[
    str | None,
    typer.Option(metavar="rotate=10,crop", help="Turn and crop every image at random, as the paper's Rd-MVTec AD."),
]

BackboneOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="resnet18, resnet50, wide_resnet50_2, efficientnet_b5, efficientnet_b0, mobilenet_v3_large or builtin; "
        "with --layers any classification model of torchvision. resnet18 where --data is given, otherwise builtin.",
    ),
]

LayersOption = Annotated[
    str | None, typer.Option(metavar="A,B,C", help="Modules of the backbone whose outputs are the features.")
]

WeightsOption = Annotated[str, typer.Option(metavar="auto|FILE", help="A .safetensors or .pth file, or auto.")]

PresetOption = Annotated[str, typer.Option(help="edge, accurate or paper.")]

TargetOption = Annotated[
    str, typer.Option(help="cpu or tensorrt: whose int8. tensorrt also checks that TensorRT takes every node.")
]

ReductionOption = Annotated[
    str | None, typer.Option(help="random, semi-orthogonal or pca; the preset's own unless given.")
]

DimsOption = Annotated[
    int | None, typer.Option(help="Embedding dimensions kept; 100 unless given, of wide_resnet50_2 550.")
]

SizeOption = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Size in pixels to bring the whole frame to, without a crop.")
]

FrameOption = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Take the camera's raw frames of this size, as 1080x1920: the model then resizes by itself.",
    ),
]


def class_names(data: Path | None, asked: str | None) -> tuple[str | None, ...]:
    """The classes that `--class` means."""
    if asked == "all":
        from padim_edge import datasets

        return datasets.class_names(data)
    return tuple(name.strip() for name in asked.split(",") if name.strip()) if asked else (None,)


def open_dataset(data: Path | None, name: str | None, *, perturb: str | None, seed: int) -> Dataset:
    """One class, with remarks on stderr."""
    from padim_edge import datasets

    dataset = datasets.from_source(data, name)
    if perturb is not None:
        from padim_edge.datasets.perturb import parse, perturbed

        dataset = perturbed(dataset, **parse(perturb), seed=seed)
    for note in dataset.notes:
        warn(f"{dataset.class_name}: {note}")
    return dataset


def tell_stretched(dataset: Dataset, preset: Preset) -> None:
    """Remark on stderr that the good images have another size than the camera's frames."""
    from padim_edge.datasets.items import first_size

    camera, size = preset.preprocessing.camera, first_size(dataset)
    if camera is not None and size is not None and size != camera[::-1]:
        warn(
            f"{dataset.class_name}: the images have {size[1]}x{size[0]} pixels (height x width) and not the "
            f"{camera[0]}x{camera[1]} of --frame; they are stretched to that first, so fit on the camera's own frames"
        )


def method(
    data: Path | None,
    *,
    backbone: str | None,
    layers: str | None,
    weights: str,
    preset: str,
    reduction: str | None,
    dims: int | None,
    size: str | None,
    frame: str | None = None,
) -> tuple[Preset, Trunk]:
    """The preset and the backbone that the options mean.

    Raises:
        PadimEdgeError: An unknown preset, backbone or layer, or weights that do not fit.
    """
    from dataclasses import replace

    from padim_edge.presets import choose, parse_frame
    from padim_edge_export import backbones

    network = backbone or ("resnet18" if data else "builtin")
    named = None if layers is None else tuple(name.strip() for name in layers.split(",") if name.strip())
    # The preset comes first: a wrong size is told without minutes of download.
    kept = backbones.default_dims(network) if dims is None else dims
    camera = None if frame is None else parse_frame(frame)
    chosen = choose(preset, dims=kept, size=size, reduction=reduction, camera=camera)
    trunk = backbones.load(network, weights, named)
    if dims is None:  # a network's usual number may be more than these layers have
        chosen = replace(chosen, dims=min(kept, sum(trunk.description.channels)))
    return chosen, trunk
