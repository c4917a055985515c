"""Measure weights of the built-in backbone on drawn anomalies that their training has not seen.

    uv run python -m tools.builtin.judge FILE [FILE ...] [--teacher FILE]

The images come from the built-in sample, whose code draws no training image. Their seed differs from that of the sample
that users see. Each class is judged as it lies, and turned by up to 45 degrees, because parts that lie still are easy
for any backbone. Backbones are chosen by the mean of these figures, and by nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import padim_edge
from padim_edge import datasets, sample
from padim_edge.datasets.perturb import perturbed

SEED = 20
"""Seed of the sample. Users see seed 0."""

CONDITIONS = tuple((name, turned) for name in sample.CLASSES for turned in (0.0, 45.0))
"""Class, and largest angle in degrees that its images are turned by."""


@cache
def data(class_name: str, turned: float) -> datasets.Dataset:
    """Return 120 good images to fit on, and 40 good and 48 or more anomalous ones to judge."""
    folder = Path(tempfile.mkdtemp(prefix="judge"))
    sample.write(sample.images(class_name, seed=SEED, size=256, train=120, test_good=40, per_defect=10), folder)
    found = datasets.from_folder(folder, class_name)
    return perturbed(found, rotate=turned, crop=None, seed=SEED) if turned else found


def judge(backbone: str, weights: str, preset: str) -> np.ndarray:
    """Return image and pixel AUROC in each condition, `(conditions, 2)`."""
    method = padim_edge.preset(preset, backbone=backbone)
    figures = []
    for class_name, turned in CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "model.onnx"
            images = data(class_name, turned)
            padim_edge.fit(images, method, weights=weights, progress=False).export(output, progress=False)
            found = padim_edge.evaluate(output, images, device="cpu", progress=False)
        figures.append([found.image_auroc, found.pixel_auroc])
    return np.array(figures, float)


def main() -> None:
    """Parse the command line, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m tools.builtin.judge", description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="*", help="weights files; 'auto' is the one that ships")
    parser.add_argument("--teacher", help="weights of ResNet-18, judged in the same way")
    parser.add_argument("--preset", default="edge,accurate", help="comma-separated")
    options = parser.parse_args()
    print("image / pixel AUROC:", ", ".join(f"{name} turned {turned:.0f}" for name, turned in CONDITIONS))
    candidates = [("builtin", each) for each in options.weights]
    if options.teacher:
        candidates.append(("resnet18", options.teacher))
    for backbone, weights in candidates:
        for preset in options.preset.split(","):
            figures = judge(backbone, weights, preset)
            each = "  ".join(f"{image:.3f} / {pixel:.3f}" for image, pixel in figures)
            image, pixel = figures.mean(axis=0)
            print(f"{backbone} {Path(weights).stem} {preset}: {each}  mean {image:.4f} / {pixel:.4f}", flush=True)


if __name__ == "__main__":
    main()
