"""Colours and fonts of the report's plots, and their way into the page as SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["CALIBRATION", "DEFECT", "GOOD", "INK", "LINE", "MUTED", "style", "svg_of"]

# Matplotlib draws in these colours, which nothing else uses. They are replaced by the page's own, light or dark.
INK, MUTED, LINE, CALIBRATION, GOOD, DEFECT = (f"#01020{i}" for i in range(6))
_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    CALIBRATION: "var(--calibration)",
    GOOD: "var(--good)",
    DEFECT: "var(--defect)",
}


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Set our fonts and colours on matplotlib's own defaults, whatever the user's configuration says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                # Names inside the SVG are the same for the same data, and unique on a page.
                "svg.hashsalt": salt,
                "font.size": 11,
                "font.family": ["DejaVu Sans"],  # comes with matplotlib; it only measures, the page has its own font
                "text.color": INK,
                "axes.labelcolor": MUTED,
                "axes.edgecolor": LINE,
                "axes.facecolor": "none",
                "axes.labelpad": 5,
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "figure.facecolor": "none",
            }
        )
        yield


def svg_of(figure: Figure) -> str:
    """Write the figure as an `<svg>` element, without prolog, metadata, or style rules for the whole page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"\s*<metadata>.*?</metadata>|\s*<style type=\"text/css\">.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL
    )
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view
    svg = re.sub(r"<svg[^>]*>", f'<svg {view[0]} aria-hidden="true">', svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1 and the like are the same in all plots
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    for drawn, shown in _COLOURS.items():
        svg = svg.replace(drawn, shown)
    return svg
