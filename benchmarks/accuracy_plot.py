"""Figure of `benchmarks.accuracy`: accuracy against size, one point per model, on the hardest class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy_table import KINDS, Row
from benchmarks.plots import GRID, INK, LINES, MARKS, save

__all__ = ["draw", "hardest"]

PANELS = ("image_auroc", "pro")
"""Figures that are drawn, one per panel. Pixel AUROC is left out: it is near 1 for all and says what PRO says."""

RIVAL = "#555555"

TICKS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
SMALLEST = 1e-4
"""Smallest distance to 1 that is drawn, because the logarithm of less would leave the page."""

_PLACES = [
    (far * across, far * down)
    for far in (1.0, 1.7, 2.5, 3.4)
    for across, down in (
        *((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)),
        *((0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1)),
    )
]
"""Places of a label relative to its point, in the order in which they are tried; 1 is right beside it."""
_BESIDE = 12
"""Number of places that are right beside the point."""


@dataclass(frozen=True)
class _Style:
    """Look of the points of a preset, or of all rivals."""

    label: str
    """Name in the legend."""
    colour: str
    """Colour of points and labels."""
    marker: str
    """Shape of a point."""
    line: float
    """Width of the line that joins the points."""


def hardest(rows: Sequence[Row]) -> str:
    """Return the class on which the methods differ most: that of the lowest image AUROC."""
    return min(rows, key=lambda row: 1.0 if row.image_auroc is None else row.image_auroc).class_name


def draw(rows: Sequence[Row], file: Path, subtitle: str) -> None:
    """Draw two panels above one another, with the same logarithmic axis of sizes.

    Args:
        rows: At least one row; of several seeds, those of the first are drawn.
        file: The SVG file; a PNG goes beside it.
        subtitle: Name of the network.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    class_name = hardest(rows)
    seed = next((row.seed for row in rows if row.ours), 0)
    chosen = [row for row in rows if row.class_name == class_name and (row.seed == seed or not row.ours)]
    styles = _styles(chosen)
    figure = Figure(figsize=(10.5, 12), layout="constrained")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    for axes, field in zip(panels, PANELS, strict=True):
        shown = [row for row in chosen if getattr(row, field) is not None]
        for style in dict.fromkeys(styles.values()):
            _line([row for row in shown if styles[row.preset] == style], axes, field, style)
        axes.set_xscale("log")
        _errors(axes)
        axes.set_title(f"{KINDS[field]} (higher is better; log scale of 1 - {KINDS[field]})", loc="left", fontsize=11)
        axes.tick_params(axis="x", which="minor", bottom=False)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _sizes(panels[-1], [row.megabytes for row in chosen])
    handles: list[Any] = [
        Line2D([], [], color=style.colour, marker=style.marker, linewidth=style.line, label=style.label)
        for style in dict.fromkeys(styles.values())
    ]
    hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "color": INK, "linewidth": 0}
    handles.append(Line2D([], [], **hollow, label="reduced Gaussians (rank or diagonal)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    first = chosen[0]
    counts = f"fitted on {first.images} good images, tested on {first.good} good and {first.anomalous} anomalous"
    figure.suptitle(f"Accuracy against size: {class_name}, {subtitle}, {counts}", x=0.01, ha="left", fontsize=12)
    figure.draw_without_rendering()
    for axes, field in zip(panels, PANELS, strict=True):
        shown = [row for row in chosen if getattr(row, field) is not None]
        _label(axes, [(row.megabytes, getattr(row, field), *_text(row, styles)) for row in shown])
    save(figure, file)


def _styles(rows: Sequence[Row]) -> dict[str, _Style]:
    """Return the look of each preset; rivals have a blank one."""
    presets = list(dict.fromkeys(row.preset for row in rows if row.ours))
    styles = {
        preset: _Style(f"padim-edge, {preset}", LINES[i % len(LINES)], MARKS[i % len(MARKS)], 1.2)
        for i, preset in enumerate(presets)
    }
    return styles | ({"": _Style("other methods", RIVAL, "X", 0)} if any(not row.ours for row in rows) else {})


def _text(row: Row, styles: dict[str, _Style]) -> tuple[str, str]:
    """Return the label of a point and its colour."""
    words = row.precision.replace(":rank=", " rank ").replace(":", " ") if row.ours else row.title
    return words.replace("-tensorrt", " TensorRT"), styles[row.preset].colour


def _whole(row: Row) -> bool:
    return ":" not in row.precision


def _line(rows: Sequence[Row], axes: Any, field: str, style: _Style) -> None:
    """Draw the points of a preset; those with whole Gaussians are joined."""
    whole = sorted((row for row in rows if _whole(row)), key=lambda row: row.megabytes)
    cut = [row for row in rows if not _whole(row)]
    shape: dict[str, Any] = {"marker": style.marker, "color": style.colour, "markersize": 7}
    for points, look in ((whole, {"linewidth": style.line}), (cut, {"linewidth": 0, "markerfacecolor": "white"})):
        axes.plot([row.megabytes for row in points], [getattr(row, field) for row in points], **shape, **look)


def _errors(axes: Any) -> None:
    """Scale the axis by the distance to 1: otherwise the methods that fail would squeeze those that work."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale(
        "function",
        functions=(lambda value: -np.log10(np.maximum(1 - value, SMALLEST)), lambda place: 1 - 10.0**-place),
    )
    axes.margins(y=0.1)
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _sizes(axes: Any, sizes: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    axes.xaxis.set_major_locator(FixedLocator([figure * 10**power for power in range(-1, 5) for figure in (1, 2, 5)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("Model files (MB, log scale; best is top left)")


def _label(axes: Any, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write a label beside each point (x, y, text, colour), in a free place if there is one."""
    from matplotlib.transforms import Bbox

    scale = axes.figure.dpi / 72
    places = axes.transData.transform([(x, y) for x, y, _, _ in points])
    taken = [Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale) for x, y in places]
    lines = [line.get_path().transformed(axes.transData) for line in axes.lines if line.get_linewidth()]
    for (x, y, text, colour), (left, bottom) in zip(points, places, strict=True):
        trial = axes.text(x, y, text, fontsize=8.5)
        size = trial.get_window_extent()
        trial.remove()
        candidates: list[tuple[int, int, float, float, Bbox]] = []
        for across, down in _PLACES:
            dx, dy = across * (size.width / 2 + 7 * scale), down * (size.height / 2 + 7 * scale)
            box = Bbox.from_bounds(left + dx - size.width / 2, bottom + dy - size.height / 2, size.width, size.height)
            # A label over a line can be read, one over another one cannot.
            hits = 9 * (box.count_overlaps(taken) + (not _inside(box, axes.bbox)))
            hits += sum(line.intersects_bbox(box, filled=False) for line in lines)
            candidates.append((hits, len(candidates), dx, dy, box))
        _, place, dx, dy, box = min(candidates, key=lambda each: each[:2])
        axes.annotate(
            text,
            (x, y),
            (dx / scale, dy / scale),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
            # A line leads from a distant label to its point.
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6} if place >= _BESIDE else None,
        )
        taken.append(box)


def _inside(box: Any, around: Any) -> bool:
    return bool(around.x0 <= box.x0 and box.x1 <= around.x1 and around.y0 <= box.y0 and box.y1 <= around.y1)
