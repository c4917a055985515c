"""Outcome of an evaluation: metrics, a table for terminal and notebook, a JSON object and a report page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge.datasets import GOOD
from padim_edge.evaluation.advice import Advice, Found, advice
from padim_edge.evaluation.cases import Scored, drawn, shown
from padim_edge.evaluation.metrics import ImageMetrics, PixelMetrics, Rate
from padim_edge.evaluation.operating import OperatingPoint, Origin, operating_points
from padim_edge.evaluation.report import ClassReport, Curve, KindRow, headline, write_report
from padim_edge.evaluation.rows import kind_rows, point_notes, point_rows
from padim_edge.evaluation.tables import LABELS, METRICS, Row, metric_row, notebook, text_table
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.calibration import behind
from padim_edge_runtime.detector import Detector

__all__ = ["Evaluation", "Scored", "mean", "summary"]

_REPORTED = ("false_alarm_rate", "miss_rate", *METRICS[:-2])
"""Metrics in the order of the report: first what a user of the threshold meets."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Metrics of a model on the labelled test images of one class.

    `print` shows a table, and so does a notebook. `to_json` gives all figures, `report` writes a page.
    """

    class_name: str
    """Name of the class."""
    threshold: float
    """Threshold of the model."""
    image: ImageMetrics
    """Metrics over images."""
    pixel: PixelMetrics
    """Metrics over pixels, at the images' own resolution."""
    kinds: dict[str, Rate]
    """Share of images above the threshold for each kind of image, good ones first."""
    scored: tuple[Scored, ...]
    """Every judged image, in the order of the data set."""
    without_mask: int
    """Number of anomalous images without a mask; they count in the image metrics only."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be judged."""
    bad_masks: tuple[str, ...] = ()
    """One sentence for each image whose mask cannot be used; it counts in the image metrics only."""
    detector: Detector | None = field(default=None, compare=False)
    """Detector that judged the images; `None` where something else did, so that there is no report."""
    model: str = field(default="", compare=False)
    """Name of the model file; empty where it is unknown."""
    origin: Origin = field(default=Origin(), compare=False)
    """Names of model and images for the commands of `operating_points` and `advice`."""

    @property
    def image_auroc(self) -> float | None:
        """Area under the ROC curve of the image scores, 0 to 1."""
        return self.image.auroc

    @property
    def image_ap(self) -> float | None:
        """Average precision of the image scores, 0 to 1."""
        return self.image.ap

    @property
    def best_f1(self) -> float | None:
        """Largest F1 score that any threshold reaches on these images, 0 to 1."""
        return self.image.best_f1

    @property
    def pixel_auroc(self) -> float | None:
        """Area under the ROC curve of all judged pixels, 0 to 1."""
        return self.pixel.auroc

    @property
    def pro(self) -> float | None:
        """Per-region overlap, up to a false-positive rate of 0.3, 0 to 1."""
        return self.pixel.pro

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the good images above the model's threshold, 0 to 1."""
        return None if self.image.false_alarm is None else self.image.false_alarm.value

    @property
    def miss_rate(self) -> float | None:
        """Share of the anomalous images not above the model's threshold, 0 to 1."""
        return None if self.image.miss is None else self.image.miss.value

    @property
    def metrics(self) -> dict[str, float | None]:
        """All metrics by name; `None` where one is undefined (see `reasons`)."""
        return {name: getattr(self, name) for name in METRICS}

    @property
    def reasons(self) -> dict[str, str]:
        """Reason for each undefined metric, in words."""
        lacking = "no good images" if not self.good else "no anomalous images"
        no_pixels = "no anomalous pixels (no masks)" if self.anomalous else lacking
        why = dict.fromkeys(METRICS, lacking) | {"pixel_auroc": no_pixels, "pro": no_pixels}
        return {name: why[name] for name, value in self.metrics.items() if value is None}

    @property
    def good(self) -> int:
        """Number of good images judged."""
        return sum(each.item.kind == GOOD for each in self.scored)

    @property
    def anomalous(self) -> int:
        """Number of anomalous images judged."""
        return len(self.scored) - self.good

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about images that were left out or count in part, without a full stop; mostly empty."""
        found = [f"left out: {sentence}" for sentence in self.unreadable]
        found += [f"left out of the pixel metrics: {sentence}" for sentence in self.bad_masks]
        if self.without_mask == 1:
            found.append("1 anomalous image has no mask; it counts in the image metrics only")
        elif self.without_mask:
            found.append(f"{self.without_mask} anomalous images have no mask; they count in the image metrics only")
        return tuple(found)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Thresholds to choose from: the stored one, those of usual false-alarm rates, and the one with the best F1.

        Each has its false alarms, its misses and the command that stores it. Empty where no detector is known.
        """
        if self.detector is None:
            return ()
        labels = np.array([each.item.kind != GOOD for each in self.scored])
        scores = np.array([each.score for each in self.scored])
        return operating_points(self.detector.metadata, labels, scores, self.image.best_f1_threshold, self.origin)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to know when reading `operating_points`; empty where there are none."""
        return tuple(point_notes(self.operating_points, None if self.detector is None else self.detector.metadata))

    @property
    def advice(self) -> tuple[Advice, ...]:
        """Steps against many misses or false alarms, the most promising first; mostly empty."""
        if self.detector is None:
            return ()
        missed = [each.defect for each in self.scored if each.item.kind != GOOD and not each.score > self.threshold]
        known = tuple(each for each in missed if each is not None)
        return advice(Found(self.detector.metadata, self.image, self.operating_points, known, self.origin))

    def to_json(self) -> dict[str, Any]:
        """Return the object that `evaluate --json` prints for a class."""
        return {
            **self.metrics,
            "reasons": self.reasons,
            "threshold": self.threshold,
            "best_f1_threshold": self.image.best_f1_threshold,
            "false_alarm_interval": _interval(self.image.false_alarm),
            "miss_interval": _interval(self.image.miss),
            "good": self.good,
            "anomalous": self.anomalous,
            "regions": self.pixel.regions,
            "without_mask": self.without_mask,
            "unreadable": len(self.unreadable),
            "bad_masks": len(self.bad_masks),
            "kinds": {
                kind: {"images": each.total, "alarms": each.count, "rate": each.value, "interval": _interval(each)}
                for kind, each in self.kinds.items()
            },
            "operating_points": [
                {
                    "name": each.name,
                    "false_alarm_rate_asked": each.asked,
                    "threshold": each.threshold,
                    "extrapolated": each.extrapolated,
                    "false_alarms": None if each.false_alarm is None else each.false_alarm.count,
                    "false_alarm_interval": _interval(each.false_alarm),
                    "misses": None if each.miss is None else each.miss.count,
                    "miss_interval": _interval(each.miss),
                    "command": each.command,
                }
                for each in self.operating_points
            ],
            "advice": [{"sentence": each.sentence, "command": each.command} for each in self.advice],
        }

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report page: one HTML file that opens without a network.

        It shows the metrics, thresholds to choose from, the scores, the curves, and images: the worst misses and false
        alarms, and borderline, typical and best ones of both sides. These are read and judged again.

        Args:
            path: The `.html` file. It is replaced only when all has succeeded.

        Raises:
            PadimEdgeError: An image cannot be read any more, or the file cannot be written.
        """
        write_report(Path(path), [self.page()])

    def page(self) -> ClassReport:
        """Gather what the report shows of this class. The images shown are read and judged again.

        Raises:
            PadimEdgeError: No detector judged the images, or an image cannot be read any more.
        """
        if self.detector is None:
            raise PadimEdgeError(
                f"the evaluation of {self.class_name!r} has no detector, expected one that padim_edge.evaluate made; "
                "evaluate the model file"
            )
        metadata = self.detector.metadata
        chosen = shown(self.scored, self.threshold)
        curve = self.pixel.curve
        return ClassReport(
            class_name=self.class_name,
            metrics={name: self.metrics[name] for name in _REPORTED},
            reasons=self.reasons,
            kinds=self._kind_rows(),
            calibration=np.array(metadata.calibration.scores),
            scores={
                kind: np.array([each.score for each in self.scored if each.item.kind == kind]) for kind in self.kinds
            },
            threshold=self.threshold,
            false_alarm_rate=metadata.false_alarm_rate,
            extrapolated=metadata.extrapolated,
            image_roc=_roc(self.scored),
            pixel_roc=None if curve is None else Curve(curve.fpr, curve.tpr),
            pro_curve=None if curve is None else Curve(curve.fpr, curve.pro),
            misses=drawn(chosen.misses, self.detector),
            false_alarms=drawn(chosen.false_alarms, self.detector),
            anomalous=drawn(chosen.anomalous, self.detector),
            good=drawn(chosen.good, self.detector),
            points=self.operating_points,
            notes=self.notes,
            advice=self.advice,
            model=_facts(self.detector, self.model),
        )

    def __str__(self) -> str:
        return summary([self])

    def __repr__(self) -> str:
        return f"<Evaluation of {self.class_name}: {headline(self._kind_rows())}>"

    def _repr_html_(self) -> str:
        """Show the tables in a notebook."""
        about = f"{self.class_name}. {headline(self._kind_rows())}"
        metrics: list[Row] = [("metric", "value"), *zip(LABELS.values(), metric_row(self.metrics), strict=True)]
        tables: list[Sequence[Row]] = [metrics, _kind_table([self])]
        if points := point_rows(self.operating_points, self.origin):
            tables.append(points)
        notes = [*_undefined(self), *self.warnings, *self.notes]
        steps = [f"{number}. {each.sentence} {each.command}" for number, each in enumerate(self.advice, 1)]
        return notebook(about, tables, [*notes, *steps])

    def _kind_rows(self) -> tuple[KindRow, ...]:
        return tuple(KindRow(kind, each.total, each.count, (each.low, each.high)) for kind, each in self.kinds.items())


