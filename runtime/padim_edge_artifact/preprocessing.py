"""The way of an image of any size into the model's frame, and of coordinates back into the image.

The host resizes and crops, or the graph does, which then takes the camera's frames. Only the geometry and the range of
the pixel values are defined here; `padim_edge_runtime.image_files` moves the pixels for fitting and for judging alike,
or `padim_edge_export.camera`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.names import IMAGE, IMAGE_BGR
from padim_edge_artifact.schema import Number, Text, Whole, check, shown

__all__ = ["COLORS", "INTERPOLATIONS", "MOST_BINNED", "MOST_SIDE", "Box", "Levels", "Preprocessing"]

MOST_SIDE = 16384
"""Largest side of a frame in pixels."""
_MOST_FRAME = 1 << 25
"""Largest area of the model's frame in pixels, behind the resize as well as behind the crop."""
_MOST_CAMERA = 1 << 27
"""Largest area of a camera's frame in pixels."""
_FARTHEST = 2.0**32
"""Largest absolute pixel value of any format."""

_Side: TypeAlias = Annotated[int, Whole(1, MOST_SIDE)]
_Level: TypeAlias = Annotated[float, Number(-_FARTHEST, _FARTHEST)]

Levels: TypeAlias = tuple[_Level, _Level]
"""(lowest, highest) pixel value of a camera's signal. The lowest becomes 0 in the model's frame, the highest 255."""

COLORS = ("rgb", "bgr")
"""Orders of the channels that a graph can take."""

_BINNED = "binned-"

INTERPOLATIONS = ("bicubic", "bilinear", f"{_BINNED}bicubic", f"{_BINNED}bilinear")
"""Kernels of the resize, alone and behind means of blocks of pixels (see `Preprocessing.bins`). The latter are words
of their own and not a field, so that a runtime that does not know them refuses the model."""

MOST_BINNED = 8
"""Largest side of a block in pixels. So the sum of a block stays below 2**14, and that of one of its columns below
2**11, up to which TensorFloat-32 multiplies exactly."""

_NEAREST = 1e-6
"""Smallest distance of two levels. Below it, rounding would decide the pixels."""


@dataclass(frozen=True)
class Box:
    """Rectangle in image pixels; fractions of a pixel are allowed."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Preprocessing:
    """Sizes of an antialiased resize of the whole image, and of the centre crop behind it."""

    resize: tuple[_Side, _Side]
    """(height, width) in pixels after the resize; the aspect ratio is not kept."""
    crop: tuple[_Side, _Side] | None = None
    """(height, width) of the centre crop in pixels; `None` keeps the whole frame."""
    interpolation: Annotated[str, Text(20)] = "bicubic"
    """One of `INTERPOLATIONS`, with Pillow's antialiasing where the image shrinks."""
    camera: tuple[_Side, _Side] | None = None
    """(height, width) in pixels of the camera's raw frames where the graph itself resizes and crops; `None` where the
    host does."""
    levels: Levels | None = None
    """Range of the signal in images of more than 8 bits a channel, such as (0, 1023) for 10 bits. `None` where the good
    images have 8 bits. Images of 8 bits always reach from 0 to 255."""
    keep_aspect: bool = False
    """Whether a fit gives `resize` the aspect of the good images, with about as many pixels, before it begins. `False`
    in statistics and models."""
    color: Annotated[str, Text(3)] = "rgb"
    """One of `COLORS`: order of the channels that the graph takes. It does not change what the model sees."""

    def __post_init__(self) -> None:
        sizes = [each for each in (self.resize, self.crop, self.camera) if each is not None]
        if min(map(min, sizes)) < 1:
            raise ArtifactError(
                f"preprocessing has the sizes {', '.join(map(str, sizes))} pixels, expected positive ones"
            )
        areas = (math.prod(self.resize), math.prod(self.camera or (0, 0)))
        if max(map(max, sizes)) > MOST_SIDE or areas[0] > _MOST_FRAME or areas[1] > _MOST_CAMERA:
            raise ArtifactError(
                f"preprocessing has the sizes {shown(sizes)} pixels, expected sides of at most {MOST_SIDE}, frames of "
                f"at most {_MOST_FRAME >> 20} megapixels (2^20) and camera frames of at most {_MOST_CAMERA >> 20}; "
                "choose a smaller size"
            )
        if self.crop is not None and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            raise ArtifactError(
                f"preprocessing crops {self.crop} out of {self.resize}, expected a crop that fits inside"
            )
        if self.levels is not None:
            lowest, highest = self.levels
            if not (-_FARTHEST <= lowest <= _FARTHEST and lowest + _NEAREST <= highest <= _FARTHEST):  # or NaN
                raise ArtifactError(
                    f"preprocessing has the levels {lowest:g} and {highest:g}, expected the lower one first, such as 0 "
                    "and 1023"
                )
        if self.interpolation not in INTERPOLATIONS:
            raise ArtifactError(
                f"preprocessing has the interpolation {shown(self.interpolation)}, expected one of {INTERPOLATIONS}"
            )
        if self.color not in COLORS:
            raise ArtifactError(f"preprocessing has the color {shown(self.color)}, expected one of {COLORS}")
        check(self)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels of the model's frame and of its anomaly map."""
        return self.crop or self.resize

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) in pixels of the graph's input: the model's frame, or the camera's where the graph resizes."""
        return self.camera or self.size

    @property
    def input_name(self) -> str:
        """Name of the graph's input, which tells the order of its channels."""
        return IMAGE_BGR if self.color == "bgr" else IMAGE

    @property
    def on_host(self) -> Preprocessing:
        """The same preprocessing with all of it on the host, whose frames are RGB."""
        return replace(self, camera=None, color="rgb")

    @property
    def offset(self) -> tuple[int, int]:
        """(top, left) of the crop inside the resized image, in pixels."""
        height, width = self.size
        return (self.resize[0] - height) // 2, (self.resize[1] - width) // 2

    @property
    def kernel(self) -> str:
        """Kernel of the resize itself: `bicubic` or `bilinear`."""
        return self.interpolation.removeprefix(_BINNED)

    def bins(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the blocks of pixels whose means take their place before the resize.

        They are the largest that leave as many pixels as are wanted, on each axis, up to `MOST_BINNED`. (1, 1) leaves
        the image as it is: where it is not twice as large as the frame, or is not to be binned.

        Args:
            height: Height of the image in pixels.
            width: Its width.
        """
        if not self.interpolation.startswith(_BINNED):
            return 1, 1
        down, across = (
            min(MOST_BINNED, max(1, given // wanted))
            for given, wanted in zip((height, width), self.camera or self.resize, strict=True)
        )
        return down, across

    def judged_box(self, width: int, height: int) -> Box:
        """Return the part of an image of `width` x `height` pixels that the model sees, in the image's pixels."""
        (top, left), (crop_height, crop_width) = self.offset, self.size
        down, across = height / self.resize[0], width / self.resize[1]
        return Box(left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)
