"""Reading a region of interest, in the pictures' own geometry, into the model's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_runtime import images

__all__ = ["read_roi"]

ASPECT_TOLERANCE = 0.02
"""Relative difference of width / height between the region's picture and the good pictures."""


def read_roi(path: Path, preprocessing: Preprocessing, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """`(H, W)`, True where to inspect: a picture of the region, brought to the frame as every picture is.

    Raises:
        PadimEdgeError: It cannot be read, nothing in it is white, or its aspect is not that of the good pictures.
    """
    mask = images.read(path).image.convert("L")
    for item in dataset.good:
        try:
            width, height = item.read().image.size
        except ImageError:
            continue  # the fit names it
        if abs(mask.width * height / (mask.height * width) - 1) > ASPECT_TOLERANCE:
            raise PadimEdgeError(
                f"the region of interest {path} has {mask.width}x{mask.height} pixels, expected the aspect of the "
                f"pictures, such as {width}x{height}; draw it on one of them"
            )
        break
    inspected = images.prepare(mask.convert("RGB"), preprocessing)[..., 0] >= 128
    if not inspected.any():
        raise PadimEdgeError(
            f"the region of interest {path} is empty (nothing of it is white where the model looks); paint white what "
            "to inspect"
        )
    return inspected
