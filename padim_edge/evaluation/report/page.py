"""The page that is made of the contents of the report."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge.datasets import GOOD
from padim_edge.evaluation.report.contents import Case, ClassReport, KindRow
from padim_edge.evaluation.report.embedded import OUTLINE, data_uri
from padim_edge.evaluation.report.templates import environment
from padim_edge.evaluation.report.words import percent, score, span
from padim_edge_artifact.files import replacing

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["TITLE", "headline", "write_report"]

TITLE = "Anomaly detection on test images"
"""Usual heading of the page."""

_SIDE = 320
"""Longest side of an embedded image in pixels."""
_REASONS = "Borderline is nearest to the threshold, typical is nearest to the median score."
_MOST_KINDS = 12
"""Largest number of kinds that are shown at once; the others are folded away."""


def write_report(
    path: Path, classes: Sequence[ClassReport], *, title: str = TITLE, means: Mapping[str, float | None] | None = None
) -> None:
    """Write the report: one HTML file that loads nothing else, neither scripts nor fonts nor images.

    The same arguments give the same bytes.

    Args:
        path: The `.html` file. It is replaced only when all has succeeded.
        classes: Contents for each class, one or more.
        title: Heading of the page.
        means: Mean of each metric over all classes, by name; shown where there are several classes.

    Raises:
        PadimEdgeError: The file cannot be written.
    """
    template = environment(percent=percent, score=score, span=span).get_template("page.html")
    names = list(dict.fromkeys(name for each in classes for name in each.metrics))
    page = template.render(
        title=title,
        version=version("padim-edge"),
        overview=headline([row for each in classes for row in each.kinds], thresholds=len(classes)),
        columns=[_METRICS.get(name, _Metric(_plain(name), "")) for name in names],
        means=[_shown(name, (means or {}).get(name)) for name in names],
        sections=[_section(number, each, names) for number, each in enumerate(classes)],
    )
    # A file name may hold bytes that are no text in its file system's encoding; that must not end the run.
    content = page.encode("utf-8", "backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@dataclass(frozen=True)
class _Metric:
    """Words for a metric."""

    label: str
    """Name on the page."""
    meaning: str
    """Explanation in a few words; may be empty."""
    form: str = "share"
    """Form of the value: `share` (0 to 1), `percent` or `number`."""


_METRICS = {
    "image_auroc": _Metric("Image AUROC", "chance that an anomalous image scores higher than a good one"),
    "image_ap": _Metric("Image AP", "average precision when images are sorted by score"),
    "best_f1": _Metric("Best F1", "best balance of hits and false alarms that any threshold reaches here"),
    "best_f1_threshold": _Metric("Best-F1 threshold", "threshold with the best F1", "number"),
    "pixel_auroc": _Metric("Pixel AUROC", "chance that a defective pixel has a higher value than a good one"),
    "pro": _Metric("PRO", "share of each defect's area found, mean up to a false-positive rate of 30 %"),
    "false_alarm_rate": _Metric("False alarms", "share of good images above the threshold", "percent"),
    "miss_rate": _Metric("Misses", "share of anomalous images not above the threshold", "percent"),
}


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _shown(name: str, value: float | None) -> str | None:
    """Write a metric as text, never rounded up to perfection."""
    if value is None or not np.isfinite(value):
        return None
    form = _METRICS[name].form if name in _METRICS else "number"
    if form == "percent":
        return percent(value)
    if form == "number":
        return score(value)
    return ">0.9999" if 0.99995 <= value < 1 else f"{value:.4f}"


def headline(kinds: Sequence[KindRow], *, thresholds: int = 1) -> str:
    """Write the result in one sentence: false alarms and misses at the threshold."""
    good = sum(row.images for row in kinds if row.kind == GOOD)
    alarms = sum(row.alarms for row in kinds if row.kind == GOOD)
    defective = sum(row.images for row in kinds if row.kind != GOOD)
    misses = defective - sum(row.alarms for row in kinds if row.kind != GOOD)
    start = "At the model's threshold," if thresholds == 1 else f"At the thresholds of the {thresholds} models,"
    raised = f"{alarms} of {good} good images {'raises' if alarms == 1 else 'raise'} an alarm"
    missed = f"{'is' if misses == 1 else 'are'} missed"
    if good and defective:
        return f"{start} {raised} and {misses} of {defective} anomalous ones {missed}."
    if good:
        return f"{start} {raised}; there are no anomalous images to find."
    if defective:
        return f"{start} {misses} of {defective} anomalous images {missed}; there are no good images to compare with."
    return "No images were judged."


def _threshold(report: ClassReport) -> str:
    rate = f"{100 * report.false_alarm_rate:.2g} %"
    threshold = f"The threshold {score(report.threshold)}"
    sentence = f"{threshold} is expected to raise an alarm on about {rate} of good images."
    if not report.extrapolated:
        return sentence
    few = f"The model's good images are too few to measure {rate}"
    if len(report.calibration) and report.threshold == report.calibration.max():
        return f"{threshold} was asked to raise an alarm on {rate} of good images. {few}, so it is their highest score."
    return f"{sentence} {few}, so this is an estimate."


def _section(number: int, report: ClassReport, names: Sequence[str]) -> dict[str, Any]:
    """Gather what the template needs for one class."""
    good = any(row.kind == GOOD for row in report.kinds)
    defective = any(row.kind != GOOD for row in report.kinds)
    few = len(report.kinds) <= _MOST_KINDS + 2  # a list of one or two more kinds is not worth folding
    ordered = sorted(report.kinds, key=lambda row: (row.kind != GOOD, row.rate))
    return {
        "id": f"class-{number}",
        "report": report,
        "headline": headline(report.kinds),
        "threshold": _threshold(report),
        "row": [_shown(name, report.metrics.get(name)) for name in names],
        "metrics": [
            {
                "about": _METRICS.get(name, _Metric(_plain(name), "")),
                "value": _shown(name, value),
                "reason": report.reasons.get(name, "not defined for these images"),
            }
            for name, value in report.metrics.items()
        ],
        "good": GOOD,
        "rows": report.kinds if few else ordered[:_MOST_KINDS],
        "more": () if few else ordered[_MOST_KINDS:],
        "histogram": _histogram(number, report),
        "curves": _curves(number, report),
        "galleries": [
            {
                "title": title,
                "what": what,
                "none": none if there else None,
                "cases": [_case(each) for each in cases],
                "pairs": all(each.mask is None for each in cases),
            }
            for title, what, none, there, cases in (
                (
                    "Worst misses",
                    "Anomalous images that raise no alarm, lowest score first.",
                    "No anomalous image is missed.",
                    defective and not any(row.alarms < row.images for row in report.kinds if row.kind != GOOD),
                    report.misses,
                ),
                (
                    "Worst false alarms",
                    "Good images that raise an alarm, highest score first.",
                    "No good image raises an alarm.",
                    good and not any(row.alarms for row in report.kinds if row.kind == GOOD),
                    report.false_alarms,
                ),
                (
                    "Other anomalous images" if report.misses else "Anomalous images",
                    f"{_REASONS} Lowest score first.",
                    "",
                    False,
                    report.anomalous,
                ),
                (
                    "Other good images" if report.false_alarms else "Good images",
                    f"{_REASONS} Highest score first.",
                    "",
                    False,
                    report.good,
                ),
            )
        ],
    }


def _histogram(number: int, report: ClassReport) -> Markup | None:
    from padim_edge.evaluation.report import plots

    def strip(label: str, role: str, scores: npt.NDArray[np.floating]) -> plots.Strip:
        above = int((scores > report.threshold).sum())
        return plots.Strip(_short(label), f"{above} of {len(scores)} above", role, scores)

    strips = [strip("good, calibration", "calibration", report.calibration)] if len(report.calibration) else []
    scores = {kind: each for kind, each in report.scores.items() if len(each)}
    defects = sorted((kind for kind in scores if kind != GOOD), key=lambda kind: float(np.median(scores[kind])))
    if GOOD in scores:
        strips.append(strip("good, test", "good", scores[GOOD]))
    if len(defects) <= _MOST_KINDS:
        strips += [strip(kind, "defect", scores[kind]) for kind in scores if kind != GOOD]
    else:
        strips += [strip(kind, "defect", scores[kind]) for kind in defects[: _MOST_KINDS - 1]]
        others = defects[_MOST_KINDS - 1 :]
        strips.append(strip(f"{len(others)} other kinds", "defect", np.concatenate([scores[each] for each in others])))
    if not any(np.isfinite(each.scores).any() for each in strips):
        return None
    return plots.histogram(
        strips, report.threshold, label=f"threshold {score(report.threshold)}", salt=f"{number} histogram"
    )


def _short(label: str) -> str:
    """Cut off a label that would leave the plot. East Asian characters are twice as wide as others."""
    room = 28
    for i, character in enumerate(label):
        room -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if room < 0:
            return label[: max(i - 1, 0)] + "\N{HORIZONTAL ELLIPSIS}"
    return label


def _curves(number: int, report: ClassReport) -> list[dict[str, Any]]:
    from padim_edge.evaluation.metrics import PRO_LIMIT
    from padim_edge.evaluation.report import plots

    good = [row for row in report.kinds if row.kind == GOOD]
    defects = [row for row in report.kinds if row.kind != GOOD]
    point = None
    if good and defects:
        found = sum(row.alarms for row in defects) / sum(row.images for row in defects)
        point = (sum(row.alarms for row in good) / sum(row.images for row in good), found)
    shown = []
    for title, metric, curve, y_label, limit, mark in (
        ("Image ROC", "image_auroc", report.image_roc, "true-positive rate", None, point),
        ("Pixel ROC", "pixel_auroc", report.pixel_roc, "true-positive rate", None, None),
        ("PRO", "pro", report.pro_curve, "per-region overlap", PRO_LIMIT, None),
    ):
        if curve is not None:
            svg = plots.curve(curve.x, curve.y, y_label=y_label, salt=f"{number} {title}", limit=limit, point=mark)
            shown.append({"title": title, "area": _shown(metric, report.metrics.get(metric)), "svg": svg})
    return shown


def _case(case: Case) -> dict[str, Any]:
    images = [("image", _shrunk(case.image)), ("heat map", _shrunk(case.overlay))]
    if case.mask is not None:
        assert case.mask.shape == (case.image.height, case.image.width)
        images.append(("ground truth", _truth(_shrunk(case.image), case.mask)))
    return {"case": case, "images": [(label, data_uri(image)) for label, image in images]}


def _shrunk(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return small


def _truth(image: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    """Draw the image dim and grey, and the defect in colour with an outline."""
    # The mean over the mask's pixels keeps a scratch that is one pixel wide in an image of thousands.
    share = Image.fromarray(mask.astype(np.float32)).resize(image.size, Image.Resampling.BOX)
    inside = np.asarray(share) > 0
    pixels = np.asarray(image, np.float64)
    pixels = np.where(inside[..., None], pixels, 0.45 * pixels.mean(axis=2, keepdims=True))
    near = inside
    for _ in range(max(1, round(max(image.size) / 160))):
        padded = np.pad(near, 1)
        near = near | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    pixels[near & ~inside] = OUTLINE
    return Image.fromarray(pixels.round().astype(np.uint8))
