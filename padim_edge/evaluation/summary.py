"""An evaluation as a table for the terminal and as a page of the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from padim_edge.datasets import GOOD
from padim_edge.evaluation.evaluate import METRICS, Evaluation, Scored
from padim_edge.evaluation.report import Case, ClassReport, Curve, KindRow
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.overlay import overlay
from padim_edge_runtime.regions import find_regions, to_image

if TYPE_CHECKING:
    from padim_edge.evaluation.metrics import Rate

__all__ = ["page", "text"]

WORST = 6
"""Misses and false alarms that are shown with their images."""

_HEADS = ("image AUROC", "AP", "best F1", "pixel AUROC", "PRO", "false alarms", "misses")


def text(evaluations: list[Evaluation], means: dict[str, float | None]) -> str:
    """A table of the metrics, one row a class and their mean; below it, one row a kind of image."""
    rows: list[tuple[str, ...]] = [("class", *_HEADS)]
    rows += [(each.class_name, *_cells(each.metrics)) for each in evaluations]
    if len(evaluations) > 1:
        rows.append(("mean", *_cells(means)))
    lines = columns(rows)
    for each in evaluations:
        for name, reason in each.reasons.items():
            lines.append(f"{each.class_name}: {name} is undefined, there are {reason}")
    kinds: list[tuple[str, ...]] = [("", "kind", "images", "above the threshold", "95 % interval")]
    for each in evaluations:
        for kind, found in each.kinds.items():
            interval = f"{100 * found.low:.1f} to {100 * found.high:.1f} %"
            kinds.append((each.class_name, kind, str(found.total), f"{found.count} ({_percent(found)})", interval))
    return "\n".join([*lines, "", *columns(kinds)])


def _cells(metrics: dict[str, float | None]) -> list[str]:
    shown = []
    for name in METRICS:
        value = metrics[name]
        share = name in ("false_alarm_rate", "miss_rate")
        shown.append("-" if value is None else f"{100 * value:.1f} %" if share else f"{value:.4f}")
    return shown


def _percent(found: Rate) -> str:
    return f"{100 * found.value:.1f} %"


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return ["  ".join(cells) for cells in aligned]


def page(evaluation: Evaluation, detector: Detector, model: Path) -> ClassReport:
    """What the report shows of one class. Reads the worst images again."""
    from sklearn.metrics import roc_curve

    metadata = detector.metadata
    labels = np.array([each.item.kind != GOOD for each in evaluation.scored])
    scores = np.array([each.score for each in evaluation.scored])
    image_roc = None
    if labels.any() and not labels.all():
        fpr, tpr, _ = roc_curve(labels, scores)
        image_roc = Curve(fpr, tpr)
    curve = evaluation.pixel.curve
    above = scores > evaluation.threshold
    misses = [each for each, bad, alarm in zip(evaluation.scored, labels, above, strict=True) if bad and not alarm]
    alarms = [each for each, bad, alarm in zip(evaluation.scored, labels, above, strict=True) if alarm and not bad]
    return ClassReport(
        class_name=evaluation.class_name,
        metrics=evaluation.metrics,
        reasons=evaluation.reasons,
        kinds=tuple(
            KindRow(kind, each.total, each.count, (each.low, each.high)) for kind, each in evaluation.kinds.items()
        ),
        calibration=np.array(metadata.calibration.scores),
        scores={
            kind: np.array([each.score for each in evaluation.scored if each.item.kind == kind])
            for kind in evaluation.kinds
        },
        threshold=evaluation.threshold,
        false_alarm_rate=metadata.false_alarm_rate,
        extrapolated=metadata.extrapolated,
        image_roc=image_roc,
        pixel_roc=None if curve is None else Curve(curve.fpr, curve.tpr),
        pro_curve=None if curve is None else Curve(curve.fpr, curve.pro),
        misses=tuple(_case(each, detector) for each in sorted(misses, key=lambda each: each.score)[:WORST]),
        false_alarms=tuple(_case(each, detector) for each in sorted(alarms, key=lambda each: -each.score)[:WORST]),
        model={
            "file": model.name,
            "made by": metadata.created_by,
            "preset": f"{metadata.preset}, {metadata.precision}",
            "backbone": f"{metadata.backbone.name}, {metadata.backbone.weights}",
            "embedding": f"{metadata.reduction.dims} dimensions, {metadata.reduction.kind}",
            "input": f"{metadata.input_size[0]} x {metadata.input_size[1]} pixels",
            "good images": str(metadata.images),
            "calibrated on": f"{metadata.calibration.images} {metadata.threshold_rule}",
            "ran on": detector.device,
        },
    )


def _case(scored: Scored, detector: Detector) -> Case:
    metadata = detector.metadata
    image = scored.item.read().image
    result = detector(image_files.prepare(image, metadata.preprocessing))
    anomaly_map, (width, height) = result.anomaly_map[0], image.size
    shown = to_image(anomaly_map, metadata.preprocessing, width, height, inspected=metadata.inspected)
    regions = find_regions(anomaly_map, result.threshold, metadata.preprocessing, width, height)
    drawn = overlay(
        image,
        shown,
        result.threshold,
        anomalous=bool(result.anomalous[0]),
        score=scored.score,
        boxes=[region.box for region in regions],
    )
    mask = scored.item.mask() if scored.item.mask is not None else None
    return Case(scored.item.name, scored.item.kind, scored.score, image, drawn, mask)
