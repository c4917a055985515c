"""The report's plots as SVG inside the HTML page, with colours and fonts of the page's style sheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from padim_edge.evaluation.report.drawing import CALIBRATION, DEFECT, GOOD, INK, LINE, MUTED, style, svg_of

__all__ = ["Strip", "curve", "histogram"]

Floats = npt.NDArray[np.float64]

_ROLES = {"calibration": CALIBRATION, "good": GOOD, "defect": DEFECT}

_WIDTH = 360
"""Width of the histogram in CSS pixels, for a phone: there 1 unit is 1 pixel, so fonts have their natural size."""
_ROW = 43
"""Height of a row of the histogram in CSS pixels."""
_BINS = 48
"""Approximate number of bins."""
_LOG_FROM = 20
"""Ratio of the highest to the lowest score from which the axis is logarithmic."""


@dataclass(frozen=True, eq=False)
class Strip:
    """One row of the histogram."""

    label: str
    """Name of the row."""
    note: str
    """Text at the other end of the row."""
    role: str
    """Role that sets the colour: `calibration`, `good` or `defect`."""
    scores: npt.NDArray[np.floating]
    """`(N,)` scores; those that are not finite are not drawn."""


def histogram(strips: Sequence[Strip], threshold: float, *, label: str, salt: str) -> Markup:
    """Draw rows of bars over one axis of scores, each row with its own height.

    The edges are made around the threshold, so no bar lies on both sides of it. Where the scores span more than a
    factor of 20, the axis is logarithmic, and scores that are not positive stand in the first bar.

    Args:
        strips: Rows from top to bottom, with at least one finite score among them.
        threshold: Position of the dashed line.
        label: Text at the line.
        salt: Text that no other plot of the page has.
    """
    finite = [np.asarray(each.scores, np.float64)[np.isfinite(each.scores)] for each in strips]
    edges, logarithmic = _edges(np.concatenate(finite), threshold)
    top, bottom, side = 30, 40, 8
    height = top + _ROW * len(strips) + bottom
    # Labels may be any text. Matplotlib would take some for mathematics or lack glyphs, so the page sets them.
    texts: dict[str, Markup] = {}
    with style(salt):
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        axes = figure.add_axes(
            (side / _WIDTH, bottom / height, 1 - 2 * side / _WIDTH, _ROW * len(strips) / height), frameon=False
        )
        if logarithmic:
            axes.set_xscale("log")
            decades = np.log10(edges[-1] / edges[0])
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=7))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, len(strips))
        axes.set_yticks([])
        axes.set_xlabel("score (logarithmic)" if logarithmic else "score")
        axes.axvspan(threshold, edges[-1], color=DEFECT, alpha=0.07, linewidth=0)
        for i, (strip, scores) in enumerate(zip(strips, finite, strict=True)):
            base = len(strips) - 1 - i
            counts = _counts(scores, edges)
            axes.axhline(base, color=LINE, linewidth=1)
            if len(scores):
                heights = base + 0.56 * counts / counts.max()
                axes.stairs(heights, edges, baseline=base, fill=True, color=_ROLES[strip.role], linewidth=0.5)
            # The line spares the texts above the bars.
            axes.plot([threshold] * 2, [base, base + 0.6], color=INK, linewidth=1.4, dashes=(4, 2), clip_on=False)
            for text, x, end, colour in ((strip.label, 0.0, "left", INK), (strip.note, 0.99, "right", MUTED)):
                slot = f"slot{i}{end}"
                texts[slot] = escape(text)
                place = axes.get_yaxis_transform()
                axes.text(x, base + 0.68, slot, transform=place, ha=end, color=colour, clip_on=False)
        share = float(axes.transAxes.inverted().transform(axes.transData.transform((threshold, 0)))[0])
        axes.annotate(
            label,
            (threshold, len(strips)),
            xytext=(0, 7),
            textcoords="offset points",
            ha="left" if share < 0.25 else "right" if share > 0.75 else "center",
            color=INK,
        )
        svg = svg_of(figure)
    svg = re.sub(r"slot\d+(?:left|right)", lambda found: texts[found[0]], svg)
    return Markup(svg)  # noqa: S704 - matplotlib's own text, and the labels are escaped above


def curve(
    x: Floats,
    y: Floats,
    *,
    y_label: str,
    salt: str,
    limit: float | None = None,
    point: tuple[float, float] | None = None,
) -> Markup:
    """Draw a curve over the false-positive rate, with the area below it shaded.

    Args:
        x: `(K,)` false-positive rates, 0 to 1, ascending.
        y: `(K,)` values, 0 to 1.
        y_label: Label of the vertical axis.
        salt: Text that no other plot of the page has.
        limit: End of the area; the axis ends a little behind it. Without it, the diagonal of chance is drawn.
        point: (x, y) at the model's threshold.
    """
    width, height = 320, 264
    with style(salt):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((46 / width, 42 / height, (width - 60) / width, (height - 56) / height))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        end = 1.0 if limit is None else min(1.0, limit * 4 / 3)
        shaded_x, shaded_y = _up_to(x, y, 1.0 if limit is None else limit)
        axes.fill_between(shaded_x, shaded_y, color=GOOD, alpha=0.13, linewidth=0)
        axes.plot(*_up_to(x, y, end), color=GOOD, linewidth=2.2, solid_joinstyle="round", clip_on=False, zorder=3)
        if limit is None:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(3, 3))
        else:
            axes.axvline(limit, color=INK, linewidth=1.2, dashes=(4, 3))
            _note(axes, f"limit {limit:g}", (limit, 0.05), right=True)
        if point is not None:
            axes.plot(*point, "o", markersize=8, color=DEFECT, markeredgecolor=INK, clip_on=False, zorder=4)
            low = point[1] > 0.5
            _note(axes, "threshold", (point[0], point[1] - 0.1 if low else point[1] + 0.06), right=point[0] > 0.5)
        axes.set_xlim(0, end)
        axes.set_ylim(0, 1)
        axes.set_xlabel("false-positive rate")
        axes.set_ylabel(y_label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}".replace("0.0", "0")))
        return Markup(svg_of(figure))  # noqa: S704 - no text of others in it


def _note(axes: Axes, text: str, at: tuple[float, float], *, right: bool) -> None:
    axes.annotate(
        text,
        at,
        xytext=(-7 if right else 7, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        color=INK,
        zorder=5,
    )


def _up_to(x: Floats, y: Floats, end: float) -> tuple[Floats, Floats]:
    """Cut off the curve at `x = end`, by linear interpolation."""
    kept = x < end
    return np.append(x[kept], end), np.append(y[kept], np.interp(end, x, y))


def _edges(scores: Floats, threshold: float) -> tuple[Floats, bool]:
    """Choose the edges of about `_BINS` bins, one of them at the threshold, and whether the axis is logarithmic."""
    values = np.append(scores, threshold)
    low, high = float(values.min()), float(values.max())
    positive = values[values > 0]
    logarithmic = threshold > 0 and high > _LOG_FROM * float(positive.min())
    if logarithmic:
        low = max(float(positive.min()), high * 1e-6, np.finfo(np.float64).tiny)
        low, high, middle = np.log10(min(low, threshold)), np.log10(high), np.log10(threshold)
    else:
        middle = threshold
    # Some room at both ends, also where all scores are equal.
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - margin, high + margin
    left = max(1, round(_BINS * (middle - low) / (high - low)))
    edges = np.concatenate(
        [np.linspace(low, middle, left + 1), np.linspace(middle, high, max(1, _BINS - left) + 1)[1:]]
    )
    if logarithmic:
        edges = 10**edges
        edges[left] = threshold  # exactly, for the comparison in _counts
    return edges, logarithmic


def _counts(scores: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    """Count the scores in each bin. A score on an edge counts below it, because an alarm is above the threshold."""
    bins = len(edges) - 1
    return np.bincount((np.searchsorted(edges, scores, "left") - 1).clip(0, bins - 1), minlength=bins)
