"""The values that a data set consists of, and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from padim_edge.datasets.masks import Mask, read_mask
from padim_edge.datasets.trees import folders_in
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import image_files
from padim_edge_runtime.image_formats import SUFFIXES
from padim_edge_runtime.pixel_values import Extent

__all__ = [
    "ANOMALY",
    "ENDINGS",
    "GOOD",
    "Dataset",
    "Item",
    "Mask",
    "Stored",
    "choose",
    "class_folders",
    "first_size",
    "item",
    "name_of",
]

GOOD = "good"
"""Kind of an image without defects."""

ANOMALY = "anomaly"
"""Kind of an image with a defect, in a data set that does not name the kinds of defect."""

ENDINGS = ", ".join(sorted(SUFFIXES))
"""File name endings of images, for messages."""


@dataclass(frozen=True)
class Stored:
    """An image as it is stored, which may have more than 8 bits a channel."""

    decode: Callable[[Levels], image_files.Decoded]
    """Function that decodes the image with a range of values; raises ImageError."""
    extent: Callable[[], Extent | None]
    """Function that measures the lowest and highest value, `None` for 8 bits a channel; raises ImageError."""

    @classmethod
    def of(cls, path: Path) -> Stored:
        """Return the stored image of a file."""
        return cls(partial(_read, path), partial(image_files.extent_of, path))


@dataclass(frozen=True)
class Item:
    """One image of a data set, not yet decoded."""

    name: str
    """Path or description of the image, for messages."""
    kind: str
    """`GOOD` or the kind of defect."""
    read: Callable[[], image_files.Decoded]
    """Function that decodes the image; raises ImageError."""
    mask: Callable[[], Mask] | None
    """Function that decodes the ground truth, raises ImageError; `None` where there is no ground truth."""
    key: str = ""
    """Path inside the data set, with slashes, the same wherever the data set lies. Empty: the same as `name`."""
    stored: Stored | None = None
    """The image as it is stored; `None` where it surely has 8 bits a channel."""
    group: str | None = None
    """Name of the group of images that show the same part, as the user gave it; `None` where nobody did. Images of a
    group are no evidence independent of each other."""
    file: Path | None = None
    """File that holds the image alone; `None` for a frame of a video, and for pixels in memory."""
    aspect: float | None = None
    """Width / height where it is known without looking into the file; `None` where the file tells."""

    def decoded(self, levels: Levels | None) -> image_files.Decoded:
        """Decode the image with a range of values, as in `Preprocessing.levels`; raises ImageError."""
        return self.read() if levels is None or self.stored is None else self.stored.decode(levels)


@dataclass(frozen=True)
class Dataset:
    """Good images to fit on, and labelled ones to evaluate with."""

    class_name: str
    """Name of the class: the part that all images show."""
    good: tuple[Item, ...]
    """Good images to fit on."""
    test: tuple[Item, ...]
    """Labelled images to evaluate with, good and defective; empty where there are none."""
    notes: tuple[str, ...] = ()
    """Remarks on what was assumed or looks wrong, one sentence each without a full stop; mostly empty."""


def item(path: Path, kind: str, mask: Path | None, key: str) -> Item:
    """Return the item of an image on disk. A good image gets no mask, even if there is one; see `contradictions`."""
    truth = partial(read_mask, mask) if mask is not None and kind != GOOD else None
    return Item(str(path), kind, partial(image_files.read, path), truth, key, Stored.of(path), file=path)


def _read(path: Path, levels: Levels) -> image_files.Decoded:
    return image_files.read(path, levels=levels)


def first_size(dataset: Dataset, levels: Levels | None) -> tuple[int, int] | None:
    """Return (width, height) in pixels of the first good image that can be read, `None` if none can."""
    for each in dataset.good:
        try:
            return each.decoded(levels).image.size
        except ImageError:
            continue
    return None


def name_of(data: Path) -> str:
    """Return the name of a folder, or of a file without its ending. A link is not followed: its name counts."""
    named = data.resolve() if data.name in ("", "..") else data
    return named.stem if data.is_file() else named.name


def class_folders(data: Path, here: Callable[[Path], bool]) -> dict[str, Path]:
    """Map the name of each class to its folder: `data` itself if it is one, else each sub-folder that is one.

    Args:
        data: The folder.
        here: Function that tells whether a folder is that of a class.
    """
    if here(data):
        return {name_of(data): data}
    return {folder.name: folder for folder in folders_in(data) if here(folder)}


def choose(data: Path, names: Collection[str], class_name: str | None) -> str:
    """Return the class that the user means: the named one, or the only one.

    Raises:
        PadimEdgeError: There is no such class, or there are several and none is named.
    """
    if class_name in names and class_name is not None:
        return class_name
    if class_name is None and len(names) == 1:
        return next(iter(names))
    wrong = "holds several classes" if class_name is None else f"has no class {class_name!r}"
    raise PadimEdgeError(
        f"{data} {wrong}; choose one of them with --class: {', '.join(sorted(names))} (class_name in Python)"
    )
