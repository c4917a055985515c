"""Plots of a rehearsal: curves of detection over contrast, and the map of weak places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from padim_edge.evaluation.report.drawing import DEFECT, GOOD, INK, LINE, MUTED, style, svg_of

__all__ = ["Line", "curves", "weak_image"]

Float64 = npt.NDArray[np.float64]

_SIDE = 480
"""Longer side of the map of weak places in pixels."""
_POOR, _RICH = np.array([213.0, 94.0, 0.0]), np.array([86.0, 180.0, 233.0])
"""Colours of places where fewer and more is found than elsewhere: vermilion and sky blue of Okabe and Ito's palette."""
_OPAQUE = 0.75
"""Largest share of those colours in a pixel."""
_DARKEST = 110.0
"""Grey that black becomes, so that colours can be told on dark parts."""
_ALIKE = 0.15
"""Difference from the chart that is not coloured."""
_TICKS = (0.25, 0.5, 1, 2, 3, 6, 12, 24)

Line = tuple[str, Float64, Float64, Float64]
"""Label of a curve, then its values, and the lower and upper ends of its interval, `(K,)` each, 0 to 1."""


def curves(contrast: Float64, lines: Sequence[Line], *, salt: str) -> Markup:
    """Draw the share that is found over contrast, one curve per extent with its interval.

    Args:
        contrast: `(K,)` contrasts, ascending, above 0.
        lines: Curves, from the smallest extent to the largest.
        salt: Text that no other plot of the page has.
    """
    width, height = 420, 290
    with style(salt):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((46 / width, 44 / height, (width - 96) / width, (height - 58) / height))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xscale("log")
        taken: list[float] = []
        for number, (label, values, low, high) in enumerate(lines):
            weight = (number + 1) / len(lines)
            axes.fill_between(contrast, low, high, color=GOOD, alpha=0.06 + 0.04 * weight, linewidth=0)
            axes.plot(contrast, values, color=GOOD, linewidth=1 + 1.8 * weight, alpha=0.45 + 0.55 * weight, zorder=3)
            place = _free(float(values[-1]), taken)
            taken.append(place)
            axes.annotate(
                label,
                (contrast[-1], place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                annotation_clip=False,
            )
        for share in (0.5, 0.95):
            axes.axhline(share, color=MUTED, linewidth=1, dashes=(3, 3))
        axes.axvline(3, color=DEFECT, linewidth=1, dashes=(3, 3))
        axes.set_xlim(contrast[0], contrast[-1])
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(FixedLocator([t for t in _TICKS if contrast[0] <= t <= contrast[-1]]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xlabel("contrast, times the local texture")
        axes.set_ylabel("found")
        return Markup(svg_of(figure))  # noqa: S704 - no text of others in it


def _free(wanted: float, taken: Sequence[float], apart: float = 0.065) -> float:
    """Move a label down or up until it is clear of the others."""
    steps = (wanted + sign * step * 0.01 for step in range(100) for sign in (1, -1))
    return next((at for at in steps if 0 <= at <= 1.03 and all(abs(at - each) >= apart for each in taken)), wanted)


def weak_image(mean: Float64, share: Float64, weak: Sequence[tuple[float, float]]) -> Image.Image:
    """Colour a mean image by what is found at each place, and put a ring around each weak place.

    Args:
        mean: `(H, W, 3)` mean of good images, 0 to 255.
        share: `(G, G)` share that is found there of what is found in half of all places; NaN where it is unknown.
        weak: (row, column) of each weak place, 0 to 1.
    """
    height, width = mean.shape[:2]
    factor = _SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = Image.fromarray(mean.clip(0, 255).round().astype(np.uint8)).convert("L").resize(size)
    grey = _DARKEST + (255 - _DARKEST) / 255 * np.asarray(image, np.float64)[..., None]
    known = np.isfinite(share)
    strength = np.where(known, (np.nan_to_num(share, nan=0.5) - 0.5) * 2, 0.0)
    spread = np.asarray(
        Image.fromarray(strength.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), np.float64
    ).clip(-1, 1)[..., None]
    colour = np.where(spread < 0, _POOR, _RICH)
    opaque = _OPAQUE * np.maximum(np.abs(spread) - _ALIKE, 0) / (1 - _ALIKE)
    pixels = grey * (1 - opaque) + colour * opaque
    rows, columns = np.mgrid[: size[1], : size[0]]
    for row, column in weak:
        away = np.hypot(rows - row * size[1], columns - column * size[0])
        radius = 0.11 * max(size)
        pixels[np.abs(away - radius) < 3.2] = 255
        pixels[np.abs(away - radius) < 1.8] = _POOR
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
