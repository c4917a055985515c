"""How well does each preset tell good from bad on real pictures, and what does the model weigh?

Builds every model as `padim-edge export` does and judges the test pictures as `padim-edge evaluate` does.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report

if TYPE_CHECKING:
    from padim_edge_export.backbones import Trunk

TARGETS = {
    ("paper", "bottle"): (0.990, 0.977, 0.929),
    ("paper", "screw"): (0.70, 0.965, 0.883),
    ("edge", "bottle"): (0.995, 0.980, 0.935),
    ("edge", "screw"): (0.86, 0.980, 0.925),
    ("accurate", "bottle"): (0.995, 0.980, 0.938),
    ("accurate", "screw"): (0.88, 0.983, 0.945),
}
"""Image AUROC, pixel AUROC and PRO that ResNet-18 with ImageNet weights shall reach, by preset and class."""


@dataclass(frozen=True)
class Row:
    """One model on one class."""

    class_name: str
    preset: str
    seed: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    image_ap: float | None
    threshold: float
    false_alarm_rate: float | None
    """Share of the good test pictures above the threshold that was shipped."""
    miss_rate: float | None
    """Share of the anomalous test pictures not above it."""
    pictures: int
    """Fitted on."""
    good: int
    """Judged, as the next."""
    anomalous: int
    megabytes: float
    """Model and data file."""
    fit_seconds: float
    """The whole export: backbone, fit, calibration, writing."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the root of MVTec AD")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--preset", type=report.names, default=("paper", "edge", "accurate"))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--seeds", type=report.names, default=("0",), help="of the reduction, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, options.preset)

    from padim_edge_export import backbones

    packages = ("padim-edge", "numpy", "onnxruntime", "torch", "pillow", "scikit-learn")
    environment = report.probe(packages, threads=None)
    report.print_header("accuracy on real pictures", environment)
    trunk = backbones.load(options.backbone, options.weights)
    rows = []
    for class_name in options.classes:
        for preset in options.preset:
            for seed in options.seeds:
                print(f"{class_name}, {preset}, seed {seed}", flush=True)
                rows.append(judge(options.data, class_name, preset, trunk, int(seed)))
    # The targets were set for one backbone and one set of weights.
    targets = [target for row in rows for target in targets_of(row)] if options.backbone == "resnet18" else []
    _print(rows, targets)
    settings = {
        "backbone": options.backbone,
        "weights": trunk.description.weights,
        "weights_digest": trunk.description.weights_digest,
    }
    results = [dataclasses.asdict(row) for row in rows]
    report.write_json(options.json, "accuracy", environment, settings, results, targets)


def judge(data: Path, class_name: str, preset: str, trunk: Trunk, seed: int) -> Row:
    """Build one model in a temporary folder and evaluate it."""
    from padim_edge import datasets
    from padim_edge.build import build
    from padim_edge.evaluate import evaluate
    from padim_edge.presets import PRESETS
    from padim_edge_runtime import Detector

    dataset = datasets.from_folder(data, class_name)
    with tempfile.TemporaryDirectory() as folder:
        built = build(dataset, Path(folder) / f"{class_name}.onnx", PRESETS[preset], trunk, seed=seed)
        found = evaluate(Detector.load(built.model, "cpu"), dataset)
    assert not built.unreadable
    assert not found.unreadable
    return Row(
        class_name=class_name,
        preset=preset,
        seed=seed,
        image_auroc=found.metrics["image_auroc"],
        pixel_auroc=found.metrics["pixel_auroc"],
        pro=found.metrics["pro"],
        image_ap=found.metrics["image_ap"],
        threshold=built.metadata.threshold,
        false_alarm_rate=found.metrics["false_alarm_rate"],
        miss_rate=found.metrics["miss_rate"],
        pictures=built.metadata.pictures,
        good=found.good,
        anomalous=found.anomalous,
        megabytes=round(built.bytes / 1e6, 1),
        fit_seconds=round(built.seconds, 1),
    )


def targets_of(row: Row) -> list[report.Target]:
    """The promises for this row, none where none was made."""
    wanted = TARGETS.get((row.preset, row.class_name))
    if wanted is None:
        return []
    name = f"{row.preset} {row.class_name} seed {row.seed}"
    found = (row.image_auroc, row.pixel_auroc, row.pro)
    return [
        report.Target(f"{name}, {kind}", limit, value)
        for kind, limit, value in zip(("image AUROC", "pixel AUROC", "PRO"), wanted, found, strict=True)
    ]


def _print(rows: list[Row], targets: list[report.Target]) -> None:
    verdicts = {target.what: target for target in targets}

    def beside(row: Row, kind: str, value: float | None) -> str:
        shown = "-" if value is None else f"{value:.4f}"
        target = verdicts.get(f"{row.preset} {row.class_name} seed {row.seed}, {kind}")
        return shown if target is None else f"{shown} {'>=' if target.reached else '< '} {target.wanted:.3f}"

    def rate(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    table: list[tuple[Any, ...]] = [
        (
            row.class_name,
            row.preset,
            str(row.seed),
            beside(row, "image AUROC", row.image_auroc),
            beside(row, "pixel AUROC", row.pixel_auroc),
            beside(row, "PRO", row.pro),
            "-" if row.image_ap is None else f"{row.image_ap:.4f}",
            f"{row.threshold:.2f}",
            rate(row.false_alarm_rate),
            rate(row.miss_rate),
            f"{row.megabytes:.1f}",
            f"{row.fit_seconds:.1f}",
        )
        for row in rows
    ]
    columns = (
        "class",
        "preset",
        "seed",
        "image AUROC, target",
        "pixel AUROC, target",
        "PRO, target",
        "AP",
        "threshold",
    )
    report.print_table((*columns, "false alarms", "misses", "MB", "fit s"), table, words=2)
    report.print_targets(targets)


if __name__ == "__main__":
    main()
