"""Measure which preset suits which part: accuracy by class, number of images and seed; rates found; size and memory.

Every model is fitted, exported and evaluated as a user's model is, with the threshold for 5 % false alarms. Each run is
written when it is done. A run that the file has of the same product is not repeated, so the command may be interrupted
and given again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.decisions import SHARED, WEIGHTS

if TYPE_CHECKING:
    from benchmarks.choosing.record import Record, Row
    from benchmarks.choosing.runs import Run
    from padim_edge.datasets import Dataset

    Load = Callable[[str], Dataset]

PACKAGES = ("padim-edge", "numpy", "onnxruntime", "torch", "pillow")


@dataclass(frozen=True)
class Parts:
    """Parts in which benchmarks differ whose results grow run by run."""

    name: str
    """Name of the benchmark."""
    title: str
    """Title of its header."""
    chosen: Sequence[Any]
    """Runs that were asked for; each has a `name`."""
    tables: Callable[[Sequence[Row]], str]
    """Function that writes all tables of some results in Markdown."""
    targets_of: Callable[[Sequence[Row]], list[report.Target]]
    """Function that compares results with what was promised."""
    measure: Callable[[Any, argparse.Namespace, str], Row]
    """Function that measures a run with the options and the weights, and returns its row."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = parser_of("presets", __doc__, "'*screw*free*'")
    options = parser.parse_args()
    from benchmarks.choosing import pages, runs

    load = loader(options.data)

    def measured(run: Run, options: argparse.Namespace, weights: str) -> Row:
        return measure(run, load, options.backbone, weights, options.size)

    chosen = runs.matching(runs.all_runs(), options.only)
    title = "presets on real images"
    grow(parser, options, Parts("presets", title, chosen, pages.tables, pages.targets_of, measured))


def parser_of(name: str, described: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark whose results grow run by run; `example` is a pattern of its runs."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=described.splitlines()[0])
    parser.add_argument("--only", type=report.names, default=(), metavar="PATTERNS", help=f"runs, such as {example}")
    parser.add_argument("--list", action="store_true", help="print the names of the runs and end")
    parser.add_argument("--table", action="store_true", help="print the results of --json in Markdown and end")
    add_source(parser)
    parser.add_argument("--size", help="side of the frame in pixels, to try the command; the presets' own by default")
    return parser


def grow(parser: argparse.ArgumentParser, options: argparse.Namespace, parts: Parts) -> None:
    """Measure the runs that the file of results lacks, write each, and print all; or list runs or print a table."""
    from benchmarks.choosing.record import Record
    from padim_edge_artifact import PadimEdgeError

    if options.table:
        if options.json is None:
            parser.error("--table prints a file of results; name it with --json")
        print(parts.tables(report.read_json(options.json).results))
        return
    if not parts.chosen:
        parser.error(f"no run matches {', '.join(options.only)}; --list prints their names")
    if options.list:
        print("\n".join(run.name for run in parts.chosen))
        return
    if not options.data.is_dir():
        parser.error(f"there is no folder {options.data}; name the one with data/ and weights/ with --data")
    environment = report.probe(PACKAGES, threads=None)
    report.print_header(parts.title, environment)
    try:
        weights = options.weights or str(options.data / WEIGHTS)
        settings = settings_of(parts.name, options.backbone, weights, options.size)
        record = Record(options.json, parts.name, environment, settings, parts.targets_of)
        _measure_all(parts, record, options, weights)
    except PadimEdgeError as error:
        sys.exit(str(error))
    print(parts.tables(record.rows))


def _measure_all(parts: Parts, record: Record, options: argparse.Namespace, weights: str) -> None:
    """Measure the runs that the record lacks, and write each; one that fails is told and left out."""
    from padim_edge_artifact import PadimEdgeError

    for number, run in enumerate(parts.chosen, 1):
        if record.has(run.name):
            continue
        print(f"{number} of {len(parts.chosen)}: {run.name}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            found = parts.measure(run, options, weights)
        except PadimEdgeError as error:
            # After many minutes, one failure must not lose the others.
            print(f"left out: {run.name}: {error}", file=sys.stderr, flush=True)
            continue
        record.add(run.name, {**found, "seconds": round(time.perf_counter() - start, 1)})


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where images, weights and results are."""
    parser.add_argument("--data", type=Path, metavar="DIR", default=SHARED, help="folder with data/ and weights/")
    parser.add_argument("--weights", metavar="FILE", help=f"by default {WEIGHTS} in that folder")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to that file")


def settings_of(benchmark: str, backbone: str, weights: str, size: str | None = None) -> dict[str, Any]:
    """Return the settings that all results of a file share, and the command."""
    from padim_edge.network import exported
    from padim_edge.presets import preset

    description = exported(preset(backbone=backbone), weights).description
    return {
        "command": report.command(benchmark, without=("--json", "--data", "--weights", "--only")),
        "backbone": backbone,
        "weights": description.weights,
        "weights_digest": description.weights_digest,
        "size": size,
    }


def loader(shared: Path) -> Load:
    """Return a function that opens a data set by class, each once."""
    from benchmarks.deciding.materials import SETS
    from padim_edge.datasets import from_folder

    return cache(lambda class_name: from_folder(shared / SETS[class_name], class_name))


def measure(run: Run, load: Load, backbone: str, weights: str, size: str | None) -> dict[str, Any]:
    """Measure one run and return its row.

    Raises:
        PadimEdgeError: The data set is not there or too small, or the model cannot be made.
    """
    from benchmarks.choosing import fitting, runs

    dataset = load(run.class_name)
    method = run.model.method(backbone, run.seed, size if run.side is None else run.side)
    if run.part == runs.HALVES:
        found = fitting.halves(dataset, method, weights)
    elif run.part == runs.FOOTPRINT:
        found = fitting.footprint(fitting.subset(dataset, run.images, run.seed), method, weights, threads=2)
    else:
        found = fitting.accuracy(fitting.subset(dataset, run.images, run.seed), method, weights)
    return {**dataclasses.asdict(run), "model": run.model.name, **found}


if __name__ == "__main__":
    main()
