"""Good images that a program hands over: paths, arrays or Pillow images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from padim_edge.datasets.items import GOOD, Dataset, Item, Stored, name_of
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import image_files
from padim_edge_runtime.image_files import ImageLike

__all__ = ["from_images"]

_NAME = "images"
"""Name of the class where neither the user nor a folder gives one."""
_EXPECTED = "expected paths, uint8 arrays of shape (H, W, 3) in RGB or (H, W) in grey, or Pillow images"
_CHANNELS = ((), (1,), (3,))
"""Parts of an array's shape behind height and width that `image_files.decode` takes."""


def from_images(images: Iterable[ImageLike], class_name: str | None = None) -> Dataset:
    """Return a data set of these good images, in their order.

    Everything but paths stays in memory, because a fit reads each image twice. A colour image takes H x W x 3 bytes, a
    grey one H x W: 1000 colour images of 1920 x 1080 pixels take 6.2 GB. Paths cost no memory, since their files are
    read when they are needed. Arrays in a list are not copied: do not change them before the export is done. Arrays
    from a generator are copied, because a camera may use its buffer again.

    Args:
        images: Paths of image files, arrays or Pillow images, also mixed. A generator is consumed to its end.
        class_name: Name of the class. By default the name of the folder that holds the files, or `images`.

    Raises:
        PadimEdgeError: There are no images, or one is of another type or shape. An image that cannot be decoded or is
            too small does not raise here: reading its item raises ImageError, so that it does not stop the others.
    """
    found = list(_entries(images))
    if not found:
        raise PadimEdgeError(f"there are no images, {_EXPECTED}; check the list or generator that was given")
    folder = _common_folder([entry for entry in found if isinstance(entry, Path)])
    good = tuple(entry if isinstance(entry, Item) else _of_file(entry, folder) for entry in found)
    return Dataset(class_name or (name_of(folder) if folder else "") or _NAME, good, ())


def _entries(images: Iterable[ImageLike]) -> Iterator[Path | Item]:
    """Yield the path of each file, and an item for every other image."""
    if _is_single(images) or not isinstance(images, Iterable):
        raise PadimEdgeError(f"the images are {_described(images)}, {_EXPECTED}; put a single image into a list")
    passing = not isinstance(images, (list, tuple, np.ndarray))
    for number, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)):
            yield Path(image)
            continue
        name = f"images[{number}]"
        _check_kind(image, name)
        kept = _own(image, passing=passing)
        read: Callable[[], image_files.Decoded]
        aspect: float | None
        if isinstance(image, np.ndarray):
            read, aspect = partial(_decode, kept, name, None), image.shape[1] / image.shape[0] if image.size else None
        else:
            read, aspect = _decoded_now(image, name)
        stored = None
        if isinstance(image, np.ndarray) or _is_deep(kept):
            stored = Stored(partial(_decode, kept, name), partial(image_files.extent_of, kept))
        yield Item(name, GOOD, read, None, name, stored, aspect=aspect)


def _is_single(images: object) -> bool:
    """Tell whether this is one image instead of several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 3 or (images.ndim == 3 and images.shape[2] < image_files.SMALLEST_SIDE)
    return isinstance(images, (Image.Image, bytes, bytearray, memoryview))


def _check_kind(image: ImageLike, name: str) -> None:
    """Raise PadimEdgeError for an array of floats and the like, which is a mistake in the program, not a bad image."""
    if isinstance(image, np.ndarray):
        known = image.dtype in (np.uint8, np.uint16) and image.ndim in (2, 3) and image.shape[2:] in _CHANNELS
    else:
        known = isinstance(image, (Image.Image, bytes, bytearray, memoryview))
    if not known:
        try:
            image_files.decode(image)
        except ImageError as error:  # it has the sentence
            raise PadimEdgeError(f"{name}: {error}") from None


def _described(found: object) -> str:
    """Return words for a value: `one array of shape (4, 5)`."""
    if isinstance(found, np.ndarray):
        return f"one array of shape {found.shape}"
    return f"{'an' if type(found).__name__[0].lower() in 'aeiou' else 'a'} {type(found).__name__}"


def _decode(image: ImageLike, name: str, levels: Levels | None) -> image_files.Decoded:
    try:
        return image_files.decode(image, levels=levels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def _own(image: ImageLike, *, passing: bool) -> ImageLike:
    """Copy what a camera may write the next image into, and what its owner may close."""
    if isinstance(image, np.ndarray):
        return np.array(image) if passing else image
    if isinstance(image, Image.Image) and (content := image_files.undecoded(image)) is not None:
        return content.getvalue()
    return bytes(image) if isinstance(image, (bytearray, memoryview)) else image


def _is_deep(image: ImageLike) -> bool:
    """Tell whether an image has more than 8 bits a channel. Its numbers are kept until their range is known."""
    try:
        return image_files.extent_of(image) is not None
    except ImageError:
        return False  # decoding it says why


def _decoded_now(image: ImageLike, name: str) -> tuple[Callable[[], image_files.Decoded], float | None]:
    """Decode an image, which also copies it or closes its file.

    Returns:
        The function that hands it out, and its width / height; `None` where it cannot be decoded.
    """
    try:
        decoded = image_files.decode(image, keep_grey=True)
    except ImageError as error:
        return partial(_fail, f"{name}: {error}"), None
    width, height = decoded.image.size
    return lambda: image_files.Decoded(decoded.image.convert("RGB"), decoded.notes), width / height


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
    return Item(str(path), GOOD, partial(image_files.read, path), None, key, Stored.of(path), file=path)
