"""Leaving good images out of a fit by their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from padim_edge.datasets.items import Dataset, Item
from padim_edge_artifact import PadimEdgeError

__all__ = ["excluded", "without"]


def without(dataset: Dataset, names: Collection[str]) -> Dataset:
    """Return the data set without the good images of these `Item.name`s."""
    return replace(dataset, good=tuple(item for item in dataset.good if item.name not in names))


def excluded(dataset: Dataset, listed: Path) -> Dataset:
    """Return the data set without the good images that a text file lists.

    Each line names an image: its path, its path inside the data set, or its file name where only one image has it.
    Empty lines, and lines that begin with #, are passed over.

    Raises:
        PadimEdgeError: The file cannot be read, or a line names no good image or several.
    """
    try:
        text = listed.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PadimEdgeError(
            f"{listed} cannot be read as text ({error}); expected the name of one image a line"
        ) from error
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word and not word.startswith("#"):
            names.add(_named(dataset, word, f"line {number} of {listed}").name)
    return without(dataset, names)


def _named(dataset: Dataset, word: str, place: str) -> Item:
    slashes = word.replace("\\", "/")
    for found in (
        [item for item in dataset.good if slashes in (item.name.replace("\\", "/"), item.key)],
        [item for item in dataset.good if (item.key or item.name).rsplit("/", 1)[-1] == slashes],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise PadimEdgeError(
                f"{place} names {word}, which {len(found)} good images are called; give its path, such as "
                f"{found[0].key or found[0].name}"
            )
    raise PadimEdgeError(
        f"{place} names {word}, which is no good image of {dataset.class_name}; correct the name or delete the line"
    )
