"""Rows about images that should not be learned from: defects in an update, and defects among the good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.deciding.judged import auroc_of, rates_of
from benchmarks.deciding.materials import Materials, Measured
from benchmarks.report import Target
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.model import Model
from padim_edge.suspects import export_without
from padim_edge_artifact.kept import write_kept
from padim_edge_learn.suspects import suspects as ranked
from padim_edge_learn.update import update as learn
from padim_edge_learn.update import update_files
from padim_edge_runtime.progress import SILENT

__all__ = ["biscuits", "suspects", "update"]

FITTED = 100
"""Number of bottles that a model is fitted on before the update, and among which the broken ones are."""
ADDED, DEFECTIVE = 50, 10
"""Numbers of good and of defective bottles in the update."""
SLIPPED = 1
"""Largest number of defective bottles that are learned without a word."""

BROKEN, FOUND, AMONG = 5, 4, 8
"""Number of broken bottles called good, and how many of them must be among the first suspects."""
AUROC = 0.003
"""Largest difference of the image AUROC from that of a fit on the good bottles alone."""

MISSES, ALARMS = 0.5, 2
"""Largest share of misses and largest number of false alarms on the biscuits."""


def update(materials: Materials) -> Measured:
    """Update a model of bottles with good and defective ones, with defaults, and count what it takes."""
    dataset = materials.dataset("bottle")
    first = _even(dataset.good, FITTED)
    second = _even([item for item in dataset.good if item not in first], ADDED)
    defective = _even([item for item in dataset.test if item.kind != GOOD], DEFECTIVE)
    model = materials.exported(replace(dataset, good=tuple(first)), "bottle-before")
    write_kept(model.path.with_suffix(".npz"), model.kept)
    images = [item.file for item in (*second, *defective) if item.file is not None]
    updated = learn(update_files(model.path), images)
    aside = {each.path: each.reason for each in updated.set_aside}
    taken = [item for item in defective if item.file not in aside]
    refused = [item for item in second if item.file in aside]
    figures = [
        {
            "fitted": len(first),
            "good": len(second),
            "defective": len(defective),
            "defective_taken": [item.key for item in taken],
            "good_set_aside": {item.key: aside[item.file] for item in refused if item.file is not None},
            "threshold_before": updated.before.threshold,
            "threshold": updated.metadata.threshold,
        }
    ]
    what = f"update with {len(second)} good and {len(defective)} defective bottles: defective ones taken unasked"
    return Measured(figures, [Target(what, SLIPPED, len(taken), at_most=True)])


def suspects(materials: Materials) -> Measured:
    """Call five broken bottles good, look for them among the suspects, and fit again without the suspects."""
    dataset = materials.dataset("bottle")
    good = _even(dataset.good, FITTED)
    broken = _even([item for item in dataset.test if item.kind.startswith("broken")], BROKEN)
    test = [item for item in dataset.test if item not in broken]
    clean = materials.exported(replace(dataset, good=tuple(good)), "bottle-clean")
    usual = auroc_of(clean.path, test)
    mixed = materials.exported(replace(dataset, good=(*good, *broken)), "bottle-mixed")
    order = [mixed.good.items[int(mixed.good.held.numbers[i])] for i in ranked(mixed.good.held.alone).order[:AMONG]]
    named, again = _without(materials, replace(dataset, good=(*good, *broken)), "bottle-without")
    found = sum(item in broken for item in order)
    auroc = auroc_of(again.path, test)
    figures = [
        {
            "good": len(good),
            "broken": [item.key for item in broken],
            "first": [item.key for item in order],
            "named": named,
            "auroc_clean": usual,
            "auroc_mixed": auroc_of(mixed.path, test),
            "auroc": auroc,
            "thresholds": {"clean": clean.threshold, "mixed": mixed.threshold, "without": again.threshold},
        }
    ]
    where = f"{len(good)} good bottles and {len(broken)} broken ones called good"
    return Measured(
        figures,
        [
            Target(f"{where}: broken ones among the first {AMONG} suspects", FOUND, found),
            Target(f"{where}: AUROC without suspects against {usual:.4f}", AUROC, abs(auroc - usual), at_most=True),
        ],
    )


def biscuits(materials: Materials) -> Measured:
    """Fit the biscuits with defaults, leave the suspects out, and judge the test images."""
    dataset = materials.dataset("cookie")
    whole = materials.exported(dataset, "cookie")
    before = rates_of(whole.path, dataset.test)
    named, model = _without(materials, dataset, "cookie-without")
    after = rates_of(model.path, dataset.test)
    figures = [{"images": len(dataset.good), **before}, {"suspects": named, **after}]
    where = f"biscuits without {len(named)} suspects"
    return Measured(
        figures,
        [
            Target(f"{where}: misses (with them {before['misses']:.3f})", MISSES, after["misses"], at_most=True),
            Target(f"{where}: false alarms of {after['good']}", ALARMS, after["false_alarms"], at_most=True),
        ],
    )


def _without(materials: Materials, dataset: Dataset, name: str) -> tuple[list[str], Model]:
    """Export with `--exclude-suspects`: return the places of the suspects in the data set, and the model."""
    model, found = export_without(dataset, lambda some: materials.exported(some, name), SILENT)
    return [each.item.key for each in found], model


def _even(items: Sequence[Item], count: int) -> list[Item]:
    """Return an even selection of this many items."""
    return [items[int(number)] for number in np.linspace(0, len(items) - 1, count).round()]
