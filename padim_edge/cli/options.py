"""Options that several of the workstation's commands share, with the same names and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import DECISION, INPUT, OUTPUT, warn

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.presets import Options
    from padim_edge_artifact.method import Method

__all__ = [
    "ClassOption",
    "ClassesOption",
    "DataOption",
    "EveryOption",
    "ExcludeOption",
    "ExcludeSuspectsOption",
    "FalseAlarmOption",
    "GroupOption",
    "KeepOption",
    "ModelOption",
    "PerturbOption",
    "ReportOption",
    "RoiOption",
    "SeedOption",
    "StatisticsOption",
    "SuspectsOption",
    "TrtexecOption",
    "chosen_method",
    "class_names",
    "given_options",
    "open_dataset",
    "refuse_fixed",
    "report_unreadable",
    "tell_unused_seed",
]

_FIT = (
    "backbone",
    "layers",
    "weights",
    "preset",
    "precision",
    "target",
    "reduction",
    "dims",
    "size",
    "frame",
    "levels",
    "color",
    "seed",
    "prototypes",
    "turned",
    "budget",
    "improve",
    "keep_statistics",
)
"""Options that decide a fit, or what comes with it."""

METHOD, BACKBONE = "Method", "Backbone"
"""Panels of options in `--help`, beside those of the device's commands."""


ClassOption = Annotated[
    str | None, typer.Option("--class", help="Name of the part, such as bottle.", rich_help_panel=INPUT)
]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="MVTec AD, BTAD or VisA, video frames or files, a CSV list, a folder of good images; else the sample.",
        rich_help_panel=INPUT,
    ),
]

PerturbOption = Annotated[
    str | None,
    typer.Option(
        metavar="rotate=10,crop",
        help="Turn and crop every image at random, as in the paper's Rd-MVTec AD.",
        rich_help_panel=INPUT,
    ),
]

EveryOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Take every Nth frame of each video to fit on; 1 takes all. By default about 3 a second.",
        rich_help_panel=INPUT,
    ),
]

GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="folder|video|COLUMN",
        help="Images that show the same part and count as one: those of a folder, of a video, or with the same value "
        "in a column of the CSV list. By default, the images tell.",
        rich_help_panel=INPUT,
    ),
]

ExcludeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Leave good images out of the fit: a text file with the name of one image a line.",
        rich_help_panel=INPUT,
    ),
]

ExcludeSuspectsOption = Annotated[
    bool,
    typer.Option(
        "--exclude-suspects", help="Leave out good images that look unlike the others.", rich_help_panel=INPUT
    ),
]

ReportOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write an HTML report that opens without a network.", rich_help_panel=OUTPUT
    ),
]

SuspectsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Write heat maps of the good images that look unlike the others.", rich_help_panel=OUTPUT
    ),
]

SeedOption = Annotated[
    int, typer.Option(min=0, help="Random seed for the reduction and for --perturb.", rich_help_panel=METHOD)
]

ClassesOption = Annotated[
    str | None,
    typer.Option("--class", help="Name of the part, such as bottle; several as a,b or all.", rich_help_panel=INPUT),
]

StatisticsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Make the model of statistics that fit or merge wrote, without fitting. --data names good images among "
        "those that were fitted on; they set the threshold.",
        rich_help_panel=INPUT,
    ),
]

FalseAlarmOption = Annotated[
    float,
    typer.Option(help="Share of good images that may raise an alarm; sets the threshold.", rich_help_panel=DECISION),
]

RoiOption = Annotated[
    Path | None,
    typer.Option(metavar="MASK", help="Image of the region to inspect: white inside.", rich_help_panel=DECISION),
]

ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE|DIR",
        help="Model file, or a folder for several classes. By default <class>.onnx.",
        rich_help_panel=OUTPUT,
    ),
]

KeepOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write the statistics, as .npz, for update and merge.", rich_help_panel=OUTPUT
    ),
]

TrtexecOption = Annotated[
    int | None,
    typer.Option(metavar="BATCH", help="Also print the trtexec calls that build an engine.", rich_help_panel=OUTPUT),
]


def class_names(data: Path | None, asked: str | None) -> tuple[str | None, ...]:
    """Return the classes that `--class` means: one, several as `a,b`, or `all`."""
    if asked == "all":
        from padim_edge import datasets

        return datasets.class_names(data)
    return tuple(name.strip() for name in asked.split(",") if name.strip()) if asked else (None,)


def open_dataset(
    data: Path | None,
    name: str | None,
    perturb: str | None = None,
    seed: int = 0,
    *,
    every: int | None = None,
    group: str | None = None,
    exclude: Path | None = None,
) -> Dataset:
    """Open one class of the data without the images that `exclude` lists, and print its notes on stderr."""
    from padim_edge import datasets

    dataset = datasets.from_source(data, name, every=every, group=group)
    if exclude is not None:
        from padim_edge.datasets.excluding import excluded

        dataset = excluded(dataset, exclude)
    if perturb is not None:
        from padim_edge.datasets.perturb import parse, perturbed

        dataset = perturbed(dataset, **parse(perturb), seed=seed)
    for note in dataset.notes:
        warn(f"{dataset.class_name}: {note}")
    return dataset


def report_unreadable(sentences: tuple[str, ...]) -> None:
    """Print a line on stderr for each image that was left out."""
    for sentence in sentences:
        warn(f"left out: {sentence}")


def given_options(context: typer.Context) -> set[str]:
    """Return the names of the options that were typed on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def refuse_fixed(given: set[str], by: str) -> None:
    """Refuse options that other statistics decide: those that the option `by` names.

    Raises:
        PadimEdgeError: Such an option is given. `--seed` may stand beside `--perturb`, whose seed it also is.
    """
    for name in _FIT if by in given else ():
        if name in given and not (name == "seed" and "perturb" in given):
            raise PadimEdgeError(
                f"--{by} fixes --{name.replace('_', '-')}; leave that out, or fit again and leave --{by} out"
            )


def tell_unused_seed(given: set[str], reduction: str | None) -> None:
    """Warn of a seed that nothing is drawn with."""
    if "seed" in given and "perturb" not in given and reduction == "pca":
        warn("--seed has no effect, because --reduction pca draws nothing at random")


def chosen_method(name: str, data: Path | None, options: Options) -> Method:
    """Return the method that the options mean; without data of one's own, the built-in backbone is the default."""
    from padim_edge.presets import preset

    if options.get("backbone") is None:
        options["backbone"] = "resnet18" if data else "builtin"
    return preset(name, **options)
