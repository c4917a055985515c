"""The page of a rehearsal: verdict, chart, curves, weak places, thresholds and examples in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_edge.datasets import GOOD
from padim_edge.evaluation.report import visibility
from padim_edge.evaluation.report.contents import KindRow
from padim_edge.evaluation.report.embedded import data_uri, outlined
from padim_edge.evaluation.report.templates import environment
from padim_edge.evaluation.report.words import percent, score, span
from padim_edge.evaluation.rows import point_notes
from padim_edge.rehearsal.chart import CONTRASTS, EXTENTS, SHARES
from padim_edge.rehearsal.foretold import Foretold
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT, Crop
from padim_edge.rehearsal.written import basis, cell_text, needed_text, span_text
from padim_edge_artifact.files import replacing

if TYPE_CHECKING:
    from padim_edge.rehearsal.result import Rehearsal

__all__ = ["write_rehearsal"]

_CROP = 200
"""Side of a crop on the page in pixels, about."""
_POINTS = 60
"""Number of points of a curve."""
_CURVES = (4.0, 8.0, 16.0, 32.0)
"""Extents in pixels that have a curve, where they were tried."""


def write_rehearsal(path: Path, rehearsal: Rehearsal) -> None:
    """Write the page: one HTML file that loads nothing else. The same rehearsal gives the same bytes.

    Raises:
        PadimEdgeError: The file cannot be written.
    """
    main, *sentences = rehearsal.verdict
    metadata = rehearsal.metadata
    template = environment(percent=percent, score=score, span=span).get_template("rehearsal.html")
    page = template.render(
        title=f"What the model sees of {metadata.class_name}",
        version=version("padim-edge"),
        main=main,
        sentences=sentences,
        remedies=rehearsal.remedies,
        frame=f"{metadata.size[1]} x {metadata.size[0]}",
        basis=f"{basis(rehearsal)}.",
        contrasts=[span_text(each.contrast) for each in rehearsal.chart.cells[: len(CONTRASTS) + 1]],
        chart=_chart(rehearsal),
        curves=_curves(rehearsal),
        shares=SHARES,
        needed=_needed(rehearsal),
        kinds=_kinds(rehearsal),
        good=_ALL_GOOD,
        weak=_weak(rehearsal),
        weak_words=_weak_words(rehearsal),
        points=rehearsal.points,
        point_notes=[note for note in point_notes(rehearsal.points, metadata) if note.startswith("*")],
        real=rehearsal.foretold,
        real_rows=[] if rehearsal.foretold is None else _real(rehearsal.foretold),
        galleries=_galleries(rehearsal),
        facts=_facts(rehearsal),
    )
    content = page.encode("utf-8", "backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


_ALL_GOOD = f"{GOOD}, without a defect"


def _chart(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    width = len(CONTRASTS) + 1
    found = rehearsal.chart.cells
    rows = [found[start : start + width] for start in range(0, len(found), width)]
    return [
        {
            "extent": span_text(row[0].extent),
            "cells": [
                {
                    "found": each.found,
                    "plain": each.contrast[0] >= PLAIN_CONTRAST and each.extent[0] >= PLAIN_EXTENT,
                }
                for each in row
            ],
        }
        for row in rows
    ]


def _curves(rehearsal: Rehearsal) -> Any:
    curve = rehearsal.chart.curve
    contrast = np.geomspace(0.25, max(curve.highest, PLAIN_CONTRAST), _POINTS)
    tried = [each.extent for each in rehearsal.counted or rehearsal.trials]
    extents = [each for each in _CURVES if min(tried) <= each <= max(tried)] or [float(np.median(tried))]
    lines = [(f"{each:g} px", curve(contrast, each), *curve.interval(contrast, each)) for each in extents]
    return visibility.curves(contrast, lines, salt="rehearsal curves")


def _needed(rehearsal: Rehearsal) -> list[tuple[str, list[str]]]:
    needed = rehearsal.chart.needed
    return [
        (f"{extent:g}", [needed_text(each) for each in needed if each.extent == extent])
        for extent in EXTENTS
        if any(each.extent == extent for each in needed)
    ]


def _kinds(rehearsal: Rehearsal) -> list[KindRow]:
    rows = [
        KindRow(each.kind, each.found.total, each.found.count, (each.found.low, each.found.high))
        for each in rehearsal.chart.kinds
    ]
    alarms = rehearsal.false_alarms
    first = [] if alarms is None else [KindRow(_ALL_GOOD, alarms.total, alarms.count, (alarms.low, alarms.high))]
    return [*first, *rows]


def _weak(rehearsal: Rehearsal) -> str:
    if rehearsal.mean is None:
        return ""
    weak = [each.place for each in rehearsal.weak.weak]
    return data_uri(visibility.weak_image(rehearsal.mean, rehearsal.weak.share, weak))


def _weak_words(rehearsal: Rehearsal) -> str:
    weak = rehearsal.weak.weak
    if not weak:
        return "No place is surely weaker than the others."
    counts = "; ".join(f"{each.found} of {each.trials} found where {each.expected:.0f} were expected" for each in weak)
    return f"Rings mark the places that are surely weak: {counts}."


def _real(found: Foretold) -> list[dict[str, str]]:
    rows = [
        {
            "extent": f"{span_text(each.extent)} px",
            "contrast": span_text(each.contrast),
            "found": f"{cell_text(each.found)} ({percent(each.found.value)})",
            "expected": f"{percent(each.expected)} ({span((each.low, each.high))})",
        }
        for each in found.groups
    ]
    last = {
        "extent": "all",
        "contrast": "",
        "found": f"{cell_text(found.found)} ({percent(found.found.value)})",
        "expected": percent(found.expected),
    }
    return [*rows, last]


def _galleries(rehearsal: Rehearsal) -> list[tuple[str, str, list[dict[str, str]]]]:
    missed = [each for each in rehearsal.examples if not each.trial.score > rehearsal.threshold]
    seen = [each for each in rehearsal.examples if each.trial.score > rehearsal.threshold]
    return [
        (title, what, _crops(cases))
        for title, what, cases in (
            (
                "Missed: the plainest",
                "Drawn defects that raise no alarm, those that the chart expects to be found first.",
                missed,
            ),
            (
                "Found: the faintest",
                "Drawn defects that raise an alarm, those that the chart expects to be missed first.",
                seen,
            ),
        )
        if cases
    ]


def _crops(cases: Sequence[Crop]) -> list[dict[str, str]]:
    return [
        {
            "kind": each.trial.kind,
            "words": f"{each.trial.extent:.0f} px, {each.trial.contrast:.1f} times the local texture "
            f"({each.trial.levels:.0f} grey levels), score {score(each.trial.score)}",
            "plain": data_uri(outlined(each.image, np.zeros_like(each.mask), _CROP)),
            "outlined": data_uri(outlined(each.image, each.mask, _CROP)),
        }
        for each in cases
    ]


def _facts(rehearsal: Rehearsal) -> dict[str, str]:
    metadata = rehearsal.metadata
    facts = {
        "File": rehearsal.origin.model,
        "Preset": metadata.method.preset,
        "Precision": str(metadata.precision),
        "Backbone": metadata.method.backbone,
        "Good images fitted on": str(metadata.images),
        "Threshold": score(metadata.threshold),
        "Good images of the rehearsal": f"{len(rehearsal.good)} {rehearsal.how}",
        "Defects drawn": str(len(rehearsal.trials)),
        "Seed": str(rehearsal.seed),
    }
    return {name: value for name, value in facts.items() if value}
