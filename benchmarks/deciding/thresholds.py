"""Rows about thresholds: closed forms against refits, few images, drifting images, many images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks import calibration as half_splits
from benchmarks.deciding.materials import Materials, Measured
from benchmarks.deciding.subsets import Embedded, Numbers, Subset
from benchmarks.report import Target
from padim_edge_model.calibration import calibrate, false_alarm_interval, threshold
from padim_edge_model.leave_one_out import leave_group_out, ridge_without

__all__ = ["closed_form", "first_thirty", "halves", "twenty"]

CLASSES = ("bottle", "screw")

GROUPS = (2, 5, 20)
"""Sizes of the groups that are left out."""
REFIT = 0.01
"""Largest relative difference of a patch distance between closed form and refit."""

FEW = 20
"""Number of images of a random draw."""
FALSE_ALARMS = {0.05: 0.08, 0.01: 0.04}
"""Largest mean share of false alarms for each share that is asked for."""
FARTHEST, USUALLY = 1.3, 0.95
"""Largest threshold in units of the highest leave-one-out score, and the least share of draws that keep to it."""
COVERED = 0.85
"""Least share of draws whose stated 90 % interval holds the truth."""

FIRST = 30
"""Number of images at the beginning."""
ASKED = 0.05
"""Share of false alarms that is asked for."""
FIRST_ALARMS = 0.09
"""Largest share of false alarms after a fit on the first images."""
MORE_MISSES = 1.5
"""Largest number of misses in units of those with plain leave-one-out."""


def closed_form(materials: Materials) -> Measured:
    """Compare leave-group-out with fits on the other images of bottle, for several groups of each size."""
    images = materials.embedded("bottle")
    ridge = images.empty.recipe.method.ridge
    count = images.good
    whole = Subset(images, images.fittable)
    figures, targets = [], []
    for size in GROUPS:
        worst = 0.0
        for kind, fitted, group in _groups(images, whole, size):
            others = np.delete(fitted.numbers, group)
            refit = Subset(images, others).distances(fitted.numbers[group])
            form = fitted.form_with(ridge_without(ridge, len(fitted.numbers), size))
            closed = leave_group_out(form, images.vectors[fitted.numbers[group]], len(fitted.numbers))
            found = float(np.max(np.abs(closed - refit) / refit))
            figures.append({"size": size, "group": kind, "images": count, "difference": found})
            worst = max(worst, found)
        what = f"bottle, groups of {size} left out, closed form against refits: largest relative patch difference"
        targets.append(Target(what, REFIT, worst, at_most=True))
    return Measured(figures, targets)


def _groups(images: Embedded, whole: Subset, size: int) -> Iterator[tuple[str, Subset, Numbers]]:
    """Yield the kind of a group, the fit that holds it, and the places of its images in that fit."""
    yield "neighbours", whole, np.arange(size)
    yield "spread", whole, np.linspace(0, images.good - 1, size).astype(np.int64)
    copies = np.concatenate([images.fittable, np.zeros(size - 1, np.int64)])
    yield "copies of one image", Subset(images, copies), np.flatnonzero(copies == 0)


def twenty(materials: Materials) -> Measured:
    """Fit random draws of few images, and count the false alarms among all other good images."""
    figures, targets = [], []
    for class_name in CLASSES:
        images = materials.embedded(class_name)
        generator = np.random.default_rng(0)
        found = [_drawn(images, generator.permutation(images.good), class_name) for _ in range(materials.amount.draws)]
        for asked, wanted in FALSE_ALARMS.items():
            rows = [each[asked] for each in found]
            figures += rows
            share = partial(_share, rows)
            where = f"{class_name}, {len(rows)} draws of {FEW}, {asked:g} asked"
            targets += [
                Target(f"{where}: mean true false-alarm rate", wanted, share("false_alarms"), at_most=True),
                Target(f"{where}: share of thresholds within {FARTHEST} x the highest score", USUALLY, share("near")),
                Target(f"{where}: share of 90 % intervals that hold the truth", COVERED, share("covered")),
            ]
    return Measured(figures, targets)


def _drawn(images: Embedded, order: Numbers, class_name: str) -> dict[float, dict[str, object]]:
    """Fit the first images of an order and judge the others, for each share of false alarms that is asked for."""
    subset = Subset(images, np.sort(order[:FEW]))  # as a folder of them would be read
    unseen = subset.scores(order[FEW:])
    figures = {}
    for asked in FALSE_ALARMS:
        limit = subset.threshold(asked)
        alarms = float((unseen > limit).mean())
        low, high = false_alarm_interval(subset.calibration, limit)
        finest = 1 / len(unseen)  # the truth itself is known only to one image
        figures[asked] = {
            "class": class_name,
            "asked": asked,
            "threshold": limit,
            "highest": float(subset.plain.max()),
            "false_alarms": alarms,
            "interval": (low, high),
            "near": bool(limit <= FARTHEST * subset.plain.max()),
            "covered": low - finest <= alarms <= high + finest,
        }
    return figures


def _share(rows: list[dict[str, object]], key: str) -> float:
    return float(np.mean([each[key] for each in rows]))


def first_thirty(materials: Materials) -> Measured:
    """Fit the first images by name, as many that are spread over the set, and all; count false alarms and misses."""
    figures, targets = [], []
    for class_name in CLASSES:
        images = materials.embedded(class_name)
        choices = {
            f"first {FIRST}": images.fittable[:FIRST],
            f"spread {FIRST}": images.fittable[:: images.good // FIRST][:FIRST],
            "all": images.fittable,
        }
        for name, numbers in choices.items():
            figure = _chosen(images, numbers)
            figures.append({"class": class_name, "fitted": name, **figure})
            where = f"{class_name}, {name}, {ASKED:g} asked"
            if name.startswith("first"):
                found = figure["false_alarms"]
                targets.append(Target(f"{where}: false alarms on all others", FIRST_ALARMS, found, at_most=True))
            else:
                wanted = MORE_MISSES * (figure["misses_plain"] or 0)
                targets.append(Target(f"{where}: misses", wanted, figure["misses"], at_most=True))
    return Measured(figures, targets)


def _chosen(images: Embedded, numbers: Numbers) -> dict[str, float | None]:
    """Judge good images that were not fitted on and all defective ones, also with plain leave-one-out."""
    subset = Subset(images, numbers)
    others = np.concatenate([np.setdiff1d(images.fittable, numbers), images.test(defective=False)])
    trained = len(images.fittable) - len(numbers)
    unseen, defects = subset.scores(others), subset.scores(images.test(defective=True))
    limits = {"": subset.threshold(ASKED), "_plain": threshold(calibrate(subset.plain), ASKED)}
    found: dict[str, float | None] = {"drift": 1.0 if subset.held.drift is None else subset.held.drift.factor}
    for suffix, limit in limits.items():
        found[f"threshold{suffix}"] = limit
        found[f"false_alarms{suffix}"] = float((unseen[:trained] > limit).mean()) if trained else None
        found[f"false_alarms_test{suffix}"] = float((unseen[trained:] > limit).mean())
        found[f"misses{suffix}"] = float((defects <= limit).mean())
    return found


def halves(materials: Materials) -> Measured:
    """Fit random halves of the good images and judge the other halves, as `benchmarks.calibration` does."""
    rows = [
        row
        for class_name in CLASSES
        for row in half_splits.splits(class_name, materials.embedded(class_name), materials.amount.splits)
    ]
    return Measured(half_splits.figures_of(rows), half_splits.rate_targets(rows))
