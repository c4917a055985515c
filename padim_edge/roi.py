"""Reading a region of interest, drawn on a good image, into the model's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset
from padim_edge.datasets.items import first_size
from padim_edge_artifact import PadimEdgeError, Preprocessing
from padim_edge_runtime import image_files

__all__ = ["read_roi"]

ASPECT_TOLERANCE = 0.02
"""Largest relative difference of width / height between the region's image and the good images."""


def read_roi(path: Path, preprocessing: Preprocessing, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Read a region of interest `(H, W)`, True inside; its image is brought to the frame as every image is.

    Raises:
        PadimEdgeError: The file cannot be read, nothing in it is white, or its aspect is not that of the images.
    """
    mask = image_files.read(path).image.convert("L")
    size = first_size(dataset, preprocessing.levels)
    if size is not None and abs(mask.width * size[1] / (mask.height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise PadimEdgeError(
            f"the region of interest {path} has {mask.width}x{mask.height} pixels, expected the aspect of the "
            f"images, such as {size[0]}x{size[1]}; draw it on one of them"
        )
    inspected = image_files.prepare(mask.convert("RGB"), preprocessing.on_host)[..., 0] >= 128
    if not inspected.any():
        raise PadimEdgeError(
            f"the region of interest {path} is empty (nothing of it is white where the model looks); paint white what "
            "to inspect"
        )
    return inspected
