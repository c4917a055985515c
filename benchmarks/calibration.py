"""Check whether thresholds for named false-alarm rates hold on good images that were not in the fit.

The good images are split into random halves, many times. One half is fitted on and calibrated as an export calibrates;
the other half is judged. Then, on a few images, the closed form of leave-one-out is compared with real refits.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.deciding.subsets import Embedded

RATES = {0.01: (0.003, 0.02), 0.05: (0.03, 0.07), 0.1: (0.07, 0.13)}
"""Named false-alarm rates, and the range in which the mean rate that is found must lie."""

CLOSED_FORM = 0.01
"""Largest relative difference of a patch distance between the closed form and a refit."""


@dataclass(frozen=True)
class Row:
    """One class at one rate, over all splits."""

    class_name: str
    """Name of the class."""
    fitted: int
    """Number of images in the fitted half."""
    rate: float
    """Named false-alarm rate."""
    mean: float
    """Mean share of the other half above the threshold."""
    spread: float
    """Standard deviation of that share over the splits."""
    extrapolated: bool
    """Whether the rate is below what the scores of the fitted half resolve."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="root of MVTec AD")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--splits", type=int, default=50, help="random halves of the good images")
    parser.add_argument("--refits", type=int, default=5, help="images to compare with real refits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))

    from benchmarks.deciding.subsets import embed
    from padim_edge.datasets import from_folder
    from padim_edge.network import exported
    from padim_edge.presets import preset

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch", "pillow"), threads=None)
    report.print_header("calibration on good images alone", environment)
    method = preset(options.preset, backbone=options.backbone)
    rows: list[Row] = []
    targets: list[report.Target] = []
    for class_name in options.classes:
        embedded = embed(from_folder(options.data, class_name), method, options.weights)
        worst = against_refits(embedded, options.refits)
        what = f"{class_name}, closed form against {options.refits} refits, largest relative difference"
        targets.append(report.Target(what, CLOSED_FORM, worst, at_most=True))
        rows += splits(class_name, embedded, options.splits)
    targets += rate_targets(rows)
    table = [
        (r.class_name, str(r.fitted), f"{r.rate:g}", f"{r.mean:.4f}", f"{r.spread:.4f}", str(r.extrapolated))
        for r in rows
    ]
    report.print_table(("class", "fitted", "target", "mean found", "spread", "extrapolated"), table)
    report.print_targets(targets)
    weights = exported(method, options.weights).description.weights
    settings = {"preset": options.preset, "splits": options.splits, "weights": weights}
    report.write_json(options.json, "calibration", environment, settings, figures_of(rows), targets)


def figures_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as they are written to a file."""
    return [dataclasses.asdict(row) for row in rows]


def rate_targets(rows: Sequence[Row]) -> list[report.Target]:
    """Return the bounds of each row's mean false-alarm rate."""
    targets = []
    for row in rows:
        name = f"{row.class_name}, mean false-alarm rate at a target of {row.rate:g}"
        low, high = RATES[row.rate]
        targets += [report.Target(name, low, row.mean), report.Target(name, high, row.mean, at_most=True)]
    return targets


def splits(class_name: str, images: Embedded, count: int) -> list[Row]:
    """Fit and calibrate on one half, judge the other half, `count` times."""
    from benchmarks.deciding.subsets import Subset

    generator = np.random.default_rng(0)
    alarms: dict[float, list[float]] = {rate: [] for rate in RATES}
    for _ in range(count):
        order = generator.permutation(images.good)
        inside, outside = np.sort(order[: images.good // 2]), order[images.good // 2 :]
        half = Subset(images, inside)
        unseen = half.scores(outside)
        for rate, found in alarms.items():
            found.append(float((unseen > half.threshold(rate)).mean()))
    fitted = images.good // 2
    return [
        Row(class_name, fitted, rate, float(np.mean(found)), float(np.std(found)), rate < 1 / (fitted + 1))
        for rate, found in alarms.items()
    ]


def against_refits(images: Embedded, count: int) -> float:
    """Return the largest relative difference of a patch distance, over `count` images each left out of a real refit."""
    from benchmarks.deciding.subsets import Subset
    from padim_edge_model.leave_one_out import leave_one_out

    whole = Subset(images, images.fittable)
    closed = leave_one_out(whole.distances(whole.numbers), images.good)
    worst = 0.0
    for i in np.linspace(0, images.good - 1, count).astype(int):
        refit = Subset(images, np.delete(whole.numbers, i)).distances([i])[0]
        worst = max(worst, float(np.max(np.abs(closed[i] - refit) / refit)))
    return worst


if __name__ == "__main__":
    main()
