"""Images in: decoded and brought to the model's frame. Fitting and judging use these same functions."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_artifact.preprocessing import COLORS, Levels
from padim_edge_runtime import image_sources, plain_tiff, ppm_values
from padim_edge_runtime.binning import binned
from padim_edge_runtime.deep_images import deep_pixels
from padim_edge_runtime.image_formats import open_image
from padim_edge_runtime.image_limits import LARGEST_AREA, SMALLEST_SIDE, check_cost, check_single, check_size
from padim_edge_runtime.image_refusals import enough_memory, refusals, undecodable
from padim_edge_runtime.pixel_values import REMEDY, DeepPixels, Extent, eight_bits, of_array, range_words
from padim_edge_runtime.whole_images import check_tiles, check_whole, strict
from padim_edge_runtime.wrong_kinds import not_an_image

__all__ = [
    "LARGEST_AREA",
    "SMALLEST_SIDE",
    "Decoded",
    "ImageLike",
    "check_color",
    "decode",
    "extent_of",
    "opened",
    "prepare",
    "read",
    "undecoded",
]

# Pillow warns at half of our limit; the limit itself is enforced in `check_size`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# It also warns of damaged tags before it refuses the image or does without them.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION = 0x0112
"""EXIF tag of the orientation."""
_TURNED = range(2, 9)
"""Orientations of images that are to be turned or mirrored."""

_DROPPED = "transparency was dropped"

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]"
"""The path of a file, the bytes of an encoded file, a Pillow image, or an array of pixels."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image, upright and in RGB."""

    pixels: Image.Image | Pixels
    """Image of mode RGB, or L where grey images were to stay grey; turned as the EXIF orientation says. An array stays
    one, `(H, W, 3)` or `(H, W)`, because not every use needs Pillow's copy of it."""
    notes: tuple[str, ...]
    """Changes that were made to get there and may matter, in words; mostly empty."""

    @property
    def image(self) -> Image.Image:
        """The pixels as Pillow's image, of mode RGB or L."""
        return self.pixels if isinstance(self.pixels, Image.Image) else Image.fromarray(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]


def check_color(color: str) -> None:
    """Refuse an order of channels that is neither `rgb` nor `bgr`.

    Raises:
        PadimEdgeError: Another word.
    """
    if color not in COLORS:
        raise PadimEdgeError(f"the color is {color!r}, expected 'rgb' or 'bgr' (as OpenCV gives it)")


