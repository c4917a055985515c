"""Fifteen products with one int8 backbone: size as files and as a bundle, opening, and scores.

The first product makes the int8 backbone; the others take it over with `padim-edge fit --like`. Images are drawn.

    python -m benchmarks.bundle --json benchmarks/results/bundle.json
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import report
from padim_edge.sample import draw_good
from padim_edge_artifact.bundle import Bundle, open_bundle
from padim_edge_artifact.bundling import Source, write
from padim_edge_artifact.container import read_metadata
from padim_edge_runtime.detector import Detector

PRODUCTS, IMAGES = 15, 24
SHARE, SWITCH_MS, OPEN_MS = 0.01, 5.0, 50.0
"""Promises: part of the sum by which the bundle may be larger than without 14 backbones; switching; opening."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle", description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=PRODUCTS, help="number of products")
    parser.add_argument("--models", type=Path, metavar="DIR", help="take these models instead of making some")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "torch"), threads=None)
    report.print_header("a bundle of products", environment)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = sorted(options.models.glob("*.onnx")) if options.models else made(folder, options.products)
        results = [measured(folder, models)]
    print(results[0])
    targets = targets_of(results[0])
    report.print_targets(targets)
    report.write_json(options.json, "bundle", environment, {"products": len(models)}, results, targets)


def made(folder: Path, count: int) -> list[Path]:
    """Fit so many products with the int8 backbone of the first one."""
    models = []
    for number in range(count):
        name = f"p{number:02}"
        good = folder / "data" / name / "train" / "good"
        good.mkdir(parents=True)
        for image in range(IMAGES):
            kind = "bottle" if number % 2 else "weave"
            drawn = draw_good(kind, 1000 * number + image, size=224)
            Image.fromarray(drawn).save(good / f"{image:03}.png")
        like = ["--like", "p00.npz"] if number else ["--precision", "int8", "--backbone", "builtin"]
        run = [sys.executable, "-m", "padim_edge_runtime"]
        fit = ["fit", "--class", name, "--data", "data", *like, "--output", f"{name}.npz"]
        subprocess.run([*run, *fit], cwd=folder, check=True, capture_output=True)
        export = ["export", "--class", name, "--data", "data", "--statistics", f"{name}.npz", "--fast"]
        subprocess.run([*run, *export, "--output", f"{name}.onnx"], cwd=folder, check=True, capture_output=True)
        models.append(folder / f"{name}.onnx")
    return models


def measured(folder: Path, models: list[Path]) -> dict[str, Any]:
    """Bundle models, and compare sizes, times and scores."""
    bundle = write(folder / "line.padim", {model.stem: Source(model) for model in models})
    alone = sum(_bytes_of(model) for model in models)
    backbone = _common(bundle)
    opening, switching, loading, differ = [], [], [], 0
    for _ in range(20):
        start = time.perf_counter()
        open_bundle(bundle.path)
        opening.append(1e3 * (time.perf_counter() - start))
    loaded = {}
    for model in models:
        start = time.perf_counter()
        loaded[model.stem] = Detector.load(bundle.path, product=model.stem)
        loading.append(1e3 * (time.perf_counter() - start))
    frames = np.random.default_rng(0).integers(0, 256, (2, *loaded[models[0].stem].metadata.input_size, 3), np.uint8)
    for model in models:
        start = time.perf_counter()
        detector = loaded[model.stem]
        switching.append(1e3 * (time.perf_counter() - start))
        differ += not np.array_equal(detector(frames).score, Detector.load(model)(frames).score)
    return {
        "products": len(models),
        "files_mb": round(alone / 1e6, 3),
        "bundle_mb": round(bundle.stamp.size / 1e6, 3),
        "backbone_mb": round(backbone / 1e6, 3),
        "above_share": round((bundle.stamp.size - alone + (len(models) - 1) * backbone) / alone, 5),
        "open_ms": round(median(opening), 3),
        "load_ms": round(median(loading), 1),
        "switch_ms": round(max(switching), 4),
        "other_scores": differ,
    }


def targets_of(found: dict[str, Any]) -> list[report.Target]:
    """Compare with the promises."""
    return [
        report.Target("part of the sum above sum minus 14 backbones", SHARE, found["above_share"], True),
        report.Target("ms to open the bundle", OPEN_MS, found["open_ms"], True),
        report.Target("ms to switch between loaded products, most", SWITCH_MS, found["switch_ms"], True),
        report.Target("products with other scores than their files", 0, found["other_scores"], True),
    ]


def _bytes_of(model: Path) -> int:
    return model.stat().st_size + read_metadata(model).digests.data_bytes


def _common(bundle: Bundle) -> int:
    """Return the bytes of the constants that all products have in common: the backbone."""
    shared = set.intersection(*(set(member.blobs) for member in bundle.members.values()))
    return sum(bundle.blobs[number].size for number in shared)


if __name__ == "__main__":
    main()
