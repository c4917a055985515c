"""Images in: found, decoded and brought to the model's frame. Fitting and judging use these same functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from padim_edge_artifact import ImageError, Preprocessing

__all__ = ["SUFFIXES", "Decoded", "find", "prepare", "read", "upright_rgb"]

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Endings, in lower case, by which images are found in folders."""

SMALLEST_SIDE = 8
"""Pixels. Below this there is nothing to inspect, and such files are accidents."""
LARGEST_AREA = 178_956_970
"""Pixels (Pillow's own limit for errors): more is a decompression bomb or a mistake."""

# Pillow warns at half of the limit above; the limit itself is enforced in `read`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# It also warns of damaged tags before it refuses the image or does without them.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION = 0x0112
"""EXIF tag."""
_TURNED = range(2, 9)
"""Its values for images that are to be turned or mirrored."""
_SIXTEEN_BIT = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image, upright and in RGB."""

    image: Image.Image
    """Mode RGB, or L where `read` was told to keep grey images grey; turned as its EXIF orientation says."""
    notes: tuple[str, ...]
    """What was changed to get there and may matter, in words; mostly empty."""


def find(paths: Iterable[Path]) -> list[tuple[Path, Path]]:
    """(path, name to report it under) of each file given, and of each image in each folder given, sorted.

    Files are taken whatever their ending. Hidden files and folders are passed over. The name is relative to the
    folder that was given, and has its folder's name in front where several things were given.

    Raises:
        ImageError: A path does not exist, or a folder holds no image.
    """
    found = []
    given = list(paths)
    for path in given:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in SUFFIXES
                and file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
            if not inside:
                raise ImageError(f"{path} holds no images; expected files ending in {', '.join(sorted(SUFFIXES))}")
            prefix = Path(path.resolve().name) if len(given) > 1 else Path()
            found += [(file, prefix / file.relative_to(path)) for file in inside]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise ImageError(f"{path} does not exist; expected an image or a folder of images")
    return found


def read(path: Path, *, keep_grey: bool = False) -> Decoded:
    """Decode one image.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparency is dropped, and EXIF rotation is applied.

    Args:
        path: The file.
        keep_grey: Leave grey images in mode L. `prepare` makes the same frame of them, in less time and memory.

    Raises:
        ImageError: Missing, unreadable, truncated, animated, of floating point, tiny or enormous.
    """
    try:
        # By a file and not by its path: Pillow would map uncompressed grey TIFFs, and scrambles those that EXIF turns.
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            frames = getattr(image, "n_frames", 1)
            if width * height > LARGEST_AREA:
                raise ImageError(
                    f"{path} has {width}x{height} pixels, expected at most {LARGEST_AREA}; cut or shrink it"
                )
            if min(width, height) < SMALLEST_SIDE:
                raise ImageError(f"{path} has {width}x{height} pixels, expected at least {SMALLEST_SIDE} a side")
            if frames > 1 and image.format != "MPO":  # MPO: a photo with previews behind it, from phones
                raise ImageError(f"{path} has {frames} frames, expected a single image; extract the frame to judge")
            image.load()
            return upright_rgb(image, str(path), keep_grey=keep_grey)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; expected an image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has more than {LARGEST_AREA} pixels; cut or shrink it") from None
    except UnidentifiedImageError:
        what = "is empty (0 bytes)" if not path.stat().st_size else "is not an image that Pillow can read"
        raise ImageError(f"{path} {what}; expected a PNG, JPEG, BMP, TIFF or WebP image") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, expected an image") from None
    except (OSError, SyntaxError, TypeError, ValueError, EOFError, MemoryError, OverflowError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{path} cannot be decoded ({error}); expected a whole image, so save or copy it again"
        ) from error


def prepare(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """`(H, W, 3)` uint8: the image, RGB or grey (L), as the graph takes it (`Preprocessing.input_size`)."""
    # A model that resizes by itself gets images of another size than its camera's as if that had taken them.
    height, width = preprocessing.camera or preprocessing.resize
    # One axis at a time, since Pillow 13 takes them in another order than older ones where an image gets much lower,
    # and rounds in between: the device must not see another image than the workstation did.
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, _RESAMPLING[preprocessing.interpolation])
    if image.mode != "RGB":  # only now: channels are resized alike, and one of them takes less time than three
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if preprocessing.camera is None:
        top, left = preprocessing.offset
        height, width = preprocessing.size
        pixels = pixels[top : top + height, left : left + width]
    return np.ascontiguousarray(pixels)


def upright_rgb(image: Image.Image, name: str, *, keep_grey: bool = False) -> Decoded:
    """A decoded image of any mode, converted as `read` says; `name` stands for it in errors.

    Raises:
        ImageError: Floating point or 32-bit pixels.
    """
    notes = []
    mode = image.mode
    if mode == "F" or (mode == "I" and image.format != "PNG"):
        raise ImageError(f"{name} has {mode} pixels (32 bits), expected 8 or 16 bits a channel; convert it first")
    if mode in _SIXTEEN_BIT or mode == "I":  # older Pillows open 16-bit PNGs as I
        values = np.asarray(image).astype(np.uint32)
        image = _like(Image.fromarray(((values + 128) // 257).astype(np.uint8)), image)
        notes.append("16 bits a pixel were scaled to 8")
    elif mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        notes.append("transparency was dropped")
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
        return Decoded(Image.merge("RGB", image.split()[:3]), tuple(notes))
    done = image.mode == "RGB" or (keep_grey and image.mode == "L")
    return Decoded(image if done else image.convert("RGB"), tuple(notes))


def _like(image: Image.Image, original: Image.Image) -> Image.Image:
    image.info = original.info  # holds the EXIF orientation
    return image
