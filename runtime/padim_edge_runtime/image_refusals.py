"""Refusals of images: whatever goes wrong while one is decoded becomes one sentence about that image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.schema import reason_of
from padim_edge_runtime.image_limits import LARGEST_AREA

__all__ = ["enough_memory", "refusals", "undecodable"]


@contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Refuse an image for which the memory does not suffice. Smaller ones beside it may still be judged.

    Raises:
        ImageError: It does not.
    """
    try:
        yield
    except MemoryError:
        raise ImageError(
            f"{name} takes more memory than this process may use; cut or shrink the image, or free memory"
        ) from None


@contextmanager
def refusals(name: str, size: int) -> Iterator[None]:
    """Turn whatever Pillow raises while it decodes into one sentence.

    Args:
        name: Stands for the image in the sentence.
        size: Size of the encoded image in bytes.
    """
    try:
        with enough_memory(name):
            yield
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {LARGEST_AREA} pixels; cut or shrink it") from None
    except UnidentifiedImageError:
        what = "is not an image that Pillow can read" if size else "is empty (0 bytes)"
        raise ImageError(f"{name} {what}; expected a PNG, JPEG, BMP, TIFF or WebP image") from None
    except PadimEdgeError:
        raise
    except Exception as error:  # decoders raise what they like: struct.error, RuntimeError, NotImplementedError
        raise undecodable(name, error) from error


def undecodable(name: str, error: Exception) -> ImageError:
    """Return the error for an image at which a decoder failed."""
    reason = reason_of(error)
    return ImageError(f"{name} cannot be decoded ({reason}); expected a whole image, so save or copy it again")
