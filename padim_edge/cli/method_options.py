"""Options of the method: everything that decides what is fitted and what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from padim_edge.cli.options import BACKBONE, METHOD
from padim_edge_runtime.cli.options import any_case

__all__ = [
    "BackboneOption",
    "BudgetOption",
    "ColorOption",
    "DiagonalOption",
    "DimsOption",
    "FastOption",
    "FrameOption",
    "ImproveOption",
    "LayersOption",
    "LevelsOption",
    "MemoryShareOption",
    "PrecisionOption",
    "PresetOption",
    "PrototypesOption",
    "RankOption",
    "ReductionOption",
    "SizeOption",
    "TargetOption",
    "TurnedOption",
    "WeightsOption",
]


def _words(name: str) -> Callable[[], Iterable[str]]:
    """Return a function that gives `PRECISIONS`, `TARGETS`, `REDUCTIONS` or `PRESETS`."""

    def words() -> Iterable[str]:
        from padim_edge import presets
        from padim_edge_artifact import method

        found: Iterable[str] = presets.PRESETS if name == "PRESETS" else getattr(method, name)
        return found

    return words


BackboneOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="resnet18, resnet50, wide_resnet50_2, efficientnet_b5, efficientnet_b0, mobilenet_v3_large or builtin; "
        "with --layers any classification model of torchvision. By default resnet18 with --data, otherwise builtin.",
        rich_help_panel=BACKBONE,
    ),
]

LayersOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C", help="Modules of the backbone whose outputs are the features.", rich_help_panel=BACKBONE
    ),
]

WeightsOption = Annotated[
    str,
    typer.Option(
        metavar="auto|FILE",
        help="A .safetensors or .pth file. auto takes torchvision's weights, or the built-in ones.",
        rich_help_panel=BACKBONE,
    ),
]

PresetOption = Annotated[
    str,
    typer.Option(
        help="edge, accurate or paper for parts that lie still; free or patchcore for parts that lie anyhow; auto has "
        "both kinds and finds out which one to trust.",
        rich_help_panel=METHOD,
        **any_case(_words("PRESETS")),
    ),
]

PrecisionOption = Annotated[
    str,
    typer.Option(
        help="fp32, fp16 or int8: number types of backbone and constants.",
        rich_help_panel=METHOD,
        **any_case(_words("PRECISIONS")),
    ),
]

TargetOption = Annotated[
    str,
    typer.Option(
        help="cpu or tensorrt: engine that an int8 model is for. tensorrt also checks that TensorRT takes every node.",
        rich_help_panel=METHOD,
        **any_case(_words("TARGETS")),
    ),
]

ReductionOption = Annotated[
    str | None,
    typer.Option(
        help="random, semi-orthogonal or pca. By default the preset's own.",
        rich_help_panel=METHOD,
        **any_case(_words("REDUCTIONS")),
    ),
]

DimsOption = Annotated[
    int | None,
    typer.Option(
        help="Number of embedding dimensions. By default 100, with wide_resnet50_2 550.", rich_help_panel=METHOD
    ),
]

SizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="Size in pixels that the whole image is brought to, without a crop.",
        rich_help_panel=METHOD,
    ),
]

FrameOption = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Size of the camera's raw frames, such as 1080x1920: the model then resizes them itself.",
        rich_help_panel=METHOD,
    ),
]

LevelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="MIN:MAX",
        help="Range of the camera's values in images of more than 8 bits a channel, such as 0:1023 for 10 bits. By "
        "default, the good images tell.",
        rich_help_panel=METHOD,
    ),
]

ColorOption = Annotated[
    str | None,
    typer.Option(
        help="rgb or bgr: order of the channels that the graph takes. bgr is for servers that decode images to BGR, "
        "such as OpenVINO Model Server. By default rgb.",
        rich_help_panel=METHOD,
        **any_case(lambda: ("rgb", "bgr")),
    ),
]

RankOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Make the model smaller: keep the N main directions of each Gaussian.", rich_help_panel=METHOD
    ),
]

DiagonalOption = Annotated[
    bool, typer.Option("--diagonal", help="Keep only the variances of each Gaussian.", rich_help_panel=METHOD)
]

BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Choose the most accurate form that fits into SIZE, such as 20MB.",
        rich_help_panel=METHOD,
    ),
]

PrototypesOption = Annotated[
    str | None,
    typer.Option(
        metavar="M|SHARE%",
        help="Number of prototypes of a memory (presets free and patchcore), or share of the good images' patches.",
        rich_help_panel=METHOD,
    ),
]

TurnedOption = Annotated[
    bool,
    typer.Option(
        "--turned",
        help="Let a memory learn from each good image flipped and turned as well. It helps where few images show parts "
        "that lie at any angle, and hides parts that are mirrored.",
        rich_help_panel=METHOD,
    ),
]

MemoryShareOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        help="Share of the memory in a model of both kinds (preset auto), 0 to 1. By default, defects drawn on the "
        "good images decide.",
        rich_help_panel=METHOD,
    ),
]

FastOption = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Draw no defects: both kinds of preset auto count alike, and nothing is said about what the model sees.",
        rich_help_panel=METHOD,
    ),
]

ImproveOption = Annotated[
    float | None,
    typer.Option(
        metavar="MINUTES",
        help="Try other presets, larger frames, more dimensions and another backbone for so long, and take what finds "
        "most of the defects that are drawn on the good images.",
        rich_help_panel=METHOD,
    ),
]
