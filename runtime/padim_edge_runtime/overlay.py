"""Heat maps: the image with its anomaly map over it, on a colour scale that is tied to the threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["MapRows", "overlay"]

MapRows: TypeAlias = Callable[[tuple[int, int]], npt.NDArray[np.float32]]
"""Function that gives the rows of an anomaly map from the first up to the one behind the last."""

_AT_ONCE = 1 << 20
"""Number of pixels that are drawn at a time; each takes some 50 bytes meanwhile."""

_CAPTIONS = {"good": (25, 95, 45), "anomalous": (170, 0, 15), "not comparable": (140, 85, 0)}
"""Verdicts, and the colour behind each in the caption."""

_STOPS = np.array([0.5, 0.8, 1.0, 1.3, 2.0])
"""Map values in units of the threshold."""
_COLOURS = np.array(
    [(20, 60, 190, 0.0), (0, 150, 200, 0.35), (255, 210, 0, 0.45), (255, 110, 0, 0.6), (220, 0, 20, 0.75)]
)
"""Red, green, blue and opacity at each stop; below half of the threshold the image shows unchanged."""
_STEPS = 4096
"""Number of table rows between 0 and the threshold. From one to the next, no colour changes by a whole step of 255."""
_LEVELS = np.arange(round(_STOPS[-1] * _STEPS) + 1) / _STEPS
"""Map value of each row in units of the threshold."""
_OPACITY = np.interp(_LEVELS, _STOPS, _COLOURS[:, 3])
_KEPT = (1 - _OPACITY).astype(np.float32)
"""Share of the image that is seen through the colour, for each row."""
_ADDED = np.stack([np.interp(_LEVELS, _STOPS, column) * _OPACITY for column in _COLOURS.T[:3]]).astype(np.float32)
"""`(3, rows)` red, green and blue that are added to it."""
_OUTLINE = (255, 255, 255)
_UNSEEN = 0.55
"""Brightness of pixels that the model did not look at."""


def overlay(
    image: Image.Image,
    image_map: npt.NDArray[np.float32] | MapRows,
    threshold: float,
    *,
    verdict: str,
    score: float,
    boxes: Sequence[tuple[int, int, int, int]] = (),
) -> Image.Image:
    """Draw the anomaly map over the image, outline the regions above the threshold, and write a caption.

    The same colour means the same distance on every image: cool colours are below the threshold, yellow is at it,
    red is twice as high. A good image therefore looks calm. The image is drawn in strips, so the memory beside the
    result does not depend on its size.

    Args:
        image: The image, RGB or L.
        image_map: `(height, width)` anomaly map in the image's own pixels, NaN where the model did not look; or a
            function that gives some rows of it.
        threshold: Score above which an image is anomalous, more than 0.
        verdict: `good`, `anomalous` or `not comparable`, for the caption.
        score: The score, for the caption.
        boxes: (x, y, width, height) of each reported region, drawn as corners.

    Returns:
        A new image of the same size, RGB.
    """
    shown = image.copy() if image.mode == "RGB" else image.convert("RGB")
    width = max(1, round(min(image.size) / 320))
    step = max(1, _AT_ONCE // image.width)
    for first in range(0, image.height, step):
        last = min(first + step, image.height)
        # Outlines need the rows around, as far as they are wide.
        upper, lower = max(0, first - width), min(last + width, image.height)
        part = image_map((upper, lower)) if callable(image_map) else image_map[upper:lower]
        pixels = np.asarray(shown.crop((0, first, image.width, last)))
        drawn = _blended(pixels, part, slice(first - upper, last - upper), max(threshold, 1e-6), width)
        if drawn is not None:
            shown.paste(Image.fromarray(drawn), (0, first))
    _corners(shown, boxes, width)
    word = verdict if verdict == "good" else verdict.upper()
    _caption(shown, f"{word}   {score:.2f} / {threshold:.2f}", _CAPTIONS[verdict])
    return shown


def _blended(
    pixels: npt.NDArray[np.uint8], image_map: npt.NDArray[np.float32], rows: slice, threshold: float, width: int
) -> npt.NDArray[np.uint8] | None:
    """Blend some rows of an image with its map; `None` where they stay as they are.

    Args:
        pixels: `(rows, width, 3)`.
        image_map: The map of these rows and of the rows around them.
        rows: Place of the rows in that.
        threshold: Score above which an image is anomalous, more than 0.
        width: Width of the outline in pixels.
    """
    unseen = np.isnan(image_map[rows])
    levels = np.nan_to_num(image_map / threshold, nan=0.0)
    if levels.max() <= _STOPS[0] and not unseen.any():
        return None
    outline = _border(levels > 1, width)[rows]
    # Interpolating the scale for each pixel made a picture of 512 x 512 pixels take 29 ms instead of 8.
    row = (levels[rows].clip(0, _STOPS[-1]) * _STEPS + 0.5).astype(np.int16)
    kept = _KEPT[row]
    kept[unseen] = _UNSEEN
    drawn = np.empty_like(pixels)
    for channel in range(3):  # one at a time: the numbers in between take four bytes each
        values = pixels[..., channel] * kept
        values += _ADDED[channel][row]
        values += 0.5
        drawn[..., channel] = values
        drawn[..., channel][outline] = _OUTLINE[channel]
    return drawn


def _border(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Find the pixels of the mask within `width` pixels of its outside."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, constant_values=True)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _corners(image: Image.Image, boxes: Sequence[tuple[int, int, int, int]], width: int) -> None:
    """Draw the corners of each box: they show where it is and hide little of what is in it."""
    draw = ImageDraw.Draw(image)
    for x, y, across, down in boxes:
        right, lower = x + across - 1, y + down - 1
        arm = max(2, min(across, down) // 4)
        for corner_x, inward_x in ((x, arm), (right, -arm)):
            for corner_y, inward_y in ((y, arm), (lower, -arm)):
                draw.line([(corner_x + inward_x, corner_y), (corner_x, corner_y)], fill=_OUTLINE, width=width)
                draw.line([(corner_x, corner_y), (corner_x, corner_y + inward_y)], fill=_OUTLINE, width=width)


def _caption(image: Image.Image, text: str, colour: tuple[int, int, int]) -> None:
    """Write the verdict into the lower left corner, legible on any ground."""
    height = max(10, min(image.size) // 22)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(height)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = height // 3
    if right - left + 2 * pad > image.width:
        return  # no room on a tiny image
    box = (0, image.height - (bottom - top) - 2 * pad, right - left + 2 * pad, image.height)
    draw.rectangle(box, fill=colour)
    draw.text((pad - left, box[1] + pad - top), text, font=font, fill=(255, 255, 255))
