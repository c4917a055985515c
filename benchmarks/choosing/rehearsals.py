"""Runs of `benchmarks.rehearsal`, their tables, and what was promised about them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import report
from benchmarks.choosing.pages import mean_and_range
from benchmarks.choosing.record import Row
from benchmarks.report import Target

__all__ = ["Run", "matching", "ranks_agree", "tables", "targets_of"]

SEEDS = (0, 1, 2)
"""Random seeds of the method and of the choice of images."""
_CLASSES = ("screw", "bottle", "kolektor", "cookie")
_FEW = (20, 50)
_BLIND_SEEDS = range(10)
"""Draws of 20 screws, which `edge` is blind on."""
_BLIND, _SEES = 0.6, 0.1
"""Share of real misses above which a model must be warned of, and below which it must not be."""
_KINDS = ("edge", "free", "equal", "auto")

_WANTED = {"screw": 0.97, "bottle": 0.999, "kolektor": 0.84, "cookie": 0.985}
"""Image AUROC that `auto` reaches with all images, by class: means over the seeds."""
_REGRET, _MEAN_REGRET = 0.02, 0.005
_RANK = 0.85
_CHART = 0.15
_WARNED = 0.9


@dataclass(frozen=True)
class Run:
    """One fit of both kinds."""

    class_name: str
    """Name of the data set."""
    images: int | None
    """Number of training images; `None` for all."""
    seed: int
    """Random seed of the method and of the choice of images."""

    @property
    def name(self) -> str:
        """Name that no other run has, such as `screw 20 seed 0`."""
        return f"{self.class_name} {'all' if self.images is None else self.images} seed {self.seed}"


def matching(patterns: Sequence[str]) -> list[Run]:
    """Return the runs, the most important first, whose name matches one of the patterns; all without patterns."""
    runs = [Run(class_name, None, seed) for seed in SEEDS for class_name in _CLASSES]
    runs += [Run("screw", 20, seed) for seed in _BLIND_SEEDS]
    runs += [Run(each, count, seed) for seed in SEEDS for count in _FEW for each in _CLASSES]
    runs = [run for run in dict.fromkeys(runs) if (run.class_name, run.images) != ("cookie", 50)]  # it has 31
    return [run for run in runs if not patterns or any(fnmatch.fnmatchcase(run.name, each) for each in patterns)]


def ranks_agree(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values share their mean rank."""
    ranks = [_ranks(np.array(each)) for each in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def tables(rows: Sequence[Row]) -> str:
    """Return all tables in Markdown."""
    parts = ["Image AUROC on the real test images, means over the seeds:", _aurocs(rows)]
    parts += ["True image AUROC lost against the better of `edge` and `free`, means over the seeds:", _regrets(rows)]
    pairs = _pairs(rows)
    if len(pairs) > 2:
        agreement = ranks_agree(*zip(*pairs, strict=True))
        parts.append(f"Rank agreement of planted and true image AUROC over {len(pairs)} pairs: {agreement:.3f}.")
    charts = _charts(rows)
    if charts:
        columns = ("class", "images", "model", "groups", "difference", "real found", "foretold")
        parts += ["The chart against real defects, means over seeds and draws:", report.markdown_table(columns, charts)]
    parts.append(_warnings(rows))
    verdicts = [report.verdict(target) for target in targets_of(rows)]
    if verdicts:
        parts.append(report.markdown_table(("target", "wanted", "found", "verdict"), verdicts))
    products = sorted({row["product"] for row in rows})
    parts.append(f"Commits of the product: {', '.join(products) or 'none'}.")
    return "\n\n".join(parts)


def _groups(rows: Sequence[Row]) -> list[tuple[str, int | None, list[Row]]]:
    keys = dict.fromkeys((row["class_name"], row["images"]) for row in rows)
    ordered = sorted(keys, key=lambda key: (key[0], key[1] is not None, -(key[1] or 0)))
    return [
        (name, count, [row for row in rows if (row["class_name"], row["images"]) == (name, count)])
        for name, count in ordered
    ]


def _aurocs(rows: Sequence[Row]) -> str:
    lines = []
    for name, count, own in _groups(rows):
        figures = (mean_and_range([row["true"][kind]["auroc"] for row in own]) for kind in _KINDS)
        weights = mean_and_range([weight for row in own for weight in row["weights"]], "{:.2f}".format)
        lines.append((name, "all" if count is None else str(count), str(len(own)), *figures, weights))
    return report.markdown_table(("class", "images", "seeds", *_KINDS, "share of the memory"), lines, words=2)


def _lost(row: Row, kind: str) -> float:
    """Return the mean regret of a row; that of `auto` over all draws of defects."""
    best = max(row["true"]["edge"]["auroc"], row["true"]["free"]["auroc"])
    found = row["true_by_draw"] if kind == "auto" else [row["true"][kind]["auroc"]]
    return best - float(np.mean(found))


def _regrets(rows: Sequence[Row]) -> str:
    lines = [
        (
            name,
            "all" if count is None else str(count),
            *(f"{np.mean([_lost(row, kind) for row in own]):+.4f}" for kind in _KINDS),
        )
        for name, count, own in _groups(rows)
    ]
    return report.markdown_table(("class", "images", *_KINDS), lines, words=2)


def _pairs(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return planted and true image AUROC by class, number of images and kind alone: means over seeds and draws."""
    found = []
    for _, _, own in _groups(rows):
        for kind in ("edge", "free"):
            planted = [each["auroc"] for row in own for each in row["planted"][kind] if each["auroc"] is not None]
            if planted:
                found.append((float(np.mean(planted)), float(np.mean([row["true"][kind]["auroc"] for row in own]))))
    return found


def _charts(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    lines = []
    for name, count, own in _groups(rows):
        for kind in _KINDS:
            said = [each for row in own for each in row["planted"][kind] if each.get("chart_difference") is not None]
            if said:
                lines.append(
                    (
                        name,
                        "all" if count is None else str(count),
                        kind,
                        f"{np.mean([each['chart_groups'] for each in said]):.1f}",
                        *(
                            f"{np.mean([each[key] for each in said]):.2f}"
                            for key in ("chart_difference", "real", "expected")
                        ),
                    )
                )
    return lines


def _warned(rows: Sequence[Row], kinds: Sequence[str], wanted: Callable[[float], bool]) -> tuple[int, int]:
    """Count the rehearsals of models with such a true miss rate, and those of them that say `blind`."""
    said = [
        each["level"] == "blind"
        for row in rows
        for kind in kinds
        if row["true"][kind]["miss"] is not None and wanted(row["true"][kind]["miss"])
        for each in row["planted"][kind]
    ]
    return sum(said), len(said)


def _warnings(rows: Sequence[Row]) -> str:
    blind = _warned(rows, _KINDS, lambda miss: miss > _BLIND)
    seeing = _warned(rows, _KINDS, lambda miss: miss < _SEES)
    return (
        f"Called nearly blind: {blind[0]} of {blind[1]} rehearsals of models that miss over {100 * _BLIND:.0f} % of "
        f"the real defects, and {seeing[0]} of {seeing[1]} of models that miss under {100 * _SEES:.0f} %."
    )


def targets_of(rows: Sequence[Row]) -> list[Target]:
    """Return the promises about what is there."""
    targets = []
    whole = [(name, own) for name, count, own in _groups(rows) if count is None and len(own) == len(SEEDS)]
    for name, own in whole:
        found = float(np.mean([auroc for row in own for auroc in row["true_by_draw"]]))
        targets.append(Target(f"{name}: mean image AUROC of auto", _WANTED[name], found))
        lost = float(np.mean([_lost(row, "auto") for row in own]))
        targets.append(Target(f"{name}: regret of auto", _REGRET, lost, at_most=True))
    if len(whole) == len(_CLASSES):
        mean = float(np.mean([_lost(row, "auto") for _, own in whole for row in own]))
        targets.append(Target("mean regret of auto over the classes", _MEAN_REGRET, mean, at_most=True))
    pairs = _pairs(rows)
    if len(pairs) > 2:
        targets.append(
            Target("rank agreement of planted and true AUROC", _RANK, ranks_agree(*zip(*pairs, strict=True)))
        )
    differences = [
        each["chart_difference"]
        for row in rows
        for kind in ("edge", "free", "auto")
        for each in row["planted"][kind]
        if each.get("chart_difference") is not None
    ]
    if differences:
        what = "chart against real defects: mean absolute difference"
        targets.append(Target(what, _CHART, float(np.mean(differences)), at_most=True))
    screws = [row for row in rows if row["class_name"] == "screw" and row["images"] == 20]
    warned, all_blind = _warned(screws, ("edge",), lambda miss: miss > _BLIND)
    if all_blind:
        targets.append(Target("blind models of 20 screws that are warned of", _WARNED, warned / all_blind))
    wrong, seeing = _warned(rows, _KINDS, lambda miss: miss < _SEES)
    if seeing:
        targets.append(Target("seeing models that are called blind", 0.0, wrong / seeing, at_most=True))
    return targets
