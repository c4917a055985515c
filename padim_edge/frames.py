"""Items of a data set -> frames of the model, decoded ahead in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Item
from padim_edge_artifact import ImageError, Preprocessing
from padim_edge_learn.accumulate import BATCH
from padim_edge_runtime import image_files
from padim_edge_runtime.prefetch import decoded

__all__ = ["frames_of", "numbered_frames", "readable_frames"]

Frame = npt.NDArray[np.uint8]


def frames_of(items: Sequence[Item], preprocessing: Preprocessing) -> Iterator[tuple[Item, Frame | ImageError]]:
    """Decode each item into the model's frame `(H, W, 3)`, in order; an unreadable one comes as its error."""

    def prepare(item: Item) -> Frame:
        return image_files.prepare(item.decoded(preprocessing.levels).pixels, preprocessing)

    return decoded(items, prepare, ahead=2 * BATCH)


def numbered_frames(
    items: Sequence[Item], preprocessing: Preprocessing, unreadable: dict[str, str]
) -> Callable[[Sequence[int]], Iterator[tuple[int, Frame]]]:
    """Return a function that decodes the items with these numbers, in this order, as often as it is called.

    It yields number and frame of each readable one; `unreadable` gains the others' sentences by name.
    """

    def read(numbers: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        found = frames_of([items[number] for number in numbers], preprocessing)
        for number, (item, frame) in zip(numbers, found, strict=True):
            if isinstance(frame, ImageError):
                unreadable[item.name] = str(frame)
            else:
                yield number, frame

    return read


def readable_frames(items: Sequence[Item], preprocessing: Preprocessing, unreadable: dict[str, str]) -> Iterator[Frame]:
    """Decode the readable items into the model's frame, in order; `unreadable` gains the others' sentences by name."""
    for item, frame in frames_of(items, preprocessing):
        if isinstance(frame, ImageError):
            unreadable[item.name] = str(frame)
        else:
            yield frame
