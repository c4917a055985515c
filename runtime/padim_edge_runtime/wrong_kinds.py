"""Sentences for callers of `Detector` who give another kind of object than an image."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from padim_edge_artifact import ImageError, Preprocessing

__all__ = ["not_an_image", "not_frames", "require_several"]

_BGR = "arrays are taken as RGB, so add color='bgr' for those of OpenCV"


def not_an_image(source: object) -> str:
    """Say which kinds of images there are, and how to make one of `source`."""
    if source is None:
        return "the image is None, as cv2.imread gives for a file that it cannot read; check the path, or give the path"
    if hasattr(source, "read"):
        return (
            f"the image is an open {type(source).__name__}, expected its bytes; give what its read() returns, or "
            "getvalue() of a BytesIO"
        )
    if isinstance(source, (list, tuple)):
        return (
            f"the image is a {type(source).__name__} of {len(source)}, expected one image; give one at a time, or "
            f"all of them to Detector.inspect_many ({_BGR})"
        )
    return (
        f"the image is of the type {type(source).__name__}, expected a path, the bytes of a file, a Pillow image or a "
        f"numpy array ({_BGR})"
    )


def require_several(images: object) -> None:
    """Refuse one image where several are expected; it would be taken apart into letters, bytes or rows.

    Raises:
        ImageError: A path, bytes, a Pillow image, or an array of one image.
    """
    one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    if isinstance(images, np.ndarray):
        one = images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3))
    if one:
        kind = type(images).__name__
        raise ImageError(
            f"the images are one {kind}, expected several, such as a list of paths; call Detector.inspect for one, "
            "and list a folder with Path(folder).glob('*.png')"
        )


def not_frames(images: object, preprocessing: Preprocessing) -> str:
    """Say how to make frames of the model, `(N, H, W, 3)`, of an object that is no array."""
    height, width = preprocessing.input_size
    what = f"a {type(images).__name__}" + (f" of {len(images)}" if isinstance(images, (list, tuple)) else "")
    order = preprocessing.color.upper()
    return (
        f"the images are {what}, expected a uint8 array (N, {height}, {width}, 3) in {order}; make it with "
        f"Detector.prepare ({_BGR}) and join several with numpy.stack, or call Detector.inspect"
    )
