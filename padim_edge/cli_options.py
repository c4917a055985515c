"""Options that several of the workstation's commands share, and the data set that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_runtime.cli import warn

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset

__all__ = ["DataOption", "PerturbOption", "class_names", "open_dataset"]

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


def class_names(data: Path | None, asked: str | None) -> tuple[str | None, ...]:
    """The classes that `--class` means."""
    if asked == "all":
        from padim_edge import datasets, sample

        return sample.CLASSES if data is None else datasets.class_names(data)
    return tuple(name.strip() for name in asked.split(",") if name.strip()) if asked else (None,)


def open_dataset(data: Path | None, name: str | None, *, test: bool, perturb: str | None, seed: int) -> Dataset:
    """One class, with remarks on stderr."""
    from padim_edge import datasets

    dataset = datasets.from_sample(name or "", test=test) if data is None else datasets.from_folder(data, name)
    if perturb is not None:
        from padim_edge.perturb import parse, perturbed

        dataset = perturbed(dataset, **parse(perturb), seed=seed)
    for note in dataset.notes:
        warn(f"{dataset.class_name}: {note}")
    return dataset