def decode(source: ImageLike, *, color: str = "rgb", keep_grey: bool = False, levels: Levels | None = None) -> Decoded:
    """Decode one image from whatever holds it.

    Args:
        source: The path of a file, the bytes of an encoded file, a Pillow image, or an array. Arrays are uint8 or
            uint16 of the shape (H, W), (H, W, 1) or (H, W, 3); with levels also of other numbers.
        color: Order of an array's channels, `rgb` or `bgr`. Files and Pillow images know their own.
        keep_grey: As for `read`.
        levels: As for `read`.

    Raises:
        ImageError: As for `read`; or an array or an object of another kind.
        PadimEdgeError: The color is neither `rgb` nor `bgr`.
    """
    check_color(color)
    if isinstance(source, (str, os.PathLike)):
        return read(Path(source), keep_grey=keep_grey, levels=levels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        with refusals("the encoded image", len(source)):
            return _decoded(image_sources.of_bytes(source), "the encoded image", keep_grey=keep_grey, levels=levels)
    if isinstance(source, Image.Image):
        check_size("the image", *source.size)
        with refusals("the image", 1):
            deep = _loaded(source, undecoded(source), "the image")
            return _converted(source, deep, "the image", keep_grey=keep_grey, levels=levels)
    if isinstance(source, np.ndarray):
        return _from_array(source, color, keep_grey=keep_grey, levels=levels)
    raise ImageError(not_an_image(source))


def read(path: Path, *, keep_grey: bool = False, levels: Levels | None = None) -> Decoded:
    """Decode one image file.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparency is dropped, and EXIF rotation is applied.

    Args:
        path: The file.
        keep_grey: Leave grey images in mode L. `prepare` makes the same frame of them, in less time and memory.
        levels: Range of the signal in images of more than 8 bits a channel, as in `Preprocessing.levels`. `None` takes
            that of 16 bits, and refuses images that do not fill it.

    Raises:
        ImageError: Missing, unreadable, cut short, animated, tiny or enormous; or of more than 8 bits a channel, whose
            range is neither given nor clear.
    """
    with _opened(path) as file:
        return _decoded(file, str(path), keep_grey=keep_grey, levels=levels)


def prepare(image: Image.Image | Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring an image to `(H, W, 3)` uint8 RGB in the size that the graph takes (`Preprocessing.input_size`).

    Args:
        image: Image of mode RGB or L, or its pixels `(H, W, 3)` or `(H, W)`.
        preprocessing: Way into the model's frame.

    Raises:
        ImageError: The memory does not suffice.
    """
    with enough_memory("the image"):
        return _prepared(image, preprocessing)


def _prepared(image: Image.Image | Pixels, preprocessing: Preprocessing) -> Pixels:
    # A model that resizes by itself gets every image in the size of its camera.
    height, width = preprocessing.camera or preprocessing.resize
    rows, columns = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
    down, across = bins = preprocessing.bins(rows, columns)
    if bins != (1, 1):
        image = binned(np.asarray(image), bins)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    # One axis at a time, so that the device sees the same image as the workstation. Pillow rounds between the axes, and
    # Pillow 13 may take them in another order than older versions. The last block may stand for a part of one.
    how = _RESAMPLING[preprocessing.kernel]
    if image.width != width:
        image = image.resize((width, image.height), how, (0, 0, columns / across, image.height))
    if image.height != height:
        image = image.resize((width, height), how, (0, 0, width, rows / down))
    if image.mode != "RGB":  # only now: channels are resized alike, and one of them takes less time than three
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if preprocessing.camera is None:
        top, left = preprocessing.offset
        height, width = preprocessing.size
        pixels = pixels[top : top + height, left : left + width]
    return np.ascontiguousarray(pixels)


def extent_of(source: ImageLike) -> Extent | None:
    """Measure the lowest and highest value of an image of more than 8 bits a channel; `None` for any other.

    Images of 8 bits are opened and not decoded.

    Raises:
        ImageError: As for `read`, except that the range need not be clear.
    """
    if isinstance(source, np.ndarray):
        return None if source.dtype == np.uint8 else of_array(source, "the array").extent
    if isinstance(source, Image.Image):
        with refusals("the image", 1):
            return _extent(source, undecoded(source), "the image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        content = image_sources.of_bytes(source)
        with refusals("the encoded image", len(source)), _single(content, "the encoded image") as image:
            return _extent(image, content, "the encoded image")
    with _opened(Path(source)) as file, _single(file, str(source)) as image:
        return _extent(image, file, str(source))


@contextmanager
def opened(path: Path, *, smallest: int = SMALLEST_SIDE) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """Open an image file within all limits, for a caller that decodes it in a way of its own.

    Args:
        path: The file.
        smallest: Smallest side in pixels.

    Raises:
        ImageError: As for `read`; also where the block raises what a decoder may.
    """
    with _opened(path) as file, _single(file, str(path), smallest) as image:
        yield image, file


def undecoded(image: Image.Image) -> io.BytesIO | None:
    """Return the file of an image that Pillow has opened and not yet decoded; `None` for others."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or getattr(image, "is_animated", False):
        return None
    place = file.tell()
    file.seek(0)
    content = io.BytesIO(file.read())
    file.seek(place)
    return content


def _upright_rgb(image: Image.Image, *, keep_grey: bool) -> Decoded:
    """Convert an image of at most 8 bits a channel as `read` says."""
    notes = []
    mode = image.mode
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        notes.append(_DROPPED)
        if mode == "P":  # or Pillow warns that it drops it
            image = image.copy()
            image.info.pop("transparency", None)
        if mode in ("RGBa", "La"):
            image = image.convert({"RGBa": "RGBA", "La": "LA"}[mode])
    elif mode == "CMYK":
        notes.append("CMYK was converted to RGB without a colour profile")
    image.load()
    if image.getexif().get(_ORIENTATION, 1) in _TURNED:  # otherwise Pillow makes a copy, which is large
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGBA":
        return Decoded(image.convert("RGB"), tuple(notes))
    done = image.mode == "RGB" or (keep_grey and image.mode == "L")
    return Decoded(image if done else image.convert("RGB"), tuple(notes))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with image_sources.opened(path) as file, refusals(str(path), image_sources.size_of(file)):
            yield file
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; expected an image") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise undecodable(str(path), error) from error


@contextmanager
def _single(file: BinaryIO, name: str, smallest: int = SMALLEST_SIDE) -> Iterator[Image.Image]:
    """Open a file of one image, and refuse what would take too long or too much memory to decode."""
    image_sources.check_head(file)
    if (size := image_sources.webp_size(file)) is not None:
        check_size(name, *size, smallest)
    try:
        found = open_image(file)
    except UnidentifiedImageError:
        plain = plain_tiff.opened(file)
        if plain is None:
            raise
        found = plain
    with found as image:
        check_size(name, *image.size, smallest)
        check_single(name, image)
        place = file.tell()
        check_cost(name, image, image_sources.size_of(file))
        file.seek(place)
        yield ppm_values.decoded(image, file) or image


def _deep(image: Image.Image, file: BinaryIO | None, name: str) -> DeepPixels | None:
    """Return the pixels of an opened image that has more than 8 bits a channel; `file` is `None` behind decoding."""

    def reopen() -> Image.Image:
        assert file is not None
        file.seek(0)
        return open_image(file)

    return deep_pixels(image, None if file is None else reopen, name)


def _extent(image: Image.Image, file: BinaryIO | None, name: str) -> Extent | None:
    deep = _deep(image, file, name)
    return None if deep is None else deep.extent


def _loaded(image: Image.Image, file: BinaryIO | None, name: str) -> DeepPixels | None:
    """Decode an opened image, which must be whole."""
    with strict():
        if file is not None:
            check_tiles(image)
        deep = _deep(image, file, name)
        image.load()
        if file is not None:
            check_whole(image, file)
    return deep


def _decoded(file: BinaryIO, name: str, *, keep_grey: bool, levels: Levels | None) -> Decoded:
    with _single(file, name) as image:
        deep = _loaded(image, file, name)
        if deep is not None:
            image.close()  # its own pixels are not needed any more, and large
        return _converted(image, deep, name, keep_grey=keep_grey, levels=levels)


def _converted(
    image: Image.Image, deep: DeepPixels | None, name: str, *, keep_grey: bool, levels: Levels | None
) -> Decoded:
    """Convert an opened image, whose pixels are `deep` where it has more than 8 bits a channel."""
    if deep is None:
        found = _upright_rgb(image, keep_grey=keep_grey)
        return replace(found, notes=(*_of_fewer_bits(levels), *found.notes))
    pixels, notes = eight_bits(deep, levels, name)
    if image.mode == "RGBA":
        notes = (*notes, _DROPPED)
    scaled = Image.fromarray(pixels)
    scaled.info = image.info  # holds the EXIF orientation
    found = _upright_rgb(scaled, keep_grey=keep_grey)
    return replace(found, notes=(*notes, *found.notes))


def _of_fewer_bits(levels: Levels | None) -> tuple[str, ...]:
    """Return a note on an image of 8 bits where the model expects more."""
    if levels is None:
        return ()
    return (f"8 bits a pixel, taken from 0 to 255, where the model's range is {range_words(levels)}",)


def _from_array(array: npt.NDArray[Any], color: str, *, keep_grey: bool, levels: Levels | None) -> Decoded:
    if array.dtype not in (np.uint8, np.uint16) and (levels is None or array.dtype.kind not in "uif"):
        raise ImageError(
            f"the array holds {array.dtype}, expected uint8 from 0 to 255; convert it first, floats from 0 to 1 by "
            f"(255 * array).round().astype('uint8'), or {REMEDY}"
        )
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
        raise ImageError(
            f"the array has the shape {array.shape}, expected (H, W), (H, W, 1) or (H, W, 3); give one image at a "
            "time, with its channels last and without transparency"
        )
    check_size("the array", array.shape[1], array.shape[0])
    if array.dtype == np.uint8:
        pixels, notes = _own(array), _of_fewer_bits(levels)
    else:
        pixels, notes = eight_bits(of_array(array, "the array"), levels, "the array")
    if pixels.shape[2:] == (3,):
        return Decoded(pixels if color == "rgb" else pixels[..., ::-1], notes)
    pixels = pixels.reshape(pixels.shape[:2])
    return Decoded(pixels if keep_grey else Image.fromarray(pixels).convert("RGB"), notes)


def _own(pixels: Pixels) -> Pixels:
    """Copy pixels, since a camera may write the next image into their memory."""
    # Of BGR that is looked at as RGB, the copy is too: numpy is slow where it turns the channels round.
    if pixels.ndim == 3 and pixels.strides[2] < 0:
        return _own(pixels[..., ::-1])[..., ::-1]
    return np.array(pixels, order="C")
