"""What data sets are made of, and how images, masks and classes are found on a disk."""

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
    "folders",
    "images",
    "item",
    "masks_by_stem",
    "name_of",
    "read_mask",
]

GOOD = "good"
"""Kind of an image without defects."""

ANOMALY = "anomaly"
"""Kind of an image with defects where the data set does not tell them apart."""

ENDINGS = ", ".join(sorted(image_files.SUFFIXES))
"""Of images, for messages."""

Mask = npt.NDArray[np.bool_]

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
_RAW = frozenset(("1", "L", "P", "I", "F", "RGB"))


@dataclass(frozen=True)
class Item:
    """One image of a data set, not yet decoded."""

    name: str
    """Where it comes from, for messages."""
    kind: str
    """`GOOD` or the kind of defect."""
    read: Callable[[], image_files.Decoded]
    """Decodes the image; raises ImageError."""
    mask: Callable[[], Mask] | None
    """Decodes the ground truth `(height, width)`, True where the defect is; `None` where there is none."""
    key: str = ""
    """Where it lies inside the data set, with slashes: the same wherever the data set lies. Empty: as `name`."""


@dataclass(frozen=True)
class Dataset:
    """Good images to fit on, and labelled ones to evaluate with."""

    class_name: str
    good: tuple[Item, ...]
    test: tuple[Item, ...]
    """Empty where the folder has no test images."""
    notes: tuple[str, ...] = ()
    """What was assumed or looks odd, one sentence each without a full stop; mostly empty."""


def item(path: Path, kind: str, mask: Path | None, key: str) -> Item:
    """An image on disk. Good images have no mask, whatever is on disk; see `contradictions`."""
    with_mask = mask is not None and kind != GOOD
    return Item(
        str(path), kind, partial(image_files.read, path), partial(read_mask, mask) if with_mask and mask else None, key
    )


def first_size(dataset: Dataset) -> tuple[int, int] | None:
    """(width, height) in pixels of the first good image that can be read; the fit names the others."""
    for each in dataset.good:
        try:
            return each.read().image.size
        except ImageError:
            continue
    return None


def images(folder: Path) -> list[Path]:
    """Images directly in a folder, sorted by name; none where there is no such folder.

    Links that lead nowhere are kept: reading them says so, and passing over them would not.
    """
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in image_files.SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, hidden ones passed over, sorted by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def name_of(data: Path) -> str:
    """What a file or folder is called: as the user names it, so that a link may give a class its name."""
    named = data.resolve() if data.name in ("", "..") else data
    return named.stem if data.is_file() else named.name


def class_folders(data: Path, marker: str) -> dict[str, Path]:
    """The folder of each class by its name: `data` itself where it holds `marker`, else its sub-folders that do."""
    if (data / marker).is_dir():
        return {name_of(data): data}
    return {folder.name: folder for folder in folders(data) if (folder / marker).is_dir()}


def choose(data: Path, names: Collection[str], class_name: str | None) -> str:
    """The class that is meant: the named one, or the only one.

    Raises:
        PadimEdgeError: There is no such class, or none is named and there are several.
    """
    if class_name in names and class_name is not None:
        return class_name
    if class_name is None and len(names) == 1:
        return next(iter(names))
    wrong = "holds several classes" if class_name is None else f"has no class {class_name!r}"
    raise PadimEdgeError(f"{data} {wrong}; choose one of them with --class: {', '.join(sorted(names))}")


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Masks in a folder by the stem of the image that they belong to: `<stem>_mask.png`, or `<stem>.png`."""
    found = {path.stem: path for path in reversed(images(folder))}
    return {**found, **{stem.removesuffix("_mask"): path for stem, path in found.items() if stem.endswith("_mask")}}


def read_mask(path: Path) -> Mask:
    """Ground truth of any mode: every pixel above 0 is defective.

    Palettes and single bits count by their index and not by their colour, since class indices are stored so. Of
    colours, any channel counts; what is fully transparent does not.

    Raises:
        ImageError: It cannot be decoded.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            # Images are turned as EXIF says, so their masks are, too.
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
    """A note where good images have masks with defects.

    Args:
        masks: (good image, its mask).
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
            f"{wrong[0]}; counted as good, so check the labels"
        )
    if torn:
        notes.append(f"of the good images' masks, {len(torn)} cannot be read; first: {torn[0]}")
    return tuple(notes)
