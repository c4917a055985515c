"""Figures of `benchmarks.timing`: bars by method, and lines against the number of training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.rivals.page import Row

__all__ = ["GRID", "INK", "LINES", "MARKS", "OURS", "by_method", "growth", "save"]

# Okabe and Ito's colours: people with any colour vision can tell them apart, and they differ in lightness in print.
OURS, RIVAL, FLOOR, INK, GRID = "#0072B2", "#E69F00", "#999999", "#222222", "#DDDDDD"
OF_KIND = {"ours": OURS, "rival": RIVAL, "floor": FLOOR}
NAME_OF_KIND = {"ours": "padim-edge", "rival": "other methods", "floor": "backbone alone"}
LINES = (OURS, "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKS = ("o", "s", "^", "D", "v")


def by_method(rows: Sequence[Row], stem: Path, subtitle: str) -> None:
    """Draw the time of each method on a logarithmic axis, fastest on top, and its memory beside it.

    Args:
        rows: Methods in any order.
        stem: Path of the files without their endings, which are `.svg` and `.png`.
        subtitle: Hardware and threads.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    ordered = sorted(rows, key=lambda row: -row.summary.median)
    places = range(len(ordered))
    figure = Figure(figsize=(11, 1.7 + 0.42 * len(ordered)), layout="constrained")
    times, memory = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    for place, row in zip(places, ordered, strict=True):
        colour, summary = OF_KIND[row.kind], row.summary
        times.barh(place, summary.median, height=0.62, color=colour)
        times.plot((summary.p10, summary.p90), (place, place), color=INK, linewidth=1.2, marker="|", markersize=7)
        times.plot(summary.image_median, place, marker="D", color="white", markeredgecolor=INK, markersize=5)
        # The bar's figure stands in the bar, the diamond's beside the diamond.
        white = "white" if row.kind == "ours" else INK
        inside = {**_beside(), "ha": "right", "color": white, "fontweight": "bold"}
        times.annotate(_milliseconds(summary.median), (summary.p10, place), (-5, 0), **inside)
        end = max(summary.p90, summary.image_median)
        times.annotate(_milliseconds(summary.image_median), (end, place), (8, 0), **_beside(), color="#555555")
        _memory_bars(memory, place, row, colour)
    times.set_yticks(list(places), [row.label for row in ordered])
    for label, row in zip(times.get_yticklabels(), ordered, strict=True):
        label.set_fontweight("bold" if row.kind == "ours" else "normal")
    ends = [value for row in rows for value in (row.summary.p10, row.summary.p90, row.summary.image_median)]
    _logarithmic(times, (min(ends) / 6, max(ends) * 3), "Milliseconds per image (log scale)")
    sizes = [value for row in rows for value in (row.private_mb, row.shipped_mb) if value]
    _logarithmic(memory, (min([1.0, *sizes]), max([10.0, *sizes]) * 30), "MB (log scale)")
    times.set_title("Time per image", loc="left")
    memory.set_title("Private memory, model files", loc="left")
    kinds = [kind for kind in OF_KIND if any(row.kind == kind for row in rows)]
    handles: list[Any] = [Patch(color=OF_KIND[kind], label=NAME_OF_KIND[kind]) for kind in kinds]
    handles += _explained()
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    figure.suptitle(f"One image of 224 x 224, {subtitle}", x=0.01, ha="left", fontsize=12)
    save(figure, stem)


def growth(rows: Sequence[Row], stem: Path, subtitle: str) -> None:
    """Draw the time and the size against the number of training images, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    times, memory = figure.subplots(1, 2)
    names = sorted({row.name for row in rows}, key=lambda name: (not name.startswith("ours"), name))
    for i, name in enumerate(names):
        line = sorted((row for row in rows if row.name == name), key=lambda row: row.images)
        counts = [row.images for row in line]
        style: dict[str, Any] = {
            "color": LINES[i % len(LINES)],
            "marker": MARKS[i % len(MARKS)],
            "linewidth": 2.8 if line[0].kind == "ours" else 1.6,
        }
        times.fill_between(
            counts,
            [row.summary.p10 for row in line],
            [row.summary.p90 for row in line],
            color=style["color"],
            alpha=0.2,
        )
        for axes, values, shown in (
            (times, [row.summary.median for row in line], _milliseconds),
            (memory, [row.shipped_mb for row in line], _megabytes),
        ):
            axes.plot(counts, values, label=line[0].label, **style)
            axes.annotate(shown(values[-1]), (counts[-1], values[-1]), (9, 0), **_beside(), color=style["color"])
        private = [row.private_mb for row in line if row.private_mb is not None]
        if len(private) == len(line):
            memory.plot(counts, private, **{**style, "marker": "", "linewidth": 1.4}, linestyle=":")
    for axes, what in ((times, "Milliseconds per image"), (memory, "MB")):
        counts = sorted({row.images for row in rows})
        axes.set(xscale="log", yscale="log", xlabel="Good images fitted on", ylabel=what)
        _plain(axes)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlim(counts[0] / 1.15, counts[-1] * 1.7)
    times.set_title("Time per image (band: 10th to 90th percentile)", loc="left")
    memory.set_title("Model files (line) and private memory (dotted)", loc="left")
    handles, labels = times.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"Growth with the number of good images, {subtitle}", x=0.01, ha="left", fontsize=12)
    save(figure, stem)


def _memory_bars(axes: Any, place: int, row: Row, colour: str) -> None:
    text = []
    if row.private_mb is not None:
        axes.barh(place, max(row.private_mb, 1.0), height=0.62, color=colour)
        text.append(_number(row.private_mb))
    axes.plot((row.shipped_mb, row.shipped_mb), (place - 0.42, place + 0.42), color=INK, linewidth=2.2)
    text.append(f"files {_number(row.shipped_mb)}")
    axes.annotate(", ".join(text), (max(row.private_mb or 1.0, row.shipped_mb), place), (8, 0), **_beside())


def _explained() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=INK, marker="|", linewidth=1.2, label="10th to 90th percentile"),
        Line2D([], [], color="white", markeredgecolor=INK, marker="D", linewidth=0, label="with resize from 900 x 900"),
        Line2D([], [], color=INK, linewidth=2.2, marker="", label="Model files (bar: private memory)"),
    ]


def _beside() -> dict[str, Any]:
    return {"textcoords": "offset points", "va": "center", "fontsize": 9}


def _logarithmic(axes: Any, limits: tuple[float, float], label: str) -> None:
    axes.set(xscale="log", xlim=limits, xlabel=label)
    _plain(axes)


def _plain(axes: Any) -> None:
    """Label logarithmic axes with figures instead of powers of ten, and draw no more than needed."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
    axes.grid(axis="both" if axes.get_yscale() == "log" else "x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _milliseconds(value: float) -> str:
    return f"{_number(value)} ms"


def _megabytes(value: float) -> str:
    return f"{_number(value)} MB"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 30 else f"{value:,.0f}"


def save(figure: Any, stem: Path) -> None:
    """Write a figure as `.svg` and `.png`; the same figure always gives the same bytes."""
    import matplotlib as mpl

    # Letters are outlines, because a browser may not have the fonts.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": stem.name}):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    figure.savefig(stem.with_suffix(".png"), dpi=150, metadata={"Software": None})