def mean(evaluations: Sequence[Evaluation]) -> dict[str, float | None]:
    """Compute the mean of each metric over the classes; `None` where any class lacks it."""
    means: dict[str, float | None] = {}
    for name in METRICS:
        values = [each.metrics[name] for each in evaluations]
        defined = [value for value in values if value is not None]
        means[name] = float(np.mean(defined)) if defined and len(defined) == len(values) else None
    return means


def summary(evaluations: Sequence[Evaluation]) -> str:
    """Write the metrics with one row per class and their mean, one row per kind of image, thresholds and advice."""
    rows: list[Row] = [("class", *LABELS.values())]
    rows += [(each.class_name, *metric_row(each.metrics)) for each in evaluations]
    if len(evaluations) > 1:
        rows.append(("mean", *metric_row(mean(evaluations))))
    lines = text_table(rows)
    for each in evaluations:
        lines += [f"{each.class_name}: {sentence}" for sentence in _undefined(each)]
    lines += ["", *text_table(_kind_table(evaluations))]
    for each in evaluations:
        if rows := point_rows(each.operating_points, each.origin):
            title = [] if len(evaluations) == 1 else [f"{each.class_name}:"]
            lines += ["", *title, *text_table(rows, last_left=True), *each.notes]
    lines += _advice(evaluations)
    return "\n".join(lines)


