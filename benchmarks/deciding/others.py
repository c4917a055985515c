"""Rows about images of another kind: those that are not comparable, and those of more than 8 bits."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import verdicts
from benchmarks.deciding.copies import deep, write_deep
from benchmarks.deciding.judged import auroc_of, pixels_of
from benchmarks.deciding.materials import Materials, Measured
from benchmarks.report import Target
from padim_edge.datasets import from_folder
from padim_edge.fitted import fit_dataset
from padim_edge.settled import settled
from padim_edge_runtime.progress import SILENT

__all__ = ["comparable", "deep_images"]

BITS = (12, 10)
"""Bits of the signal in files of 16 bits."""
AUROC = 0.003
"""Largest difference of the image AUROC."""


def comparable(materials: Materials) -> Measured:
    """Judge other products, and turned, moved and black images, as `benchmarks.verdicts` does."""
    found = {name: materials.dataset(name) for name in ("bottle", "screw")}
    options = argparse.Namespace(preset=materials.method.preset, weights=materials.weights)
    rows = [
        row
        for name, dataset in found.items()
        for row in verdicts.judged(
            name, "all", dataset, {other: each for other, each in found.items() if other != name}, options
        )
    ]
    return Measured([dataclasses.asdict(row) for row in rows], verdicts.promised(rows))


def deep_images(materials: Materials) -> Measured:
    """Fit bottle in files of 8 bits, and as cameras of 10 and 12 bits would have written it, grey and in colour."""
    figures, targets = [], []
    for kind in ("grey", "colour"):
        usual = _auroc(materials, kind, 8)
        figures.append({"kind": kind, "bits": 8, "auroc": usual})
        for bits in BITS:
            found = _auroc(materials, kind, bits)
            figures.append({"kind": kind, "bits": bits, "auroc": found})
            what = f"bottle, {kind}, {bits} bits in files of 16: change of the image AUROC from {usual:.4f}"
            targets.append(Target(what, AUROC, abs(found - usual), at_most=True))
    return Measured(figures, targets)


def _auroc(materials: Materials, kind: str, bits: int) -> float:
    root = _written(materials, kind, bits)
    dataset = from_folder(root, "bottle")
    method = settled(dataset, materials.method)
    path = materials.folder / "deep.onnx"
    fit_dataset(dataset, method, weights=materials.weights, feedback=SILENT).export(path, progress=False)
    return auroc_of(path, dataset.test)


def _written(materials: Materials, kind: str, bits: int) -> Path:
    """Write all bottles as PNG files of this kind, and return their folder."""
    root = materials.folder / f"{kind}-{bits}" / "bottle"
    source = materials.dataset("bottle")
    for number, item in enumerate((*source.good, *source.test)):
        part = "train" if number < len(source.good) else "test"
        path = root / part / item.kind / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = pixels_of(item)
        if kind == "grey":
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))
        if bits == 8:
            Image.fromarray(pixels).save(path, compress_level=1)
        else:
            write_deep(path, deep(pixels, bits, number))
    return root.parent
