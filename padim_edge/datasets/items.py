"""The values that a data set consists of, and how images, masks and classes are found on a disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import image_files
from padim_edge_runtime.image_formats import SUFFIXES

__all__ = [
    "ANOMALY",
    "ENDINGS",
    "GOOD",
    "UNDECODABLE",
    "Dataset",
    "Item",
    "Mask",
    "choose",
    "class_folders",
    "contradictions",
    "first_size",
    "folders_in",
    "images_in",
    "item",
    "masks_by_stem",
    "name_of",
    "read_mask",
]

GOOD = "good"
"""Kind of an image without defects."""

ANOMALY = "anomaly"
"""Kind of an image with a defect, in a data set that does not name the kinds of defect."""

ENDINGS = ", ".join(sorted(SUFFIXES))
"""File name endings of images, for messages."""

Mask = npt.NDArray[np.bool_]
"""Ground truth `(height, width)` bool, True where the defect is."""

UNDECODABLE = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow raises for damaged images."""

_WITH_ALPHA = frozenset(("LA", "La", "PA", "RGBA", "RGBa"))
"""Modes of Pillow whose last channel is opacity."""
_RAW = frozenset(("1", "L", "P", "I", "F", "RGB"))
"""Modes of Pillow whose numbers are compared with 0 as they are. Others, such as CMYK, are brought to RGB first."""


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
    with_mask = mask is not None and kind != GOOD
    return Item(
        str(path), kind, partial(image_files.read, path), partial(read_mask, mask) if with_mask and mask else None, key
    )


def first_size(dataset: Dataset) -> tuple[int, int] | None:
    """Return (width, height) in pixels of the first good image that can be read, `None` if none can."""
    for each in dataset.good:
        try:
            return each.read().image.size
        except ImageError:
            continue
    return None


def images_in(folder: Path) -> list[Path]:
    """List the images directly in a folder, sorted by name; none if there is no such folder.

    Broken links are listed too, so that reading them gives an error. Skipping them would hide it.
    """
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def folders_in(folder: Path) -> list[Path]:
    """List the folders directly in a folder, without hidden ones, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def name_of(data: Path) -> str:
    """Return the name of a folder, or of a file without its ending. A link is not followed: its name counts."""
    named = data.resolve() if data.name in ("", "..") else data
    return named.stem if data.is_file() else named.name


def class_folders(data: Path, marker: str) -> dict[str, Path]:
    """Map the name of each class to its folder: `data` itself if `marker` is in it, else each sub-folder with one."""
    if (data / marker).is_dir():
        return {name_of(data): data}
    return {folder.name: folder for folder in folders_in(data) if (folder / marker).is_dir()}


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


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Map the stem of each image to its mask in this folder: `<stem>_mask.png`, else `<stem>.png`."""
    found = {path.stem: path for path in reversed(images_in(folder))}
    return {**found, **{stem.removesuffix("_mask"): path for stem, path in found.items() if stem.endswith("_mask")}}


def read_mask(path: Path) -> Mask:
    """Decode a ground truth image of any mode. A pixel above 0 is defective.

    In a colour image, one channel above 0 is enough. A fully transparent pixel is good. In an image with a palette, the
    index counts and not the colour, because tools store class numbers this way.

    Raises:
        ImageError: The file cannot be decoded.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            # Images are turned as EXIF says, so their masks must be turned too.
            upright = ImageOps.exif_transpose(image)
            mode = upright.mode
            if mode not in _RAW | _WITH_ALPHA and not mode.startswith("I;16"):
                upright = upright.convert("RGB")
            values: Mask = np.asarray(upright) > 0
    except UNDECODABLE as error:
        raise ImageError(
            f"the mask {path} cannot be decoded ({error}); expected a PNG, black where all is good"
        ) from error
    if mode in _WITH_ALPHA:
        values[..., :-1] &= values[..., -1:]
        values = values[..., :-1]
    return np.asarray(values.reshape(*values.shape[:2], -1).any(axis=-1))


def contradictions(masks: Iterable[tuple[Path, Path]]) -> tuple[str, ...]:
    """Return notes on good images whose masks mark a defect, and on masks that cannot be read.

    Args:
        masks: (good image, its mask) for every good image that has a mask.
    """
    wrong, torn = [], []
    for image, mask in masks:
        try:
            if read_mask(mask).any():
                wrong.append(image)
        except ImageError as error:
            torn.append(str(error))
    notes = []
    if wrong:
        notes.append(
            f"{len(wrong)} good image{'s have masks' if len(wrong) > 1 else ' has a mask'} with defects, first "
            f"{wrong[0]}; they count as good, so check the labels"
        )
    if torn:
        notes.append(f"{len(torn)} mask{'s' if len(torn) > 1 else ''} of good images cannot be read; first: {torn[0]}")
    return tuple(notes)
