"""Results of `benchmarks.accuracy`: rows and promises, as tables and as a page in Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report

__all__ = [
    "COLUMNS",
    "Cost",
    "Result",
    "Row",
    "markdown",
    "read",
    "sampling_error",
    "show",
    "targets_of",
    "title",
    "write",
]

TARGETS = {
    ("paper", "bottle"): (0.990, 0.977, 0.929),
    ("paper", "screw"): (0.70, 0.965, 0.883),
    ("edge", "bottle"): (0.995, 0.980, 0.935),
    ("edge", "screw"): (0.86, 0.980, 0.925),
    ("accurate", "bottle"): (0.995, 0.980, 0.938),
    ("accurate", "screw"): (0.88, 0.983, 0.945),
}
"""Image AUROC, pixel AUROC and PRO that fp32 on ResNet-18 with ImageNet weights must reach, by preset and class."""

DEAREST = {"fp16": 0.001, "int8": 0.005, "int8-tensorrt": 0.005}
"""Most image AUROC, and pixel AUROC, that a precision may lose against fp32, for every preset and class."""

KINDS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
"""Figures that have targets, by field, in the order in which they are shown."""

TITLES = {
    "spade": "SPADE",
    "patchcore-1": "PatchCore 1 %",
    "patchcore-10": "PatchCore 10 %",
    "vae": "VAE, untrained",
    "anomalib": "anomalib PaDiM",
}
"""Names of the rivals for people."""

COLUMNS = (
    "model",
    "seed",
    "MB",
    "image AUROC",
    "pixel AUROC",
    "PRO",
    "image lost",
    "pixel lost",
    "PRO lost",
    "score moves",
    "AP",
    "threshold",
    "false alarms",
    "misses",
    "fit s",
)

LEGEND = """\
| column | meaning |
|---|---|
| model | preset and precision of ours; or a rival in fp32 with the same ResNet-18 weights, on the same images in the frame of `edge`: whole, at 224 x 224 |
| MB | size of the model's files, or of the memory bank and the network |
| pixel AUROC, PRO | at the images' own resolution, over the pixels that the model inspects: all, except for `paper`, whose centre crop leaves the border out |
| lost | image AUROC, pixel AUROC and PRO of the fp32 model of the same preset, class and seed in this run, minus this model's; negative is a gain |
| score moves | median over the test images of the relative change of the score against that fp32 model |
| false alarms, misses | good and anomalous test images on the wrong side of the model's threshold, which is set for 1 % false alarms from good training images only; rivals have none |
| fit s | seconds from the images on disk to the finished file, on a machine that others used as well; with our calibration, and with both of anomalib's exports (ONNX, whose size is given, and OpenVINO) |

