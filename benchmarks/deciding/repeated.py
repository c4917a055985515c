"""Rows about repeats: copies and near copies of good images must not count as evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.deciding.copies import Pixels, jpeg, noisy
from benchmarks.deciding.judged import pixels_of, scores_of
from benchmarks.deciding.materials import Materials, Measured
from benchmarks.deciding.subsets import Subset
from benchmarks.report import Target
from padim_edge.datasets import GOOD
from padim_edge.evaluation.metrics import image_metrics
from padim_edge.fitted import fit
from padim_edge.model import Model
from padim_edge.presets import preset
from padim_edge_model.repeats import groups_of

__all__ = ["ALTERED", "groups", "repeats", "twice"]

IMAGES = 40
"""Number of bottles that come twice."""

SIGMA = 2.0
"""Standard deviation of the noise of a second shot, in grey levels."""

ALTERED: dict[str, Callable[[Pixels, int], Pixels]] = {
    "bytes": lambda pixels, _: pixels,
    "noise of sigma 2": lambda pixels, number: noisy(pixels, SIGMA, number),
    "JPEG of quality 80": lambda pixels, _: jpeg(pixels, 80),
}
"""Second shots of an image, from its pixels and its number."""

_AUROC = 0.003
"""Largest change of the image AUROC that passes for "as before"."""


def repeats(materials: Materials) -> Measured:
    """Export ten images once, thrice and with noisy copies, and count the false alarms on other good images."""
    folder = materials.shared / "cases" / "repeated-good"
    once, test = _files(folder / "once"), _files(folder / "test")
    noisy_too = [
        ALTERED["noise of sigma 2"](pixels_of(path), 2 * i + n) for n in range(2) for i, path in enumerate(once)
    ]
    sources: dict[str, list[Any]] = {
        "once": list(once),
        "thrice": list(_files(folder / "thrice")),
        "with two noisy copies each": [*once, *noisy_too],
    }
    methods = {"resnet18": materials.method, "builtin, 64": preset("edge", backbone="builtin", size=64)}
    figures, targets = [], []
    for backbone, method in methods.items():
        weights = materials.weights if backbone == "resnet18" else "auto"
        alarms = {}
        for name, source in sources.items():
            fitted = fit(source, method, class_name="repeated", weights=weights, progress=False)
            model = fitted.export(materials.folder / "repeated.onnx", progress=False)
            alarms[name] = int((scores_of(model.path, test) > model.threshold).sum())
            figures.append({"backbone": backbone, "images": name, **_of(model), "false_alarms": alarms[name]})
            if name != "once":
                what = (
                    f"repeated-good {name}, {backbone}: false alarms of {len(test)} against {alarms['once']} with once"
                )
                targets.append(Target(what, 1, abs(alarms[name] - alarms["once"]), at_most=True))
    return Measured(figures, targets)


def twice(materials: Materials) -> Measured:
    """Export 40 bottles, and each of them twice in several ways; count the false alarms on good test images."""
    dataset = materials.dataset("bottle")
    images = [pixels_of(item) for item in dataset.good[:IMAGES]]
    test = [pixels_of(item) for item in dataset.test if item.kind == GOOD]
    single = materials.exported(images, "bottle-once")
    usual = int((scores_of(single.path, test) > single.threshold).sum())
    figures = [{"copies": "none", **_of(single), "false_alarms": usual}]
    targets = []
    for name, altered in ALTERED.items():
        model = materials.exported([*images, *(altered(each, i) for i, each in enumerate(images))], "bottle-twice")
        alarms = int((scores_of(model.path, test) > model.threshold).sum())
        found = groups_of(model.kept.evidence)
        pairs = int((found[:IMAGES] == found[IMAGES:]).sum())
        mixed = IMAGES - len(np.unique(found[:IMAGES]))
        figures.append({"copies": name, **_of(model), "false_alarms": alarms, "pairs": pairs, "mixed": mixed})
        where = f"{IMAGES} bottles twice, {name}"
        targets += [
            Target(
                f"{where}: false alarms of {len(test)} against {usual} with once", 1, abs(alarms - usual), at_most=True
            ),
            Target(f"{where}: pairs found", IMAGES, pairs),
            Target(f"{where}: different images put into one group", 0, mixed, at_most=True),
        ]
    return Measured(figures, targets)


def groups(materials: Materials) -> Measured:
    """Look for repeats among all good images of bottle and screw, and compare the AUROC with the committed one."""
    figures, targets = [], []
    for class_name in ("bottle", "screw"):
        images = materials.embedded(class_name)
        subset = Subset(images, images.fittable)
        independent = len(np.unique(groups_of(subset.kept.evidence)))
        test = np.arange(images.good, len(images.items))
        labels = np.array([images.items[number].kind != GOOD for number in test])
        found = image_metrics(labels, subset.scores(test), 0.0).auroc
        before = _committed(class_name)
        figures.append(
            {"class": class_name, "images": images.good, "independent": independent, "auroc": found, "before": before}
        )
        what = f"{class_name}, all {images.good} good images: images taken for repeats"
        targets.append(Target(what, 0, images.good - independent, at_most=True))
        if found is not None and before is not None:
            what = f"{class_name}: change of the image AUROC from {before:.4f} in accuracy.json"
            targets.append(Target(what, _AUROC, abs(found - before), at_most=True))
    return Measured(figures, targets)


def _of(model: Model) -> dict[str, Any]:
    about = model.metadata
    return {"fitted": about.images, "independent": about.independent, "threshold": about.threshold}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _committed(class_name: str) -> float | None:
    """Return the image AUROC of `edge` in fp32 among the committed results."""
    path = Path(__file__).parents[1] / "results" / "accuracy.json"
    return next(
        (
            row["image_auroc"]
            for row in json.loads(path.read_text(encoding="utf-8"))["results"]
            if (row.get("class_name"), row.get("preset"), row.get("precision")) == (class_name, "edge", "fp32")
        ),
        None,
    )
