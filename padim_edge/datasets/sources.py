"""The one way in: whatever a user names or hands over becomes a data set. Commands and Python interface share it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from padim_edge.datasets import given, layouts
from padim_edge.datasets.drawn import from_sample
from padim_edge.datasets.items import Dataset
from padim_edge.datasets.selection import Selection, grouped
from padim_edge.datasets.shapes import shapes
from padim_edge.sample.draw import CLASSES
from padim_edge_runtime.image_files import ImageLike

__all__ = ["Source", "class_names", "from_source"]

Source: TypeAlias = "str | os.PathLike[str] | Iterable[ImageLike] | Dataset | None"
"""Anything that `from_source` takes."""


def from_source(
    source: Source, class_name: str | None = None, *, every: int | None = None, group: str | None = None
) -> Dataset:
    """Return the data set that a user means.

    Args:
        source: One of:

            * a path: a data set's folder, a folder of good images, a CSV file or a video; see `from_folder`;
            * good images: a list of paths, or any iterable of arrays or Pillow images; see `from_images`;
            * `None`: the built-in sample;
            * a `Dataset`, which is returned as it is.
        class_name: The class to take where there are several. Where there is one, its name.
        every: Take every Nth frame of each video to fit on; see `from_folder`.
        group: Which images show the same part: `folder`, `video`, or a column of the CSV file; see `from_folder`.

    Raises:
        PadimEdgeError: Nothing is there, there is no such class, what is there are no images, or `every` or `group`
            does not suit the data.
    """
    selection = Selection(every, group)
    if source is None:
        selection.refuse("the built-in sample")
        return from_sample(class_name)
    if isinstance(source, Dataset):
        selection.refuse("a Dataset that is ready")
        return source
    if isinstance(source, (str, os.PathLike)):
        return layouts.from_folder(Path(source), class_name, every=every, group=group)
    selection.refuse_every("single images")
    dataset = grouped(given.from_images(source, class_name), group, frames=False)
    return replace(dataset, notes=(*dataset.notes, *shapes(dataset)))


def class_names(data: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Return the names of all classes of a data set on disk, or of the built-in sample (`None`).

    Raises:
        PadimEdgeError: There is no such folder, or no data set in it.
    """
    return CLASSES if data is None else layouts.class_names(Path(data))