`<` and `>` mark a figure that misses its target."""  # noqa: E501  rows of a table cannot be broken


@dataclass(frozen=True)
class Cost:
    """Losses of a model against exact fp32; negative is a gain."""

    image_auroc: float | None
    """Lost image AUROC; `None` where one of both is undefined, as for the next two."""
    pixel_auroc: float | None
    """Lost pixel AUROC."""
    pro: float | None
    """Lost PRO."""
    score: float
    """Median over the test images of the relative change of the score, 0 or more; 0.01 is one per cent."""


@dataclass(frozen=True)
class Row:
    """One model on one class."""

    class_name: str
    """Name of the class."""
    method: str
    """`padim-edge`, or the name of a rival."""
    preset: str
    """Name of the preset; blank for rivals."""
    precision: str
    """Precision in the words of `benchmarks.accuracy.precision`."""
    seed: int
    """Random seed of the reduction."""
    image_auroc: float | None
    """Image AUROC; `None` where it is undefined, as for the next three."""
    pixel_auroc: float | None
    """Pixel AUROC."""
    pro: float | None
    """PRO."""
    image_ap: float | None
    """Average precision of the image scores."""
    threshold: float | None
    """Threshold of the model; `None` for rivals, as for the next two."""
    false_alarm_rate: float | None
    """Share of the good test images above the threshold."""
    miss_rate: float | None
    """Share of the anomalous test images not above the threshold."""
    images: int
    """Number of good images that it was fitted on."""
    good: int
    """Number of good test images."""
    anomalous: int
    """Number of anomalous test images."""
    megabytes: float
    """Size of the model's files, or of a rival's bank and network, in MB."""
    fit_seconds: float
    """Duration of the whole export: backbone, fit, calibration, writing."""
    cost: Cost | None = None
    """Losses; `None` for exact fp32, for rivals, and where fp32 was not part of the run."""
    notes: tuple[str, ...] = ()
    """Limits of the figures, in sentences without full stops."""

    @property
    def ours(self) -> bool:
        """Whether this is a model of padim-edge."""
        return self.method == "padim-edge"

    @property
    def title(self) -> str:
        """Name for people, without the class and the seed."""
        return f"{self.preset} {self.precision}" if self.ours else title(self.method)


@dataclass(frozen=True)
class Result:
    """Everything that one run found."""

    environment: report.Environment
    """Machine and software."""
    settings: Mapping[str, Any]
    """`command`, `backbone`, `weights` and `left_out`, as they are written to the JSON file."""
    rows: list[Row]
    """All models on all classes."""
    targets: list[report.Target]
    """Promises about these rows."""


def read(path: Path) -> Result:
    """Read the JSON file of an earlier run."""
    found = report.read_json(path)
    rows = []
    for each in found.results:
        cost = None if each["cost"] is None else Cost(**each["cost"])
        rows.append(Row(**{**each, "cost": cost, "notes": tuple(each["notes"])}))
    return Result(found.environment, found.settings, rows, found.targets)


def write(result: Result, path: Path | None) -> None:
    """Write the result as JSON to `path`, where one is given."""
    rows = [dataclasses.asdict(row) for row in result.rows]
    report.write_json(path, "accuracy", result.environment, dict(result.settings), rows, result.targets)


def title(method: str) -> str:
    """Return a rival's name for people."""
    return TITLES.get(method, method)


def targets_of(row: Row) -> list[report.Target]:
    """Return the promises for this row, none where none was made."""
    name = f"{row.title}, {row.class_name}, seed {row.seed}"
    wanted = TARGETS.get((row.preset, row.class_name))
    if row.ours and row.precision == "fp32" and wanted is not None:
        return [
            report.Target(f"{name}: {kind}", limit, getattr(row, field))
            for (field, kind), limit in zip(KINDS.items(), wanted, strict=True)
        ]
    if row.ours and row.precision in DEAREST and row.cost is not None:
        return [
            report.Target(f"{name}: cost of {KINDS[field]}", DEAREST[row.precision], getattr(row.cost, field), True)
            for field in ("image_auroc", "pixel_auroc")
        ]
    return []


