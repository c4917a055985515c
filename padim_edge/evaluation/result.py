"""Outcome of an evaluation: metrics, a table for terminal and notebook, a JSON object and a report page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge.datasets import GOOD, Item
from padim_edge.evaluation.metrics import ImageMetrics, PixelMetrics, Rate
from padim_edge.evaluation.report import Case, ClassReport, Curve, KindRow, headline, write_report
from padim_edge.evaluation.tables import LABELS, METRICS, Row, metric_row, notebook, percent, text_table
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime.detector import Detector

__all__ = ["Evaluation", "Scored", "mean", "summary"]

_WORST = 6
"""Number of misses and of false alarms that a report shows with their images."""

_REPORTED = ("false_alarm_rate", "miss_rate", *METRICS[:-2])
"""Metrics in the order of the report: first what a user of the threshold meets."""


@dataclass(frozen=True)
class Scored:
    """One judged image and its score."""

    item: Item
    """Item of the data set."""
    score: float
    """Score of the image."""


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
        }

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report page: one HTML file that opens without a network.

        It shows the metrics, the scores, the curves, and the worst misses and false alarms, whose images are read and
        judged again.

        Args:
            path: The `.html` file. It is replaced only when all has succeeded.

        Raises:
            PadimEdgeError: An image cannot be read any more, or the file cannot be written.
        """
        write_report(Path(path), [self.page()])

    def page(self) -> ClassReport:
        """Gather what the report shows of this class. The worst images are read and judged again.

        Raises:
            PadimEdgeError: No detector judged the images, or an image cannot be read any more.
        """
        if self.detector is None:
            raise PadimEdgeError(
                f"the evaluation of {self.class_name!r} has no detector, expected one that padim_edge.evaluate made; "
                "evaluate the model file"
            )
        metadata = self.detector.metadata
        misses = [each for each in self.scored if each.item.kind != GOOD and not each.score > self.threshold]
        alarms = [each for each in self.scored if each.item.kind == GOOD and each.score > self.threshold]
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
            misses=_cases(sorted(misses, key=lambda each: each.score), self.detector),
            false_alarms=_cases(sorted(alarms, key=lambda each: -each.score), self.detector),
            model=_facts(self.detector, self.model),
        )

    def __str__(self) -> str:
        return summary([self])

    def __repr__(self) -> str:
        return f"<Evaluation of {self.class_name}: {headline(self._kind_rows())}>"

    def _repr_html_(self) -> str:
        """Show the tables in a notebook."""
        about = f"{self.class_name}. {headline(self._kind_rows())}"
        metrics = [("metric", "value"), *zip(LABELS.values(), metric_row(self.metrics), strict=True)]
        return notebook(about, [metrics, _kind_table([self])], [*_undefined(self), *self.warnings])

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
    """Write a table of the metrics with one row per class and their mean, and below it one row per kind of image."""
    rows: list[Row] = [("class", *LABELS.values())]
    rows += [(each.class_name, *metric_row(each.metrics)) for each in evaluations]
    if len(evaluations) > 1:
        rows.append(("mean", *metric_row(mean(evaluations))))
    lines = text_table(rows)
    for each in evaluations:
        lines += [f"{each.class_name}: {sentence}" for sentence in _undefined(each)]
    return "\n".join([*lines, "", *text_table(_kind_table(evaluations))])


def _undefined(evaluation: Evaluation) -> list[str]:
    return [f"{LABELS[name]} is undefined, there are {reason}" for name, reason in evaluation.reasons.items()]


def _kind_table(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Write one row per kind of image; the class is named where there are several."""
    rows: list[Row] = [("class", "kind", "images", "above the threshold", "95 % interval")]
    for each in evaluations:
        for kind, found in each.kinds.items():
            interval = f"{100 * found.low:.1f} to {percent(found.high)}"
            rows.append((each.class_name, kind, str(found.total), f"{found.count} ({percent(found.value)})", interval))
    return rows if len(evaluations) > 1 else [row[1:] for row in rows]


def _interval(found: Rate | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def _cases(scored: Sequence[Scored], detector: Detector) -> tuple[Case, ...]:
    """Read and inspect the first of these images again, and draw their anomaly maps over them."""
    cases = []
    for each in scored[:_WORST]:
        image = each.item.read().image
        mask = None if each.item.mask is None else each.item.mask()
        drawn = detector.inspect(image).overlay()
        cases.append(Case(each.item.name, each.item.kind, each.score, image, drawn, mask))
    return tuple(cases)


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
        "Input, height x width": f"{height} x {width} pixels",
        "Good images fitted on": str(metadata.images),
        "Threshold set with": f"{metadata.calibration.images} {metadata.threshold_rule}",
        "Device": detector.device,
    }
    return {name: value for name, value in facts.items() if value}
