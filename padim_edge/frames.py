"""Items of a data set -> frames of the model, decoded ahead in threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Item
from padim_edge_artifact import ImageError, Preprocessing
from padim_edge_learn.accumulate import BATCH
from padim_edge_runtime import image_files
from padim_edge_runtime.prefetch import decoded

__all__ = ["frames_of", "readable_frames"]

Frame = npt.NDArray[np.uint8]


def frames_of(items: Sequence[Item], preprocessing: Preprocessing) -> Iterator[tuple[Item, Frame | ImageError]]:
    """Decode each item into the model's frame `(H, W, 3)`, in order; an unreadable one comes as its error."""

    def prepare(item: Item) -> Frame:
        return image_files.prepare(item.decoded(preprocessing.levels).image, preprocessing)

    return decoded(items, prepare, ahead=2 * BATCH)


def readable_frames(items: Sequence[Item], preprocessing: Preprocessing, unreadable: dict[str, str]) -> Iterator[Frame]:
    """Decode the readable items into the model's frame, in order; `unreadable` gains the others' sentences by name."""
    for item, frame in frames_of(items, preprocessing):
        if isinstance(frame, ImageError):
            unreadable[item.name] = str(frame)
        else:
            yield frame
