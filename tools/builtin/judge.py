"""How good are weights of the built-in backbone, on drawn anomalies that their training has not seen?

    uv run python -m tools.builtin.judge FILE [FILE ...] [--teacher FILE]

The sample's classes are drawn by code of their own, which no training image comes from; a seed of its own keeps them
apart from the sample that users see, too. Each is judged as it lies and turned by up to 45 degrees, since parts that
lie still are easy for any backbone. Backbones are chosen by the mean of these figures, and by nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from padim_edge import sample
from padim_edge.build import build
from padim_edge.datasets import Dataset
from padim_edge.datasets.perturb import perturbed
from padim_edge.evaluation.evaluate import evaluate
from padim_edge.presets import PRESETS
from padim_edge_export import backbones
from padim_edge_export.backbones import Trunk
from padim_edge_runtime import Detector

SEED = 20
"""Of the sample; 0 is what users see."""

CONDITIONS = tuple((name, turned) for name in sample.CLASSES for turned in (0.0, 45.0))


@cache
def data(class_name: str, turned: float) -> Dataset:
    """120 good images to fit on; 40 good and 48 or more anomalous ones to judge."""
    from padim_edge.datasets import from_folder

    folder = Path(tempfile.mkdtemp(prefix="judge"))
    sample.write(sample.images(class_name, seed=SEED, size=256, train=120, test_good=40, per_defect=10), folder)
    found = from_folder(folder, class_name)
    return perturbed(found, rotate=turned, crop=None, seed=SEED) if turned else found


def judge(trunk: Trunk, preset: str) -> np.ndarray:
    """`(conditions, 2)` image and pixel AUROC."""
    figures = []
    for class_name, turned in CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "model.onnx"
            build(data(class_name, turned), output, PRESETS[preset], trunk)
            found = evaluate(Detector.load(output, "cpu"), data(class_name, turned))
        figures.append([found.metrics["image_auroc"], found.metrics["pixel_auroc"]])
    return np.array(figures, float)


def main() -> None:
    """Parse the command line, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m tools.builtin.judge", description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="*", help="files; 'auto' is the one that ships")
    parser.add_argument("--teacher", help="weights of ResNet-18, judged likewise")
    parser.add_argument("--preset", default="edge,accurate", help="comma-separated")
    options = parser.parse_args()
    print("image / pixel AUROC:", ", ".join(f"{name} turned {turned:.0f}" for name, turned in CONDITIONS))
    candidates = [("builtin", each) for each in options.weights]
    if options.teacher:
        candidates.append(("resnet18", options.teacher))
    for backbone, weights in candidates:
        trunk = backbones.load(backbone, weights)
        for preset in options.preset.split(","):
            figures = judge(trunk, preset)
            each = "  ".join(f"{image:.3f} / {pixel:.3f}" for image, pixel in figures)
            image, pixel = figures.mean(axis=0)
            print(f"{backbone} {Path(weights).stem} {preset}: {each}  mean {image:.4f} / {pixel:.4f}", flush=True)


if __name__ == "__main__":
    main()
