"""A rehearsal as text for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_edge.evaluation.metrics import Rate
from padim_edge.evaluation.rows import point_notes
from padim_edge.evaluation.tables import Row, percent, text_table
from padim_edge.planting import MOVED
from padim_edge.rehearsal.chart import CONTRASTS, SHARES, Cell
from padim_edge.rehearsal.curve import ALL, Needed
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT, Trial
from padim_edge.rehearsal.verdict import MANY, told_extent
from padim_edge_learn.set_threshold import number

if TYPE_CHECKING:
    from padim_edge.rehearsal.foretold import Foretold
    from padim_edge.rehearsal.result import Rehearsal

__all__ = ["basis", "cell_text", "needed_text", "point_rows", "span_text", "summary", "to_json"]


def summary(rehearsal: Rehearsal) -> str:
    """Write verdict, chart, needed contrasts, kinds, thresholds and advice as lines of text."""
    chart = rehearsal.chart
    lines = [*rehearsal.verdict, ""]
    lines += [f"Found at the threshold, by extent in pixels (down) and contrast (across), of {basis(rehearsal)}:"]
    lines += text_table(_chart_rows(chart.cells))
    lines += [
        "",
        "Contrast that a defect needs, in times the local texture (95 % interval; without moved pieces):",
    ]
    lines += text_table(_needed_rows(chart.needed))
    lines += ["", *text_table(_kind_rows(rehearsal))]
    if rows := point_rows(rehearsal):
        lines += ["", "What other thresholds would find of the plainly visible defects:"]
        lines += [*text_table(rows, last_left=True), *_point_notes(rehearsal)]
    if rehearsal.foretold is not None:
        lines += ["", *_foretold_lines(rehearsal.foretold)]
    if rehearsal.remedies:
        lines += ["", "What to try, in this order:"]
        for i, step in enumerate(rehearsal.remedies, 1):
            lines += [f"{i}. {step.sentence}", *([f"   {step.command}"] if step.command else [])]
    return "\n".join(lines)


def basis(rehearsal: Rehearsal) -> str:
    """Say how many defects on which images are counted."""
    left = len(rehearsal.trials) - len(rehearsal.counted)
    words = f"{len(rehearsal.counted)} defects on {len(rehearsal.good)} {rehearsal.how}"
    return f"{words}; {left} more are on images that raise an alarm without them" if left else words


def span_text(span: tuple[float, float | None]) -> str:
    """Write a span such as `2 to 3`, `under 1` or `6 and more`."""
    low, high = span
    if high is None:
        return f"{low:g} and more"
    return f"under {high:g}" if low == 0 else f"{low:g} to {high:g}"


def cell_text(found: Rate | None) -> str:
    """Write what was found in a cell, such as `3 of 4`."""
    return "-" if found is None else f"{found.count} of {found.total}"


def _chart_rows(cells: Sequence[Cell]) -> list[Row]:
    width = len(CONTRASTS) + 1
    rows: list[Row] = [("", *(span_text(each.contrast) for each in cells[:width]))]
    for start in range(0, len(cells), width):
        row = cells[start : start + width]
        rows.append((f"{span_text(row[0].extent)} px", *(cell_text(each.found) for each in row)))
    return rows


def needed_text(needed: Needed) -> str:
    """Write a needed contrast with its interval, such as `2.1 (1.8 to 2.6)`."""
    if needed.contrast is None:
        return "not reached" if needed.low is None else f"not reached ({needed.low:.1f} or more)"
    low = needed.contrast if needed.low is None else needed.low
    end = f"{low:.1f} or more" if needed.high is None else f"{low:.1f} to {needed.high:.1f}"
    return f"{needed.contrast:.1f} ({end})"


def _needed_rows(needed: Sequence[Needed]) -> list[Row]:
    rows: list[Row] = [("extent", *(f"{percent(share).replace('.0', '')} found" for share in SHARES))]
    extents = dict.fromkeys(each.extent for each in needed)
    rows += [(f"{extent:g} px", *(needed_text(each) for each in needed if each.extent == extent)) for extent in extents]
    return rows


def _kind_rows(rehearsal: Rehearsal) -> list[Row]:
    chart = rehearsal.chart
    extent = told_extent(chart)
    needs = "" if extent is None else f"9 of 10 of {extent:g} px need"
    rows: list[Row] = [("kind", "found", "95 % interval", "plainly visible", needs)]
    for name, curve, found, plain in [
        *((each.kind, each.kind, each.found, each.plain) for each in chart.kinds),
        ("all kinds", ALL, chart.found, chart.plain),
    ]:
        told = extent is not None and name not in MOVED
        need = needed_text(chart.curves[curve].needed(MANY, extent)) if told and extent is not None else ""
        rows.append((name, cell_text(found), _interval(found), cell_text(plain), need))
    if (alarms := rehearsal.false_alarms) is not None:
        rows.append(("good images above the threshold", cell_text(alarms), _interval(alarms), "", ""))
    return rows


def _interval(found: Rate) -> str:
    return f"{100 * found.low:.0f} to {100 * found.high:.0f} %"


def point_rows(rehearsal: Rehearsal) -> list[Row]:
    """Write a heading and one row per threshold to choose from."""
    rows: list[Row] = [("false alarms asked", "threshold", "false alarms", "found", f"{rehearsal.origin.command} ...")]
    for each in rehearsal.points:
        asked = f" ({100 * each.asked:.2g} %)" if not each.command and each.asked is not None else ""
        found = "-"
        if each.miss is not None:
            found = f"{each.miss.total - each.miss.count} of {each.miss.total} ({percent(1 - each.miss.value)})"
        rows.append(
            (
                f"{each.name}{asked}{' *' if each.extrapolated else ''}",
                number(each.threshold),
                cell_text(each.false_alarm),
                found,
                each.command.removeprefix(f"{rehearsal.origin.command} "),
            )
        )
    return rows


def _point_notes(rehearsal: Rehearsal) -> list[str]:
    return [note for note in point_notes(rehearsal.points, rehearsal.metadata) if note.startswith("*")]


def _foretold_lines(found: Foretold) -> list[str]:
    rows: list[Row] = [("extent", "contrast", "real defects found", "the chart foretold")]
    for each in found.groups:
        share = f"{cell_text(each.found)} ({100 * each.found.value:.0f} %)"
        expected = f"{100 * each.expected:.0f} % ({100 * each.low:.0f} to {100 * each.high:.0f} %)"
        rows.append((f"{span_text(each.extent)} px", span_text(each.contrast), share, expected))
    rows.append(
        (
            "all",
            "",
            f"{cell_text(found.found)} ({100 * found.found.value:.0f} %)",
            f"{100 * found.expected:.0f} %",
        )
    )
    lines = ["Real defects on the chart:", *text_table(rows)]
    if found.difference is not None:
        lines.append(
            f"Mean difference over the {found.counted} groups of 15 or more: {100 * found.difference:.0f} points."
        )
    return lines


def to_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """Return the object that `rehearse --json` prints."""
    chart = rehearsal.chart
    found = rehearsal.foretold
    return {
        "class": rehearsal.metadata.class_name,
        "level": rehearsal.level,
        "line": rehearsal.line,
        "verdict": list(rehearsal.verdict),
        "notes": list(rehearsal.notes),
        "images": len(rehearsal.good),
        "how": rehearsal.how,
        "scale": rehearsal.scale,
        "seed": rehearsal.seed,
        "frame": list(rehearsal.metadata.size),
        "threshold": rehearsal.threshold,
        "false_alarm_rate": rehearsal.metadata.false_alarm_rate,
        "false_alarms": _rate(rehearsal.false_alarms),
        "defects": len(rehearsal.trials),
        "counted": len(rehearsal.counted),
        "plain": {
            "contrast": PLAIN_CONTRAST,
            "extent": PLAIN_EXTENT,
            "found": _rate(chart.plain),
            "interval_over_images": None if chart.spread is None else list(chart.spread),
        },
        "found": _rate(chart.found),
        "chart": [
            {"extent": list(each.extent), "contrast": list(each.contrast), "found": _rate(each.found)}
            for each in chart.cells
        ],
        "needed": [_needed(each) for each in chart.needed],
        "curve": {
            "per_doubling_of_contrast": float(chart.curve.slopes[0]),
            "per_doubling_of_extent": float(chart.curve.slopes[1]),
            "found_at_plain": float(chart.curve(PLAIN_CONTRAST, PLAIN_EXTENT)),
            "highest_contrast": chart.curve.highest,
        },
        "kinds": {
            each.kind: {
                "found": _rate(each.found),
                "plain": _rate(each.plain),
                "needed": [_needed(other) for other in each.needed],
            }
            for each in chart.kinds
        },
        "weak_places": [
            {
                "place": list(each.place),
                "share": each.share,
                "defects": each.trials,
                "found": each.found,
                "expected": each.expected,
            }
            for each in rehearsal.weak.weak
        ],
        "weak_map": [[None if np.isnan(share) else float(share) for share in row] for row in rehearsal.weak.share],
        "thresholds": [
            {
                "name": each.name,
                "false_alarm_rate_asked": each.asked,
                "threshold": each.threshold,
                "extrapolated": each.extrapolated,
                "false_alarms": _rate(each.false_alarm),
                "plain_missed": _rate(each.miss),
                "command": each.command,
            }
            for each in rehearsal.points
        ],
        "real": None
        if found is None
        else {
            "defects": found.defects,
            "found": _rate(found.found),
            "expected": found.expected,
            "mean_difference": found.difference,
            "groups_counted": found.counted,
            "groups": [
                {
                    "extent": list(each.extent),
                    "contrast": list(each.contrast),
                    "found": _rate(each.found),
                    "expected": each.expected,
                    "interval": [each.low, each.high],
                }
                for each in found.groups
            ],
            "trials": [_trial(each) for each in rehearsal.real],
        },
        "remedies": [{"sentence": each.sentence, "command": each.command} for each in rehearsal.remedies],
        "good": [{"path": each.name, "score": each.score} for each in rehearsal.good],
        "trials": [_trial(each) for each in rehearsal.trials],
    }


def _rate(found: Rate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"count": found.count, "total": found.total, "rate": found.value, "interval": [found.low, found.high]}


def _needed(each: Needed) -> dict[str, Any]:
    return {
        "share": each.share,
        "extent": each.extent,
        "contrast": each.contrast,
        "interval": [each.low, each.high],
    }


def _trial(each: Trial) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "extent": each.extent,
        "contrast": each.contrast,
        "levels": each.levels,
        "place": list(each.place),
        "score": each.score,
        "before": each.before,
        "area": each.area,
        "image": each.image,
    }
