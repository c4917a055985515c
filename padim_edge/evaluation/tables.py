"""Tables for the terminal and for notebooks, and the words and forms of the metrics in them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

__all__ = [
    "LABELS",
    "METRICS",
    "Row",
    "change",
    "html_table",
    "metric",
    "metric_row",
    "notebook",
    "percent",
    "text_table",
]

Row = tuple[str, ...]
"""Cells of one row of a table."""

LABELS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "best_f1": "best F1",
    "pixel_auroc": "pixel AUROC",
    "pro": "PRO",
    "false_alarm_rate": "false alarms",
    "miss_rate": "misses",
}
"""Words for each metric."""

METRICS = tuple(LABELS)
"""Names of the metrics, in the order in which they are shown."""

_RATES = ("false_alarm_rate", "miss_rate")

_STYLE = "text-align: {}; white-space: nowrap; padding: 2px 8px"
"""Style of a cell, by the side that it is aligned to."""


def text_table(rows: Sequence[Row], *, last_left: bool = False) -> list[str]:
    """Align rows of cells as lines of text, the first column to the left and the others to the right.

    Args:
        rows: The rows, one or more.
        last_left: Whether the last column stands to the left as well.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = {0, len(widths) - 1} if last_left else {0}
    aligned = [
        [cell.ljust(widths[i]) if i in left else cell.rjust(widths[i]) for i, cell in enumerate(row)] for row in rows
    ]
    return ["  ".join(cells).rstrip() for cells in aligned]


def html_table(rows: Sequence[Row]) -> str:
    """Write rows of cells as an HTML table for notebooks; the first row is the heading. All cells are escaped."""
    head, *body = rows
    lines = [_html_row(head, "th", "th"), *(_html_row(row, "th", "td") for row in body)]
    return f"<table style='margin: 0 0 12px'><thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table>"


def notebook(about: str, tables: Sequence[Sequence[Row]], notes: Sequence[str]) -> str:
    """Write what a notebook shows: a sentence, some tables and some notes. All of it is escaped."""
    parts = [f"<p>{html.escape(about)}</p>", *map(html_table, tables)]
    parts += [f"<small>{html.escape(note)}</small><br>" for note in notes]
    return f"<div>{''.join(parts)}</div>"


def _html_row(row: Row, first: str, others: str) -> str:
    left, right = (_STYLE.format(side) for side in ("left", "right"))
    cells = [f'<{first} style="{left}">{html.escape(row[0])}</{first}>']
    cells += [f'<{others} style="{right}">{html.escape(cell)}</{others}>' for cell in row[1:]]
    return f"<tr>{''.join(cells)}</tr>"


def metric(name: str, value: float | None) -> str:
    """Write the value of a metric; a dash where it is undefined."""
    if value is None:
        return "-"
    return percent(value) if name in _RATES else f"{value:.4f}"


def change(name: str, value: float | None) -> str:
    """Write the change of a metric with its sign; a dash where it is undefined."""
    if value is None:
        return "-"
    return f"{100 * value:+z.1f} points" if name in _RATES else f"{value:+z.4f}"


def percent(share: float) -> str:
    """Write a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def metric_row(metrics: Mapping[str, float | None]) -> Row:
    """Write all metrics, in the order of `METRICS`."""
    return tuple(metric(name, metrics[name]) for name in METRICS)
