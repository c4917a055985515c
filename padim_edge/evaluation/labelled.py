"""Labelled images, decoded ahead in threads and ready to be judged, with their ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Item
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_runtime import image_files
from padim_edge_runtime.prefetch import decoded

__all__ = ["Advance", "Labelled", "Truth", "labelled_images", "read_truth"]

Advance = Callable[[int], object]
"""Function that is called with the number of images done since its last call."""

Truth = npt.NDArray[np.bool_]
Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Labelled:
    """One decoded image and its ground truth."""

    item: Item
    """Item of the data set."""
    size: tuple[int, int]
    """(width, height) of the image in pixels."""
    frames: tuple[Frame, ...]
    """Image in the frame of each preprocessing that was asked for, `(H, W, 3)`."""
    truth: Truth | None
    """`(height, width)`, True where the defect is; `None` where it is unknown."""


def labelled_images(
    items: Sequence[Item],
    preprocessings: Sequence[Preprocessing],
    unreadable: list[str],
    advance: Advance = lambda _: None,
    *,
    bad_masks: list[str] | None = None,
) -> Iterator[Labelled]:
    """Yield the readable images in order, each decoded once.

    Args:
        items: Images to decode, at least one.
        preprocessings: Preprocessing of each model that will judge them.
        unreadable: Gains one sentence for each image that is left out.
        advance: Called with 1 for each image.
        bad_masks: Gains one sentence for each image whose mask cannot be used; its truth is unknown.

    Raises:
        PadimEdgeError: None of the images can be read.
    """

    def prepare(item: Item) -> tuple[tuple[int, int], tuple[Frame, ...]]:
        images = {levels: item.decoded(levels) for levels in {each.levels for each in preprocessings}}
        size = next(iter(images.values())).size
        return size, tuple(image_files.prepare(images[each.levels].pixels, each) for each in preprocessings)

    readable = False
    for item, prepared in decoded(items, prepare):
        advance(1)
        if isinstance(prepared, ImageError):
            unreadable.append(str(prepared))
            continue
        readable = True
        size, frames = prepared
        yield Labelled(item, size, frames, read_truth(item, size, bad_masks))
    if not readable:
        raise PadimEdgeError(f"none of the {len(items)} images can be read; the first: {unreadable[0]}")


def read_truth(item: Item, size: tuple[int, int], bad_masks: list[str] | None = None) -> Truth | None:
    """Read the ground truth of an image: `(height, width)`, True where the defect is.

    Args:
        item: The image.
        size: (width, height) of the image in pixels.
        bad_masks: Gains a sentence where the mask cannot be used.

    Returns:
        All False for a good image, `None` where the truth is unknown: there is no mask, it cannot be read, or it has
        another size. The score of such an image still counts.
    """
    width, height = size
    if item.kind == GOOD:
        return np.zeros((height, width), np.bool_)
    if item.mask is None:
        return None
    told = [] if bad_masks is None else bad_masks
    try:
        truth = item.mask()
    except ImageError as error:
        told.append(str(error))
        return None
    if truth.shape != (height, width):
        told.append(
            f"the mask of {item.name} has {truth.shape[1]}x{truth.shape[0]} pixels, expected those of the image, "
            f"{width}x{height}; correct the mask or remove it"
        )
        return None
    return truth
