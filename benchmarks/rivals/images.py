"""What all methods are fitted on and judge: the same images, in the same order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_edge import datasets

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset, Item
    from padim_edge_artifact import Preprocessing

__all__ = ["SIDE", "Source", "dataset", "frames", "probe_image", "write_frames"]

Pixels = npt.NDArray[np.uint8]

SIDE = 900
"""Pixels a side of the image that is judged: the size of MVTec AD's bottle."""

DRAWN = 60
"""Images of the built-in sample that are drawn; more are made from these."""


@dataclass(frozen=True)
class Source:
    """Where good images and weights come from."""

    data: Path | None
    """A data set; `None` is the built-in sample."""
    class_name: str
    images: int
    """Good ones to fit on."""
    weights: Path | None
    """Of resnet18; random unless given."""

    def describe(self) -> str:
        """In words, without a folder of this machine."""
        where = f"{self.data.name}, {self.class_name}" if self.data else f"built-in sample, {self.class_name}"
        more = f" ({DRAWN} drawn, the others moved and lit differently)" if not self.data and self.made_up else ""
        return f"{self.images} good images of {where}{more}; {self.weights.name if self.weights else 'random'} weights"

    @property
    def made_up(self) -> int:
        """Of the built-in sample's, how many are changed copies."""
        return 0 if self.data else max(0, self.images - DRAWN)

    def settings(self) -> dict[str, Any]:
        """What a fitted model depends on, for recognising it again."""
        digest = hashlib.sha256(self.weights.read_bytes()).hexdigest() if self.weights else "random"
        where = str(self.data.absolute()) if self.data else f"sample {DRAWN}"
        # The folder itself is private to this machine, so only its digest is kept.
        return {
            "data": hashlib.sha256(where.encode()).hexdigest(),
            "class": self.class_name,
            "images": self.images,
            "weights": digest,
        }

    def to_json(self) -> dict[str, Any]:
        """For another process, which may run in another folder."""
        fields = dataclasses.asdict(self)
        return {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in fields.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Source:
        """The same, back."""
        paths = {key: Path(values[key]) if values[key] else None for key in ("data", "weights")}
        return cls(**{**values, **paths})


def dataset(source: Source) -> Dataset:
    """The data set with exactly as many good images as asked for, and its own test images.

    Raises:
        PadimEdgeError: No such data set.
        ValueError: It has fewer good images.
    """
    from padim_edge.datasets import GOOD, Dataset, Item
    from padim_edge.sample import draw_good

    if source.data is not None:
        found = datasets.from_folder(source.data, source.class_name)
        if len(found.good) < source.images:
            raise ValueError(f"{source.class_name} has {len(found.good)} good images, {source.images} were asked for")
        return dataclasses.replace(found, good=found.good[: source.images])
    drawn = [draw_good(source.class_name, i) for i in range(min(DRAWN, source.images))]
    items = tuple(
        Item(f"sample/{i}", GOOD, partial(_image, pixels), None) for i, pixels in enumerate(_vary(drawn, source.images))
    )
    test = Item("sample/test", GOOD, partial(_image, draw_good(source.class_name, 0, split="test")), None)
    return Dataset(source.class_name, items, (test,))


def _image(pixels: Pixels) -> Any:
    from PIL import Image

    from padim_edge_runtime import image_files

    return image_files.Decoded(Image.fromarray(pixels), ())


def _vary(drawn: Sequence[Pixels], count: int) -> Iterator[Pixels]:
    """The drawn images, then copies of them, moved by some pixels and a little brighter or darker."""
    generator = np.random.default_rng(0)
    for i in range(count):
        if i < len(drawn):
            yield drawn[i]
            continue
        down, across, light = (int(value) for value in generator.integers(-6, 7, 3))
        moved = np.roll(drawn[i % len(drawn)], (down, across), axis=(0, 1)).astype(np.int16)
        yield (moved + light).clip(0, 255).astype(np.uint8)


def frames(items: Sequence[Item], preprocessing: Preprocessing) -> Pixels:
    """`(N, H, W, 3)`: the images in a model's frame."""
    from padim_edge_runtime import image_files

    return np.stack([image_files.prepare(item.read().image, preprocessing) for item in items])


def write_frames(items: Sequence[Item], preprocessing: Preprocessing, folder: Path) -> None:
    """The same as PNG files `0000.png`, `0001.png`, ..., for methods that read files."""
    from PIL import Image

    from padim_edge_runtime import image_files

    folder.mkdir(parents=True, exist_ok=True)
    for i, item in enumerate(items):
        Image.fromarray(image_files.prepare(item.read().image, preprocessing)).save(folder / f"{i:04d}.png")


def probe_image(source: Source) -> Pixels:
    """`(SIDE, SIDE, 3)`: the image that is judged over and over; where possible, none that was fitted on."""
    from PIL import Image

    found = dataset(dataclasses.replace(source, images=1))
    image = (found.test or found.good)[0].read().image
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
