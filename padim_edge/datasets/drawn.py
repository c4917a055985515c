"""The built-in sample as a data set. Its images are drawn when they are read."""

from __future__ import annotations

from functools import partial

from PIL import Image

from padim_edge.datasets.items import GOOD, Dataset, Item, Mask
from padim_edge.sample.draw import CLASSES
from padim_edge.sample.folder import SampleImage, images
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import image_files

__all__ = ["from_sample"]


def from_sample(class_name: str | None) -> Dataset:
    """Return one class of the built-in sample: 120 good images to fit on, 36 labelled ones to evaluate with.

    Raises:
        PadimEdgeError: No class is named, or the sample has no such class.
    """
    if class_name not in CLASSES:
        names = " and ".join(CLASSES)
        wrong = f"has several classes, {names}" if class_name is None else f"has no class {class_name!r}, only {names}"
        raise PadimEdgeError(
            f"the built-in sample {wrong}; choose a class with --class (class_name in Python), or give your own images"
        )
    good: list[Item] = []
    test: list[Item] = []
    for image in images(class_name):
        item = Item(
            name=f"sample/{class_name}/{image.path}",
            kind=image.defect or GOOD,
            read=partial(_read, image),
            mask=None if image.defect is None else partial(_mask, image),
        )
        (good if image.path.parts[0] == "train" else test).append(item)
    return Dataset(class_name, tuple(good), tuple(test))


def _read(image: SampleImage) -> image_files.Decoded:
    return image_files.Decoded(Image.fromarray(image.pixels), ())


def _mask(image: SampleImage) -> Mask:
    assert image.mask is not None
    return image.mask
