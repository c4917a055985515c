"""Places where defects may lie on an image, and the size of a pixel in the model's frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_edge.planting import Part, part_of
from padim_edge_artifact import Preprocessing
from padim_edge_learn.held_out import GoodImages

__all__ = ["SAMPLE", "inside", "on_part", "shrink_of"]

SAMPLE = 24
"""Number of images, evenly spread, that tell where the part is."""

Frame = npt.NDArray[np.uint8]


def shrink_of(preprocessing: Preprocessing) -> float:
    """Return the pixels of the model's frame per pixel of what it takes; not 1 where the graph shrinks the images."""
    if preprocessing.camera is None:
        return 1.0
    (height, width), (tall, wide) = preprocessing.resize, preprocessing.camera
    return float(np.sqrt(height * width / (tall * wide)))


def on_part(images: GoodImages, inspected: npt.NDArray[np.bool_] | None, size: tuple[int, int]) -> Part:
    """Return the function that tells where on good images defects may lie; arguments are those of `inside`."""
    numbers = np.unique(np.linspace(0, images.count - 1, SAMPLE).round().astype(int)).tolist()
    return inside(part_of([frame for _, frame in images.read(numbers)]), inspected, size)


def inside(part: Part, inspected: npt.NDArray[np.bool_] | None, size: tuple[int, int]) -> Part:
    """Return the function that tells where defects may lie: on the part, and inside the region of interest.

    Args:
        part: Function that finds the part on an image.
        inspected: `(H, W)` region of interest in the model's frame, True inside; `None` where everything is inspected.
        size: (H, W) of the images that the model takes.
    """
    if inspected is None:
        return part
    height, width = size
    rows = np.arange(height) * inspected.shape[0] // height
    columns = np.arange(width) * inspected.shape[1] // width
    region = inspected[rows[:, None], columns[None]]

    def both(image: Frame) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = part(image) & region
        return found if found.any() else region

    return both
