"""Rd-MVTec: images turned and cropped at random, to test a model on parts that do not lie at the same place.

Section V-C of the PaDiM paper turns by up to 10 degrees and crops 224 x 224 out of 256 x 256, for fitting and for the
test. Here, images keep their own resolution, so the crop keeps 224/256 of each side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypedDict

import numpy as np
from PIL import Image

from padim_edge.datasets.items import Dataset, Item, Mask, Stored
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import image_files

__all__ = ["CROP", "ROTATE", "Arguments", "parse", "perturbed"]

ROTATE = 10.0
"""Largest angle in degrees, as in the paper."""
CROP = (256, 224)
"""Pixels per side before and after the crop, as in the paper. Only their ratio counts."""

_MARGIN = 3
"""Pixels added around an image before it is turned: two for bicubic interpolation, and one for rounding."""


class Arguments(TypedDict):
    """Arguments of `perturbed` without the seed: `perturbed(dataset, **parse("rotate=10,crop"), seed=0)`."""

    rotate: float
    crop: tuple[int, int] | None


def parse(text: str) -> Arguments:
    """Parse the value of `--perturb`, such as `rotate=10,crop`.

    `rotate` alone means 10 degrees, and `crop` alone means `crop=256:224`. A part that is not named is not done:
    `rotate=5` does not crop.

    Raises:
        PadimEdgeError: The text has another form, or a value is out of its range.
    """
    found: Arguments = {"rotate": 0.0, "crop": None}
    seen = set()
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            if name == "rotate":
                found["rotate"] = float(value) if equals else ROTATE
            elif name == "crop":
                whole, kept = value.split(":") if equals else CROP
                found["crop"] = (int(whole), int(kept))
            else:
                raise PadimEdgeError(
                    f"--perturb {text!r} has {part.strip()!r}, expected rotate=DEGREES, crop or both; write it "
                    "like rotate=10,crop"
                )
        except ValueError:
            wanted = "a number of degrees, as in rotate=10" if name == "rotate" else "two sizes, as in crop=256:224"
            raise PadimEdgeError(f"--perturb {text!r} has {part.strip()!r}, expected {wanted}; correct it") from None
        if name in seen:
            raise PadimEdgeError(f"--perturb {text!r} has {name} twice, expected it once; delete one of them")
        seen.add(name)
    _check(**found)
    return found


def perturbed(dataset: Dataset, *, rotate: float = ROTATE, crop: tuple[int, int] | None = CROP, seed: int) -> Dataset:
    """Return the same data set with each image, and its mask, turned and cropped at random.

    The random numbers of an image depend on the seed, its class and its key only. So it is moved the same way each time
    it is read, wherever the data set lies.

    Args:
        dataset: The data set. Its good images and its test images are both perturbed.
        rotate: Largest angle to either side, degrees in [0, 180].
        crop: Pixels per side before and after the crop, of which only the ratio counts; `None` does not crop.
        seed: Random seed, 0 or more.

    Raises:
        PadimEdgeError: A value is out of its range.
    """
    _check(rotate=rotate, crop=crop)
    if seed < 0:
        raise PadimEdgeError(f"the seed of the perturbation is {seed}, expected 0 or more; give another seed")
    share = 1.0 if crop is None else crop[1] / crop[0]

    def moved(item: Item) -> Item:
        digest = hashlib.sha256(f"{dataset.class_name}/{item.key or item.name}".encode(errors="surrogateescape"))
        generator = np.random.default_rng([seed, int.from_bytes(digest.digest()[:16], "big")])
        turn, across, down = (float(value) for value in generator.random(3))
        angle = rotate * (2 * turn - 1)
        return replace(
            item,
            read=lambda: _move_image(item.read, angle, share, (across, down)),
            stored=None if item.stored is None else _moved_stored(item.stored, angle, share, (across, down)),
            mask=None if item.mask is None else _moved_mask(item.mask, angle, share, (across, down)),
        )

    what = [f"turned by up to {rotate:g} degrees"] if rotate else []
    what += [f"cropped to {crop[1]}/{crop[0]} of their sides"] if crop else []
    return replace(
        dataset,
        good=tuple(moved(item) for item in dataset.good),
        test=tuple(moved(item) for item in dataset.test),
        notes=(*dataset.notes, *([f"images are {' and '.join(what)} at random, seed {seed}"] if what else [])),
    )


def _check(*, rotate: float, crop: tuple[int, int] | None) -> None:
    """Raise PadimEdgeError for a value out of its range."""
    if not 0 <= rotate <= 180:  # true for NaN too
        raise PadimEdgeError(f"the perturbation rotates by {rotate:g} degrees, expected 0 to 180; give such an angle")
    if crop is not None and not 0 < crop[1] <= crop[0]:
        raise PadimEdgeError(
            f"the perturbation crops {crop[1]} out of {crop[0]} pixels, expected fewer out of more; write it like "
            "crop=256:224"
        )


def _move_image(
    read: Callable[[], image_files.Decoded], angle: float, share: float, at: tuple[float, float]
) -> image_files.Decoded:
    image = read()
    return replace(image, pixels=_move(image.image, angle, share, at, Image.Resampling.BICUBIC))


def _moved_stored(stored: Stored, angle: float, share: float, at: tuple[float, float]) -> Stored:
    def moved(levels: Levels) -> image_files.Decoded:
        return _move_image(partial(stored.decode, levels), angle, share, at)

    return replace(stored, decode=moved)


def _moved_mask(read: Callable[[], Mask], angle: float, share: float, at: tuple[float, float]) -> Callable[[], Mask]:
    def moved() -> Mask:
        image = Image.fromarray(np.where(read(), np.uint8(255), np.uint8(0)))
        return np.asarray(_move(image, angle, share, at, Image.Resampling.NEAREST)) > 0

    return moved


def _move(
    image: Image.Image, angle: float, share: float, at: tuple[float, float], resampling: Image.Resampling
) -> Image.Image:
    """Turn an image about its centre, then cut out a `share` of each side.

    Args:
        image: The image, of any size. The result has `share` of its width and height.
        angle: Angle in degrees, counter-clockwise.
        share: Share of each side to keep, in (0, 1].
        at: Position of the cut between left and right, and between top and bottom, each in [0, 1).
        resampling: Interpolation for turning.
    """
    width, height = image.size
    left = top = 0
    if angle:
        # The corners that turning opens are filled with the mirrored image. Black corners would be defects without a
        # mask, and repeated edge pixels would be streaks that no part has. The mirror continues the part's own texture,
        # and a defect that it repeats is also in the mirrored mask.
        sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
        left = max(0, math.ceil((width * cosine + height * sine - width) / 2)) + _MARGIN
        top = max(0, math.ceil((width * sine + height * cosine - height) / 2)) + _MARGIN
        pixels = np.asarray(image)
        around = [(top, top), (left, left), (0, 0)][: pixels.ndim]
        image = Image.fromarray(np.pad(pixels, around, "symmetric")).rotate(angle, resampling)
    kept = max(1, round(width * share)), max(1, round(height * share))
    left += int(at[0] * (width - kept[0] + 1))
    top += int(at[1] * (height - kept[1] + 1))
    return image.crop((left, top, left + kept[0], top + kept[1]))
