"""Measure whether planted defects tell what real ones will show: rank, choice of the kind, chart, and blindness.

One fit gives four models: Gaussians alone, a memory alone, both alike, and both weighed by planted defects. Each is
rehearsed with three draws of defects, and judges the labelled test images. Each run is written when it is done; a run
that the file has of the same product is not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.decisions import WEIGHTS
from benchmarks.presets import PACKAGES, add_source, loader, settings_of

if TYPE_CHECKING:
    from benchmarks.choosing.record import Record
    from benchmarks.choosing.rehearsals import Run


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=report.names, default=(), metavar="PATTERNS", help="runs, such as 'screw 20*'")
    parser.add_argument("--list", action="store_true", help="print the names of the runs and end")
    parser.add_argument("--table", action="store_true", help="print the results of --json in Markdown and end")
    add_source(parser)
    parser.add_argument("--size", help="side of the frame in pixels, to try the command; the preset's own by default")
    options = parser.parse_args()
    from benchmarks.choosing import rehearsals
    from benchmarks.choosing.record import Record
    from padim_edge_artifact import PadimEdgeError

    if options.table:
        if options.json is None:
            parser.error("--table prints a file of results; name it with --json")
        print(rehearsals.tables(report.read_json(options.json).results))
        return
    chosen = rehearsals.matching(options.only)
    if not chosen:
        parser.error(f"no run matches {', '.join(options.only)}; --list prints their names")
    if options.list:
        print("\n".join(run.name for run in chosen))
        return
    if not options.data.is_dir():
        parser.error(f"there is no folder {options.data}; name the one with data/ and weights/ with --data")
    environment = report.probe(PACKAGES, threads=None)
    report.print_header("planted defects beside real ones", environment)
    try:
        weights = options.weights or str(options.data / WEIGHTS)
        settings = settings_of("rehearsal", options.backbone, weights, options.size)
        record = Record(options.json, "rehearsal", environment, settings, rehearsals.targets_of)
        _measure_all(chosen, record, options, weights)
    except PadimEdgeError as error:
        sys.exit(str(error))
    print(rehearsals.tables(record.rows))


def _measure_all(chosen: list[Run], record: Record, options: argparse.Namespace, weights: str) -> None:
    from benchmarks.choosing.rehearsing import rehearsed
    from padim_edge_artifact import PadimEdgeError

    load = loader(options.data)
    for number, run in enumerate(chosen, 1):
        if record.has(run.name):
            continue
        print(f"{number} of {len(chosen)}: {run.name}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            dataset = load(run.class_name)
            found = rehearsed(dataset, run.images, run.seed, options.backbone, weights, options.size)
        except PadimEdgeError as error:  # after many minutes, one failure must not lose the others
            print(f"left out: {run.name}: {error}", file=sys.stderr, flush=True)
            continue
        record.add(run.name, {**found, "seconds": round(time.perf_counter() - start, 1)})


if __name__ == "__main__":
    main()