def sampling_error(auroc: float, good: int, anomalous: int) -> float:
    """Compute half the 95 % interval of an AUROC from so many images (Hanley and McNeil, Radiology 143, 1982)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (anomalous - 1) * (q1 - auroc**2) + (good - 1) * (q2 - auroc**2)
    return 1.96 * math.sqrt(variance / (good * anomalous))


def table(rows: Sequence[Row], targets: Sequence[report.Target]) -> list[tuple[str, ...]]:
    """Return a line for each row under `COLUMNS`."""
    missed = {target.what: target for target in targets if not target.reached}

    def figure(row: Row, value: float | None, what: str, form: str = "z.4f") -> str:
        target = missed.get(f"{row.title}, {row.class_name}, seed {row.seed}: {what}")
        shown = "-" if value is None else format(value, form)
        return shown if target is None else f"{shown} {'>' if target.at_most else '<'} {target.wanted:.3f}"

    return [
        (
            row.title,
            str(row.seed) if row.ours else "-",
            _megabytes(row.megabytes),
            *(figure(row, getattr(row, field), kind) for field, kind in KINDS.items()),
            *(
                figure(row, None if row.cost is None else getattr(row.cost, field), f"cost of {kind}", "+z.4f")
                for field, kind in KINDS.items()
            ),
            "-" if row.cost is None else f"{100 * row.cost.score:.2f} %",
            "-" if row.image_ap is None else f"{row.image_ap:.4f}",
            "-" if row.threshold is None else f"{row.threshold:.2f}",
            _rate(row.false_alarm_rate),
            _rate(row.miss_rate),
            f"{row.fit_seconds:.0f}",
        )
        for row in rows
    ]


def show(rows: Sequence[Row], targets: Sequence[report.Target], left_out: Mapping[str, str]) -> None:
    """Print everything."""
    for class_name in dict.fromkeys(row.class_name for row in rows):
        chosen = [row for row in rows if row.class_name == class_name]
        counts = f"tested on {chosen[0].good} good and {chosen[0].anomalous} anomalous"
        print(f"\n{class_name}: fitted on {chosen[0].images} good images, {counts}")
        report.print_table(COLUMNS, table(chosen, targets))
    for what, why in notes_of(rows):
        print(f"{what}: {why}")
    for what, why in left_out.items():
        print(f"left out     {what}: {why}")
    if targets:
        print(_reached(targets))
        report.print_table(("target", "wanted", "found", "verdict"), [report.verdict(target) for target in targets])


def notes_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return (title, sentence without a full stop) for each note, once."""
    return list(dict.fromkeys((row.title, note.rstrip(".")) for row in rows for note in row.notes))


def markdown(result: Result, plot: str | None) -> str:
    """Write the whole page.

    Args:
        result: Findings of the run.
        plot: Link to the figure; `None` without one.
    """
    settings, rows, targets = result.settings, result.rows, result.targets
    lines = report.header_lines(result.environment)
    header = "\n".join((*lines, f"backbone  {settings['backbone']}, {settings['weights']}"))
    parts = ["# Accuracy", f"```\n{settings['command']}\n```", f"```\n{header}\n```"]
    if plot is not None:
        parts.append(f"![Accuracy against size]({plot})")
    if targets:
        parts.append(f"**{_reached(targets)}**")
    for class_name in dict.fromkeys(row.class_name for row in rows):
        chosen = [row for row in rows if row.class_name == class_name]
        parts += [
            f"## {class_name}",
            _counts(chosen[0]),
            report.markdown_table(COLUMNS, table(chosen, targets)),
        ]
    parts += ["## Columns", LEGEND]
    if notes_of(rows):
        parts.append("\n".join(f"- {what}: {note}." for what, note in notes_of(rows)))
    if settings["left_out"]:
        parts += ["## Left out", "\n".join(f"- {what}: {why}." for what, why in settings["left_out"].items())]
    if targets:
        verdicts = [report.verdict(target) for target in targets]
        parts += ["## Targets", report.markdown_table(("target", "wanted", "found", "verdict"), verdicts)]
    return "\n\n".join(parts) + "\n"


def _counts(row: Row) -> str:
    uncertain = sampling_error(0.9, row.good, row.anomalous)
    return (
        f"Fitted on {row.images} good images; tested on {row.good} good and {row.anomalous} anomalous images. "
        f"With so few, an image AUROC of 0.90 is uncertain by {uncertain:.3f} either way (95 %, Hanley and McNeil). "
        "Losses are measured on the same images and vary less."
    )


def _reached(targets: Sequence[report.Target]) -> str:
    missed = [target.what for target in targets if not target.reached]
    said = f"Targets: {len(targets) - len(missed)} of {len(targets)} reached"
    return f"{said}; not reached: {'; '.join(missed)}." if missed else f"{said}."


def _megabytes(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
