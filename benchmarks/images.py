"""Images of the benchmarks: every method is fitted on the same ones and judges the same ones, in the same order."""

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

from padim_edge_artifact import ImageError, PadimEdgeError

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset, Item
    from padim_edge_artifact import Preprocessing
    from padim_edge_runtime.image_files import Decoded

__all__ = ["SIDE", "Source", "dataset", "frames", "probe_image", "sample", "stretched", "write_frames"]

Pixels = npt.NDArray[np.uint8]

SIDE = 900
"""Side in pixels of the image that is judged: the size of MVTec AD's bottle."""

DRAWN = 60
"""Number of images of the built-in sample that are drawn; more are made from these."""

_REACH = 6
"""Largest move in pixels, and largest change in grey levels, of a copy."""


@dataclass(frozen=True)
class Source:
    """Origin of good images and weights."""

    data: Path | None
    """Data set; `None` is the built-in sample."""
    class_name: str
    """Class of the data set."""
    images: int
    """Number of good images to fit on."""
    weights: Path | None
    """Weights file of resnet18; `None` is random weights."""

    def describe(self) -> str:
        """Return the source in words, without a folder of this machine."""
        where = f"{self.data.name}, {self.class_name}" if self.data else f"built-in sample, {self.class_name}"
        more = f" ({DRAWN} drawn, the others moved and lit differently)" if self.made_up else ""
        weights = self.weights.name if self.weights else "random"
        return f"{self.images} good images of {where}{more}; ResNet-18 has {weights} weights"

    @property
    def made_up(self) -> int:
        """Number of the built-in sample's images that are changed copies."""
        return 0 if self.data else max(0, self.images - DRAWN)

    def settings(self) -> dict[str, Any]:
        """Return everything that a fitted model depends on, to recognise it again."""
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
        """Return the source for another process, which may run in another folder."""
        fields = dataclasses.asdict(self)
        return {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in fields.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Source:
        """Read what `to_json` returned."""
        paths = {key: Path(values[key]) if values[key] else None for key in ("data", "weights")}
        return cls(**{**values, **paths})


def dataset(source: Source) -> Dataset:
    """Return the data set with exactly as many good images as asked for, and its own test images.

    Raises:
        PadimEdgeError: There is no such data set, or it has fewer good images.
    """
    from padim_edge import datasets
    from padim_edge.sample import draw_good

    if source.data is not None:
        found = datasets.from_folder(source.data, source.class_name)
        if len(found.good) < source.images:
            raise PadimEdgeError(
                f"{source.class_name} has {len(found.good)} good images, expected {source.images}; ask for fewer"
            )
        return dataclasses.replace(found, good=found.good[: source.images])
    drawn = [draw_good(source.class_name, i) for i in range(min(DRAWN, source.images))]
    test = datasets.from_images([draw_good(source.class_name, 0, split="test")]).good
    return datasets.Dataset(source.class_name, stretched(drawn, source.images), test)


def sample(images: int) -> Dataset:
    """Return the built-in bottle with so many good images."""
    return dataset(Source(None, "bottle", images, None))


def stretched(drawn: Sequence[Pixels], count: int) -> tuple[Item, ...]:
    """Return `count` good images: the drawn ones, then copies of them, moved by some pixels and lit differently.

    A copy is made when it is read, so that many of them take no memory.
    """
    from padim_edge.datasets import GOOD, Item

    return tuple(Item(f"sample/{i}", GOOD, partial(_read, drawn, i), None) for i in range(count))


def _read(drawn: Sequence[Pixels], number: int) -> Decoded:
    from PIL import Image

    from padim_edge_runtime.image_files import Decoded

    pixels = drawn[number % len(drawn)]
    if number >= len(drawn):
        down, across, light = np.random.default_rng(number).integers(-_REACH, _REACH + 1, 3).tolist()
        moved = np.roll(pixels, (down, across), axis=(0, 1)).astype(np.int16)
        pixels = (moved + light).clip(0, 255).astype(np.uint8)
    return Decoded(Image.fromarray(pixels), ())


def frames(items: Sequence[Item], preprocessing: Preprocessing) -> Pixels:
    """Bring images into a model's frame: `(N, H, W, 3)`.

    Raises:
        ImageError: One of them cannot be read.
    """
    return np.stack(list(_frames(items, preprocessing)))


def _frames(items: Sequence[Item], preprocessing: Preprocessing) -> Iterator[Pixels]:
    from padim_edge.frames import frames_of

    for _, frame in frames_of(items, preprocessing):
        if isinstance(frame, ImageError):
            raise frame
        yield frame


def write_frames(items: Sequence[Item], preprocessing: Preprocessing, folder: Path) -> None:
    """Write the frames as PNG files `0000.png`, `0001.png`, ..., for methods that read files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(_frames(items, preprocessing)):
        Image.fromarray(frame).save(folder / f"{i:04d}.png")


def probe_image(source: Source) -> Pixels:
    """Return `(SIDE, SIDE, 3)`: the image that is judged over and over, where possible none that was fitted on."""
    from PIL import Image

    found = dataset(dataclasses.replace(source, images=1))
    image = (found.test or found.good)[0].read().image
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
