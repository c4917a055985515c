"""Ground truth: which mask belongs to which image, and what its pixels mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ImageOps

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files
from padim_edge_runtime.image_search import search
from padim_edge_runtime.whole_images import check_tiles, check_whole, strict

__all__ = ["Mask", "Masks", "contradictions", "read_mask"]

Mask: TypeAlias = npt.NDArray[np.bool_]
"""Ground truth `(height, width)` bool, True where the defect is."""

_MARKS = ("_mask", "_gt", ".bm", "")
"""Endings of a mask's name behind the name of its image. The first that is there is taken."""
_ACCEPTED = "<image>_mask.png, <image>_gt.png, <image>.bm.png and <image>.png"

_WITH_ALPHA = frozenset(("LA", "La", "PA", "RGBA", "RGBa"))
"""Modes of Pillow whose last channel is opacity."""
_RAW = frozenset(("1", "L", "P", "I", "F", "RGB"))
"""Modes of Pillow whose numbers are compared with 0 as they are. Others, such as CMYK, are brought to RGB first."""

_Place: TypeAlias = tuple[str, ...]


class Masks:
    """Masks in a folder and its sub-folders, to be matched with images.

    The mask of `test/crack/monday/7.png` may lie in `crack/monday`, in `crack`, or in the folder itself. Farther up it
    counts only where no other image has the same name. Capitals do not matter.
    """

    def __init__(self, folder: Path | None, images: Iterable[tuple[_Place, str]]) -> None:
        """Search the folder.

        Args:
            folder: The folder; `None` where there is none.
            images: Folders below that of the test images, and the name without its ending, of each defective image.
        """
        self._folder = folder
        self._files = list(search(folder).files) if folder is not None else []
        self._unused = set(self._files)
        self._masks: dict[tuple[_Place, str], list[Path]] = {}
        for path in self._files:
            place = path.relative_to(folder or path).parts[:-1]
            self._masks.setdefault(_folded(place, path.stem), []).append(path)
        self._images: dict[tuple[_Place, str], int] = {}
        for place, stem in images:
            for up in range(len(place) + 1):
                key = _folded(place[:up], stem)
                self._images[key] = self._images.get(key, 0) + 1

    def take(self, place: _Place, stem: str) -> Path | None:
        """Return the mask of an image, `None` where there is none.

        Args:
            place: Folders of the image below that of the test images, such as `("crack", "monday")`.
            stem: Name of the image without its ending.
        """
        defective = _folded(place, stem) in self._images
        for up in range(len(place), -1 if defective else 0, -1):
            if up < len(place) and self._images.get(_folded(place[:up], stem), 0) > 1:
                return None
            for mark in _MARKS:
                found = self._masks.get(_folded(place[:up], stem + mark), [])
                # Two names may differ in their capitals only; then they must be the image's own.
                exact = [path for path in found if path.stem.startswith(stem)]
                if chosen := exact[:1] or found[:1]:
                    self._unused.discard(chosen[0])
                    return chosen[0]
        return None

    def notes(self) -> tuple[str, ...]:
        """Say which masks belong to no image."""
        left = [path for path in self._files if path in self._unused]
        if not left or self._folder is None:
            return ()
        many, are = (f"{len(left)} masks belong", "are") if len(left) > 1 else ("1 mask belongs", "is")
        note = (
            f"{many} to no image and {are} not used, first {left[0]}; a mask is named after its image, as {_ACCEPTED}, "
            f"in {self._folder.name}/<kind of defect>"
        )
        return (note,)


def _folded(place: Collection[str], stem: str) -> tuple[_Place, str]:
    return tuple(part.casefold() for part in place), stem.casefold()


def read_mask(path: Path) -> Mask:
    """Decode a ground truth image of any mode. A pixel above 0 is defective.

    In a colour image, one channel above 0 is enough. A fully transparent pixel is good. In an image with a palette, the
    index counts and not the colour, because tools store class numbers this way.

    Raises:
        ImageError: The file cannot be decoded.
    """
    try:
        with image_files.opened(path, smallest=1) as (image, file), strict():
            check_tiles(image)
            image.load()
            check_whole(image, file)
            # Images are turned as EXIF says, so their masks must be turned too.
            upright = ImageOps.exif_transpose(image)
            mode = upright.mode
            if mode not in _RAW | _WITH_ALPHA and not mode.startswith("I;16"):
                upright = upright.convert("RGB")
            values: Mask = np.asarray(upright) > 0
    except ImageError as error:
        raise ImageError(f"the mask {error}") from error
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
