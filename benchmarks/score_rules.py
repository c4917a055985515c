"""Compare rules that make an image's score of its patch distances, for `free` and PatchCore alike.

The graph that ships judges each test image once. The rules are then computed from its patch distances.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.presets import PACKAGES, add_source, loader, settings_of
from benchmarks.report import Target

if TYPE_CHECKING:
    from benchmarks.choosing.record import Record
    from padim_edge_artifact.method import Method

CLASSES = ("screw", "bottle", "kolektor", "cookie")
SEEDS = (0, 1, 2)

MODELS = {"free": ("free", None), "patchcore-10": ("patchcore", "10%"), "patchcore-1": ("patchcore", "1%")}
"""Preset and number of prototypes by name; `None` is the preset's own."""

BEATEN = ("screw", "bottle")
"""Classes on which `free` must equal PatchCore 10 % or beat it."""


@dataclass(frozen=True)
class Run:
    """One model on one class."""

    class_name: str
    """Name of the data set."""
    model: str
    """Key of `MODELS`."""
    seed: int
    """Random seed of the method."""

    @property
    def name(self) -> str:
        """Name that no other run has."""
        return f"{self.class_name} {self.model} seed {self.seed}"

    def method(self, backbone: str, size: str | None = None) -> Method:
        """Return the method."""
        from padim_edge.presets import preset

        name, prototypes = MODELS[self.model]
        return preset(name, backbone=backbone, seed=self.seed, prototypes=prototypes, size=size)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score_rules", description=__doc__.splitlines()[0])
    parser.add_argument("--class", dest="classes", type=report.names, default=CLASSES, help="comma-separated")
    parser.add_argument("--model", dest="models", type=report.names, default=tuple(MODELS), help="comma-separated")
    parser.add_argument("--seeds", type=report.names, default=tuple(map(str, SEEDS)), help="comma-separated")
    parser.add_argument("--table", action="store_true", help="print the results of --json in Markdown and end")
    add_source(parser)
    options = parser.parse_args()
    if options.table:
        if options.json is None:
            parser.error("--table prints a file of results; name it with --json")
        print(table(report.read_json(options.json).results))
        return
    for what, given, known in (("class", options.classes, CLASSES), ("model", options.models, MODELS)):
        for name in given:
            if name not in known:
                parser.error(f"there is no {what} {name!r}; choose from {', '.join(known)}")
    chosen = [
        Run(class_name, model, int(seed))
        for seed in options.seeds
        for class_name in options.classes
        for model in options.models
    ]
    _measure_all(chosen, options)


def _measure_all(chosen: Sequence[Run], options: argparse.Namespace) -> None:
    from benchmarks.choosing import scoring
    from benchmarks.choosing.record import Record
    from benchmarks.decisions import WEIGHTS
    from padim_edge_artifact import PadimEdgeError

    environment = report.probe(PACKAGES, threads=None)
    report.print_header("rules of the image score", environment)
    weights = options.weights or str(options.data / WEIGHTS)
    load = loader(options.data)
    try:
        settings = settings_of("score_rules", options.backbone, weights)
        record: Record = Record(options.json, "score_rules", environment, settings, targets_of)
        for run in chosen:
            if record.has(run.name):
                continue
            print(run.name, file=sys.stderr, flush=True)
            start = time.perf_counter()
            found = scoring.aurocs(load(run.class_name), run.method(options.backbone), weights)
            record.add(run.name, row_of(run, found, time.perf_counter() - start))
    except PadimEdgeError as error:
        sys.exit(str(error))
    print(table(record.rows))
    report.print_targets(record.targets)


def row_of(run: Run, aurocs: dict[str, float | None], seconds: float) -> dict[str, Any]:
    """Return the row of a run as it is written."""
    return {
        "class_name": run.class_name,
        "model": run.model,
        "seed": run.seed,
        "image_auroc": aurocs,
        "seconds": round(seconds, 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the image AUROC of each rule in Markdown, as means and ranges over the seeds, class by class."""
    from benchmarks.choosing.pages import mean_and_range

    parts = []
    for class_name in dict.fromkeys(row["class_name"] for row in rows):
        models = list(dict.fromkeys(row["model"] for row in rows if row["class_name"] == class_name))
        found = [[row["image_auroc"] for row in _of(rows, class_name, model)] for model in models]
        rules = dict.fromkeys(rule for each in found for aurocs in each for rule in aurocs)
        lines = [(rule, *(mean_and_range([aurocs.get(rule) for aurocs in each]) for each in found)) for rule in rules]
        columns = (class_name, *(f"{model}, {len(each)} seeds" for model, each in zip(models, found, strict=True)))
        parts.append(report.markdown_table(columns, lines))
    return "\n\n".join(parts)


def targets_of(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Return the promises about classes that both models have with all seeds, for the rule that ships."""
    from benchmarks.choosing.scoring import SHIPPED

    targets = []
    for class_name in BEATEN:
        free, other = (_of(rows, class_name, model) for model in ("free", "patchcore-10"))
        if len(free) == len(other) == len(SEEDS):
            for rule in (SHIPPED, f"re-weighted {SHIPPED}"):
                ours, theirs = (
                    _mean(row["image_auroc"][SHIPPED] for row in free),
                    _mean(row["image_auroc"][rule] for row in other),
                )
                what = f"{class_name}: mean image AUROC of free less that of PatchCore 10 %, {rule}"
                targets.append(Target(what, 0.0, ours - theirs))
    return targets


def _of(rows: Iterable[dict[str, Any]], class_name: str, model: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["class_name"], row["model"]) == (class_name, model)]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


if __name__ == "__main__":
    main()
