"""Shapes of the good images, read from the heads of their files: all are brought to one, so odd ones are squeezed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from padim_edge.datasets.items import Dataset
from padim_edge_runtime.image_formats import open_image

__all__ = ["odd_shapes", "shapes", "size_of"]

_OTHER_SHAPE = 1.1
"""Ratio of two aspect ratios from which images have different shapes. Cut-outs of one part differ by less."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation."""
_ON_THEIR_SIDE = range(5, 9)
"""Orientations that swap width and height."""


def size_of(path: Path) -> tuple[int, int] | None:
    """Read (width, height) in pixels of an image, upright, without decoding it; `None` where the head is damaged."""
    try:
        with path.open("rb") as file, open_image(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in _ON_THEIR_SIDE
    except Exception:  # noqa: BLE001 - decoders raise what they like; reading the image gives the error
        return None
    return (height, width) if turned else (width, height)


def shapes(dataset: Dataset) -> tuple[str, ...]:
    """Return a note on good images of another shape than most; mostly empty. Only the heads of the files are read."""
    sizes = [(item.name, size) for item in dataset.good if item.file and (size := size_of(item.file)) is not None]
    return odd_shapes(sizes)


def odd_shapes(sizes: Sequence[tuple[str, tuple[int, int]]], things: str = "good images") -> tuple[str, ...]:
    """Return a note on images of another shape than most; mostly empty.

    Args:
        sizes: Name, and (width, height) in pixels, of each image.
        things: Word for the images.
    """
    if not sizes:
        return ()
    aspects = [math.log(width / height) for _, (width, height) in sizes]
    usual = median(aspects)
    odd = [abs(aspect - usual) > math.log(_OTHER_SHAPE) for aspect in aspects]
    if not any(odd):
        return ()
    most = Counter(size for (_, size), other in zip(sizes, odd, strict=True) if not other).most_common(1)
    usually = f" ({most[0][0][0]}x{most[0][0][1]})" if most else ""
    named = [f"{name} ({width}x{height})" for (name, (width, height)), other in zip(sizes, odd, strict=True) if other]
    note = (
        f"{len(named)} of {len(sizes)} {things} have another shape than most{usually}: {', '.join(named[:3])}"
        f"{', ...' if len(named) > 3 else ''}; the model squeezes all into one shape, so cut them alike or fit a model "
        "for each shape"
    )
    return (note,)