def _undefined(evaluation: Evaluation) -> list[str]:
    return [f"{LABELS[name]} is undefined, there are {reason}" for name, reason in evaluation.reasons.items()]


def _kind_table(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Write one row per kind of image; the class is named where there are several."""
    rows: list[Row] = [("class", "kind", "images", "above the threshold", "95 % interval")]
    rows += [(each.class_name, *row) for each in evaluations for row in kind_rows(each.kinds)]
    return rows if len(evaluations) > 1 else [row[1:] for row in rows]


def _advice(evaluations: Sequence[Evaluation]) -> list[str]:
    """Write the advice for each class as numbered lines."""
    lines = []
    for each in evaluations:
        if each.advice:
            start = "What to try next" if len(evaluations) == 1 else f"{each.class_name}: what to try next"
            lines += ["", f"{start}, in this order:"]
        for i, step in enumerate(each.advice, 1):
            lines += [f"{i}. {step.sentence}", *([f"   {step.command}"] if step.command else [])]
    return lines


def _interval(found: Rate | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def _roc(scored: Sequence[Scored]) -> Curve | None:
    """Compute the ROC curve over the images; `None` where there are no good or no anomalous ones."""
    from sklearn.metrics import roc_curve

    labels = np.array([each.item.kind != GOOD for each in scored])
    if not labels.any() or labels.all():
        return None
    false_positives, true_positives, _ = roc_curve(labels, np.array([each.score for each in scored]))
    return Curve(false_positives, true_positives)


def _facts(detector: Detector, model: str) -> dict[str, str]:
    """Describe the model in the report's words."""
    metadata = detector.metadata
    method = metadata.method
    height, width = metadata.input_size
    facts = {
        "File": model,
        "Made by": metadata.created_by,
        "Preset": method.preset,
        "Precision": str(metadata.precision),
        "Backbone": method.backbone,
        "Weights": metadata.backbone.weights,
        "Embedding": f"{method.dims} dimensions, {method.reduction}",
        "Prototypes": "" if metadata.prototypes is None else str(metadata.prototypes),
        "Input, height x width": f"{height} x {width} pixels",
        "Good images fitted on": str(metadata.images),
        "Threshold set with": behind(metadata.calibration, metadata.threshold_rule),
        "Device": detector.device,
    }
    return {name: value for name, value in facts.items() if value}
