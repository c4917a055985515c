"""The results of `benchmarks.accuracy`: rows, the promises about them, as tables and as a page in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import report

__all__ = ["COLUMNS", "Cost", "Row", "markdown", "sampling_error", "show", "targets_of", "title"]

TARGETS = {
    ("paper", "bottle"): (0.990, 0.977, 0.929),
    ("paper", "screw"): (0.70, 0.965, 0.883),
    ("edge", "bottle"): (0.995, 0.980, 0.935),
    ("edge", "screw"): (0.86, 0.980, 0.925),
    ("accurate", "bottle"): (0.995, 0.980, 0.938),
    ("accurate", "screw"): (0.88, 0.983, 0.945),
}
"""Image AUROC, pixel AUROC and PRO that fp32 on ResNet-18 with ImageNet weights shall reach, by preset and class."""

DEAREST = {"fp16": 0.001, "int8": 0.005, "int8-tensorrt": 0.005}
"""The most image AUROC, and pixel AUROC, that a precision may cost against fp32, whatever the preset and class."""

KINDS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
"""Figures that have targets, by field, in the order in which they are shown."""

TITLES = {
    "spade": "SPADE",
    "patchcore-1": "PatchCore 1 %",
    "patchcore-10": "PatchCore 10 %",
    "vae": "VAE, untrained",
    "anomalib": "anomalib PaDiM",
}
"""Names of the rivals for people; see `benchmarks.methods`."""

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
| column | is |
|---|---|
| model | preset and precision of ours; or a rival in fp32 with the same weights, on the same images in the frame of `edge`: whole, at 224 x 224 |
| MB | all files, or the memory bank and the network, that a device needs beside the engine |
| pixel AUROC, PRO | at the images' own resolution, over the pixels that the model inspects: all, but for `paper`, whose centre crop leaves the border out |
| lost | image AUROC, pixel AUROC and PRO of fp32 of the same preset, class and seed in this run, less this model's; below 0 it is better |
| score moves | median over the test images of the relative change of the score against the same fp32 |
| false alarms, misses | good and anomalous test images on the wrong side of the threshold that ships, which is set for 1 % false alarms from good training images only; rivals have none |
| fit s | from the images on disk to the finished file, on a machine that others used as well; with our calibration, and with both of anomalib's exports (ONNX, whose size is given, and OpenVINO) |

`<` and `>` mark a figure that misses its target."""  # noqa: E501  rows of a table cannot be broken


@dataclass(frozen=True)
class Cost:
    """What a model loses against exact fp32; below 0 it gains."""

    image_auroc: float | None
    """fp32's less this one's, as the next two; `None` where one of them is undefined."""
    pixel_auroc: float | None
    pro: float | None
    score: float
    """Median over the test images of the relative change of the score, 0 or more; 0.01 is one per cent."""


@dataclass(frozen=True)
class Row:
    """One model on one class."""

    class_name: str
    method: str
    """`padim-edge`, or the name of a rival."""
    preset: str
    """Blank for rivals."""
    precision: str
    """As `benchmarks.accuracy.precision` reads it."""
    seed: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    image_ap: float | None
    threshold: float | None
    """`None` for rivals, as the next two."""
    false_alarm_rate: float | None
    """Share of the good test images above the threshold that was shipped."""
    miss_rate: float | None
    """Share of the anomalous test images not above it."""
    images: int
    """Fitted on."""
    good: int
    """Judged, as the next."""
    anomalous: int
    megabytes: float
    """All that a device needs beside the engine; of ours, model and data file."""
    fit_seconds: float
    """The whole export: backbone, fit, calibration, writing."""
    cost: Cost | None = None
    """`None` for exact fp32, for rivals, and where fp32 was not part of the run."""
    notes: tuple[str, ...] = ()
    """What the figures are good for, in sentences without full stops."""

    @property
    def ours(self) -> bool:
        """Whether this is a model of padim-edge."""
        return self.method == "padim-edge"

    @property
    def title(self) -> str:
        """For people, without the class and the seed."""
        return f"{self.preset} {self.precision}" if self.ours else title(self.method)


def title(method: str) -> str:
    """A rival's name for people."""
    return TITLES.get(method, method)


def targets_of(row: Row) -> list[report.Target]:
    """The promises for this row, none where none was made."""
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
    """Half the 95 % interval of an AUROC from so many images: Hanley and McNeil, Radiology 143 (1982)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (anomalous - 1) * (q1 - auroc**2) + (good - 1) * (q2 - auroc**2)
    return 1.96 * math.sqrt(variance / (good * anomalous))


def table(rows: Sequence[Row], targets: Sequence[report.Target]) -> list[tuple[str, ...]]:
    """A line for each row under `COLUMNS`."""
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
        print(f"\n{class_name}: fitted on {chosen[0].images}, judged {chosen[0].good} good and {chosen[0].anomalous}")
        report.print_table(COLUMNS, table(chosen, targets))
    for what, why in notes_of(rows):
        print(f"{what}: {why}")
    for what, why in left_out.items():
        print(f"left out     {what}: {why}")
    if targets:
        print(_reached(targets))
        report.print_table(("target", "wanted", "found", "verdict"), [_verdict(target) for target in targets])


def notes_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(title, sentence without a full stop) for each note, once."""
    return list(dict.fromkeys((row.title, note.rstrip(".")) for row in rows for note in row.notes))


def markdown(
    environment: report.Environment,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    targets: Sequence[report.Target],
    plot: str | None,
) -> str:
    """The whole page.

    Args:
        environment: Of the run.
        settings: `command`, `backbone`, `weights` and `left_out`, as they are written to the JSON file.
        rows: Of all classes.
        targets: Of these rows.
        plot: The drawing, as the page shall link to it.
    """
    header = "\n".join((*report.header_lines(environment), f"backbone  {settings['backbone']}, {settings['weights']}"))
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
            _markdown_table(COLUMNS, table(chosen, targets)),
        ]
    parts += ["## What the columns are", LEGEND]
    if notes_of(rows):
        parts.append("\n".join(f"- {what}: {note}." for what, note in notes_of(rows)))
    if settings["left_out"]:
        parts += ["## Left out", "\n".join(f"- {what}: {why}." for what, why in settings["left_out"].items())]
    if targets:
        verdicts = [_verdict(target) for target in targets]
        parts += ["## Targets", _markdown_table(("target", "wanted", "found", "verdict"), verdicts)]
    return "\n\n".join(parts) + "\n"


def _counts(row: Row) -> str:
    uncertain = sampling_error(0.9, row.good, row.anomalous)
    return (
        f"Fitted on {row.images} good images; judged {row.good} good and {row.anomalous} anomalous ones. "
        f"So few leave an image AUROC of 0.90 uncertain by {uncertain:.3f} either way (95 %, Hanley and McNeil); "
        "what is lost is measured on the same images and varies less."
    )


def _reached(targets: Sequence[report.Target]) -> str:
    missed = [target.what for target in targets if not target.reached]
    said = f"Targets: {len(targets) - len(missed)} of {len(targets)} reached"
    return f"{said}; not reached: {'; '.join(missed)}." if missed else f"{said}."


def _verdict(target: report.Target) -> tuple[str, ...]:
    found = "undefined" if target.found is None else f"{target.found:z.4f}"
    wanted = f"{'at most' if target.at_most else 'at least'} {target.wanted:.3f}"
    return target.what, wanted, found, "reached" if target.reached else "not reached"


def _megabytes(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *("--:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
