"""Good images that a program hands over: paths, arrays or PIL images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge.datasets.items import GOOD, UNDECODABLE, Dataset, Item, name_of
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import image_files

__all__ = ["Given", "from_images"]

Given: TypeAlias = "str | os.PathLike[str] | npt.NDArray[np.uint8] | Image.Image"
"""One image: the path of a file, a uint8 array (H, W, 3) in RGB or (H, W) in grey, or a PIL image."""

_NAME = "images"
"""Name of the class where neither the user nor a folder gives one."""
_SEVERAL = "expected paths, uint8 arrays of shape (H, W, 3) in RGB or (H, W) in grey, or PIL images"
_ONE = "expected a path, a uint8 array of shape (H, W, 3) in RGB or (H, W) in grey, or a PIL image"


def from_images(images: Iterable[Given], class_name: str | None = None) -> Dataset:
    """Return a data set of these good images, in their order.

    Everything stays in memory that is not a path, because a fit reads each image twice: H x W x 3 bytes for a colour
    image, H x W for a grey one. 1000 colour images of 1920 x 1080 pixels take 6.2 GB. Paths cost no memory, since their
    files are read when they are needed. Arrays in a list are not copied: do not change them before the fit is done.
    Arrays that a generator yields are copied, because a camera may use its buffer again.

    Args:
        images: Paths of image files, arrays or PIL images, also mixed. A generator is consumed to its end.
        class_name: Name of the class. By default the name of the folder that holds the files, or `images`.

    Raises:
        PadimEdgeError: There are no images, or one is of another type or shape. An image that cannot be decoded or is
            too small does not raise here: reading its item raises ImageError, so that it does not stop the others.
    """
    found = list(_entries(images))
    if not found:
        raise PadimEdgeError(f"there are no images, {_SEVERAL}; check the list or generator that was given")
    paths = [entry for entry in found if isinstance(entry, Path)]
    folder = _common_folder(paths)
    good = tuple(entry if isinstance(entry, Item) else _of_file(entry, folder) for entry in found)
    return Dataset(class_name or (name_of(folder) if folder else "") or _NAME, good, ())


def _entries(images: Iterable[Given]) -> Iterable[Path | Item]:
    """Yield the path of each file, and an item for every other image."""
    if _is_single(images) or not isinstance(images, Iterable):
        raise PadimEdgeError(f"the images are {_described(images)}, {_SEVERAL}; put a single image into a list")
    passing = not isinstance(images, (list, tuple, np.ndarray))
    for number, image in enumerate(images):
        name = f"images[{number}]"
        if isinstance(image, (str, os.PathLike)):
            yield Path(image)
        elif isinstance(image, Image.Image):
            yield Item(name, GOOD, _reader_of_pil(image, name), None, name)
        elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and _is_image(image.shape):
            kept = image.copy() if passing else image
            yield Item(name, GOOD, partial(_read_array, kept, name), None, name)
        else:
            raise PadimEdgeError(f"{name} is {_described(image)}, {_ONE}; convert it first")


def _is_single(images: object) -> bool:
    """Tell whether this is one image instead of several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 3 or (images.ndim == 3 and images.shape[2] < image_files.SMALLEST_SIDE)
    return isinstance(images, (Image.Image, bytes, bytearray))


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def _described(found: object) -> str:
    """Return words for a value: `a float32 array of shape (4, 5)`."""
    if isinstance(found, np.ndarray):
        return f"{'an' if found.dtype.kind == 'i' else 'a'} {found.dtype} array of shape {found.shape}"
    if found is None:
        return "None"
    name = type(found).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _read_array(pixels: npt.NDArray[np.uint8], name: str) -> image_files.Decoded:
    height, width = pixels.shape[:2]
    _check_size(width, height, name)
    return image_files.Decoded(Image.fromarray(pixels).convert("RGB"), ())


def _reader_of_pil(image: Image.Image, name: str) -> Callable[[], image_files.Decoded]:
    """Decode the image now, which also closes its file, and return the function that hands it out."""
    try:
        _check_size(*image.size, name)
        if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
            raise ImageError(f"{name} has {frames} frames, expected a single image; extract the frame to fit on")
        decoded = image_files.upright_rgb(image, name, keep_grey=True)
    except ImageError as error:
        return partial(_fail, str(error))
    except UNDECODABLE as error:
        return partial(_fail, f"{name} cannot be decoded ({error}); expected a whole image, so save or copy it again")
    return lambda: image_files.Decoded(decoded.image.convert("RGB"), decoded.notes)


def _check_size(width: int, height: int, name: str) -> None:
    """Raise ImageError where the image is too small, or too large."""
    if min(width, height) < image_files.SMALLEST_SIDE:
        raise ImageError(
            f"{name} has {width}x{height} pixels, expected at least {image_files.SMALLEST_SIDE} a side; leave it out"
        )
    if width * height > image_files.LARGEST_AREA:
        raise ImageError(
            f"{name} has {width}x{height} pixels, expected at most {image_files.LARGEST_AREA}; cut or shrink it"
        )


def _fail(sentence: str) -> NoReturn:
    raise ImageError(sentence)


def _common_folder(paths: list[Path]) -> Path | None:
    """Return the deepest folder that holds all these files; `None` where there is none."""
    try:
        return Path(os.path.commonpath([path.absolute().parent for path in paths]))
    except ValueError:  # no paths, or paths on several drives
        return None


def _of_file(path: Path, folder: Path | None) -> Item:
    key = path.as_posix() if folder is None else path.absolute().relative_to(folder).as_posix()
    return Item(str(path), GOOD, partial(image_files.read, path), None, key)
