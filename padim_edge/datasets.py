"""Data sets as users have them: an MVTec AD root, one class folder, a plain folder of good pictures, or the sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import images

__all__ = ["GOOD", "Dataset", "Item", "from_folder", "from_sample"]

GOOD = "good"
"""Kind of a picture without defects."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Item:
    """One picture of a data set, not yet decoded."""

    name: str
    """Where it comes from, for messages."""
    kind: str
    """`GOOD` or the kind of defect."""
    read: Callable[[], images.Picture]
    """Decodes the picture; raises ImageError."""
    mask: Callable[[], Mask] | None
    """Decodes the ground truth `(height, width)`, True where the defect is; `None` where there is none."""


@dataclass(frozen=True)
class Dataset:
    """Good pictures to fit on, and labelled ones to evaluate with."""

    class_name: str
    good: tuple[Item, ...]
    test: tuple[Item, ...]
    """Empty where the folder has no test pictures."""


def from_folder(data: Path, class_name: str | None) -> Dataset:
    """A data set on disk.

    `data` may be an MVTec AD root (`data/<class>/train/good`), one class folder (`data/train/good`), or any folder
    of good pictures (not looked for in its sub-folders, which might hold the bad ones).

    Raises:
        PadimEdgeError: No such folder, no such class in it, or no pictures where they are expected.
    """
    if not data.is_dir():
        raise PadimEdgeError(f"there is no folder {data}; give --data the folder of a data set or of good pictures")
    if class_name and (data / class_name).is_dir() and not (data / "train" / GOOD).is_dir():
        return _class_folder(data / class_name, class_name)
    if (data / "train").is_dir():
        return _class_folder(data, class_name or data.resolve().name)
    good = _pictures(data)
    if good:
        return Dataset(class_name or data.resolve().name, tuple(_item(path, GOOD, None) for path in good), ())
    classes = sorted(path.parent.parent.name for path in data.glob(f"*/train/{GOOD}"))
    if classes:
        wrong = f"has no class {class_name!r}" if class_name else "holds several classes"
        raise PadimEdgeError(f"{data} {wrong}; choose one of them with --class: {', '.join(classes)}")
    raise PadimEdgeError(
        f"{data} holds no pictures, neither directly nor in {class_name or '<class>'}/train/{GOOD}; expected files "
        f"ending in {', '.join(sorted(images.SUFFIXES))}"
    )


def from_sample(class_name: str, *, test: bool) -> Dataset:
    """The data set that the package draws itself: its good pictures, or with `test` its labelled ones.

    Raises:
        PadimEdgeError: The sample has no such class.
    """
    from padim_edge import sample

    if class_name not in sample.CLASSES:
        raise PadimEdgeError(
            f"the built-in sample has no class {class_name!r}, only {' and '.join(sample.CLASSES)}; "
            "choose one of them, or give your own pictures with --data"
        )
    drawn = sample.pictures(class_name, train=0) if test else sample.pictures(class_name, test_good=0, per_defect=0)
    items = tuple(
        Item(f"sample/{class_name}/{each.path}", each.path.parent.name, *_drawn(each.pixels, each.mask))
        for each in drawn
    )
    return Dataset(class_name, () if test else items, items if test else ())


def _drawn(
    pixels: npt.NDArray[np.uint8], mask: Mask | None
) -> tuple[Callable[[], images.Picture], Callable[[], Mask] | None]:
    return lambda: images.Picture(Image.fromarray(pixels), ()), None if mask is None else lambda: mask


def _class_folder(folder: Path, class_name: str) -> Dataset:
    """MVTec AD's layout: train/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png."""
    good = _pictures(folder / "train" / GOOD)
    if not good:
        raise PadimEdgeError(
            f"{folder} holds no pictures in train/{GOOD}; expected files ending in {', '.join(sorted(images.SUFFIXES))}"
        )
    test = [
        _item(path, kind.name, folder / "ground_truth" / kind.name)
        for kind in sorted((folder / "test").glob("*"))
        for path in _pictures(kind)
    ]
    return Dataset(class_name, tuple(_item(path, GOOD, None) for path in good), tuple(test))


def _pictures(folder: Path) -> list[Path]:
    """Pictures directly in a folder, sorted by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES and not p.name.startswith("."))


def _item(path: Path, kind: str, masks: Path | None) -> Item:
    mask = None
    if masks is not None and kind != GOOD:
        found = [file for file in (masks / f"{path.stem}_mask.png", masks / f"{path.stem}.png") if file.is_file()]
        mask = (lambda: _read_mask(found[0])) if found else None
    return Item(str(path), kind, lambda: images.read(path), mask)


def _read_mask(path: Path) -> Mask:
    """Ground truth: every pixel that is not black is defective, as in MVTec AD."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f"the mask {path} cannot be decoded ({error}); expected a PNG, black where all is good"
        ) from error
