"""Rd-MVTec: images turned and cropped at random, to see what a model makes of parts that do not lie still.

Section V-C of the PaDiM paper turns by up to 10 degrees and crops 224 x 224 out of 256 x 256, for fitting and for the
test. Here images keep their own resolution, so the crop is that share of their sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import numpy as np
from PIL import Image

from padim_edge.datasets import Dataset, Item
from padim_edge.datasets.items import Mask
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import image_files

__all__ = ["CROP", "ROTATE", "Arguments", "parse", "perturbed"]

ROTATE = 10.0
"""Degrees, as in the paper."""
CROP = (256, 224)
"""From how many pixels to how many, as in the paper; only their ratio counts."""

_MARGIN = 3
"""Pixels around what gets turned: bicubic interpolation looks at two, and one for rounding."""


class Arguments(TypedDict):
    """Of `perturbed`, but for the seed: `perturbed(dataset, **parse("rotate=10,crop"), seed=0)`."""

    rotate: float
    crop: tuple[int, int] | None


def parse(text: str) -> Arguments:
    """What `--perturb` asks for: `rotate=10,crop`, with `rotate` for 10 degrees and `crop` for `crop=256:224`.

    What is not named is left out: `rotate=5` does not crop.

    Raises:
        PadimEdgeError: Anything else.
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
                    f"--perturb {text!r} has {part.strip()!r}, expected rotate=DEGREES, crop or both, as in "
                    "rotate=10,crop"
                )
        except ValueError:
            wanted = "a number of degrees, as in rotate=10" if name == "rotate" else "two sizes, as in crop=256:224"
            raise PadimEdgeError(f"--perturb {text!r} has {part.strip()!r}, expected {wanted}") from None
        if name in seen:
            raise PadimEdgeError(f"--perturb {text!r} has {name} twice, expected it once; delete one of them")
        seen.add(name)
    _check(**found)
    return found


def perturbed(dataset: Dataset, *, rotate: float = ROTATE, crop: tuple[int, int] | None = CROP, seed: int) -> Dataset:
    """The same data set, each image turned and cropped at random together with its mask.

    Every image has its own random numbers, from the seed, its class and its place in the data set. So it moves in
    the same way wherever the data set lies and whichever other images are read, and each time that it is read.

    Args:
        dataset: Its good images and its test images are both perturbed.
        rotate: Largest angle to either side, degrees in [0, 180].
        crop: (of how many pixels, how many are kept), for the share of either side; `None` keeps all.
        seed: Not negative.

    Raises:
        PadimEdgeError: A value out of its range.
    """
    _check(rotate=rotate, crop=crop)
    if seed < 0:
        raise PadimEdgeError(f"the seed of the perturbation is {seed}, expected 0 or more")
    share = 1.0 if crop is None else crop[1] / crop[0]

    def moved(item: Item) -> Item:
        digest = hashlib.sha256(f"{dataset.class_name}/{item.key or item.name}".encode(errors="surrogateescape"))
        generator = np.random.default_rng([seed, int.from_bytes(digest.digest()[:16], "big")])
        turn, across, down = (float(value) for value in generator.random(3))
        angle = rotate * (2 * turn - 1)
        return replace(
            item,
            read=lambda: _move_image(item.read, angle, share, (across, down)),
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
    if not 0 <= rotate <= 180:  # nor where it is not a number
        raise PadimEdgeError(f"the perturbation rotates by {rotate:g} degrees, expected 0 to 180")
    if crop is not None and not 0 < crop[1] <= crop[0]:
        raise PadimEdgeError(
            f"the perturbation crops {crop[1]} out of {crop[0]} pixels, expected fewer out of more, as in crop=256:224"
        )


def _move_image(
    read: Callable[[], image_files.Decoded], angle: float, share: float, at: tuple[float, float]
) -> image_files.Decoded:
    image = read()
    return replace(image, image=_move(image.image, angle, share, at, Image.Resampling.BICUBIC))


def _moved_mask(read: Callable[[], Mask], angle: float, share: float, at: tuple[float, float]) -> Callable[[], Mask]:
    def moved() -> Mask:
        image = Image.fromarray(np.where(read(), np.uint8(255), np.uint8(0)))
        return np.asarray(_move(image, angle, share, at, Image.Resampling.NEAREST)) > 0

    return moved


def _move(
    image: Image.Image, angle: float, share: float, at: tuple[float, float], resampling: Image.Resampling
) -> Image.Image:
    """Turn about the centre, then cut out a `share` of either side.

    Args:
        image: Of any size; the result has `share` of it.
        angle: Degrees, counter-clockwise.
        share: In (0, 1].
        at: Where the cut lies between left and right, and between top and bottom, each in [0, 1).
        resampling: For turning.
    """
    width, height = image.size
    left = top = 0
    if angle:
        # What turning brings in from outside is the image's mirror image. Black corners would be defects that no
        # mask knows of, and repeated edge pixels make streaks that no part has; the mirror goes on with the part's
        # own texture, and a defect that it shows once more is in the mirrored mask, too.
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
