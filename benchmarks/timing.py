"""Measure time and memory of one image by method, and their growth with the number of good images.

Every method lives in a process of its own, and the processes take turns (`benchmarks.rivals.turns`). Ratios within one
run are what to compare, because milliseconds belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.images import Source, probe_image
from benchmarks.rivals import Missing, page
from benchmarks.rivals.page import FLOOR, OURS, Result, Row
from benchmarks.rivals.table import METHODS, Method, made, rival_versions, start
from benchmarks.rivals.turns import Measured, Worker, measure, summarise

GROWING = (OURS, "SPADE-R18", "PatchCore-10%")
"""Methods that are measured against the number of training images."""

RATIOS = (
    ("anomalib-onnx", "ours-paper-fp32", 2.0, False),
    ("anomalib-onnx", "ours-edge-fp32", 1.8, False),
    ("anomalib-onnx", "ours-edge-int8", 4.5, False),
    ("anomalib-openvino", "ours-edge-int8", 3.5, False),
    ("SPADE-WR50", "ours-edge-fp32", 60.0, False),
    ("anomalib-onnx", "ours-builtin-edge-int8", 8.0, False),
    ("ours-builtin-edge-fp32", "ours-edge-fp32", 0.45, True),
    ("ours-builtin-accurate-fp32", "ours-accurate-fp32", 0.45, True),
    ("ours-paper-fp32", FLOOR, 1.25, True),
    ("ours-edge-fp32", FLOOR, 1.35, True),
    ("ours-accurate-fp32", FLOOR, 1.45, True),
    ("ours-free-int8", "ours-edge-int8", 1.1, True),
    ("ours-free-fp32", "PatchCore-10%", 1 / 3, True),
)
"""Promises: (method, method that its time is divided by, wanted ratio, whether that is the most or the least)."""

PACKAGES = ("padim-edge", "numpy", "pillow", "onnxruntime", "torch")

WARM_UP = 10
"""Number of calls before anything is timed, as long as they take less than `WARM_UP_SECONDS`."""

WARM_UP_SECONDS = 3.0
"""Seconds after which the calls before the timing end."""


@dataclass(frozen=True)
class Setting:
    """Settings of the measurement, the same for all methods."""

    work: Path
    """Folder of the fitted methods."""
    environ: Mapping[str, str]
    """Environment variables of the processes."""
    threads: int
    """Threads of every method."""
    rounds: int
    """Timed calls of each method."""
    lead: int
    """Untimed calls right before each timed one."""
    patience: float
    """Seconds to wait for quiet rounds."""
    seconds_each: float
    """Seconds that the calls of a slow method may take."""


@dataclass(frozen=True)
class Round:
    """Findings of one block of turns."""

    rows: list[Row]
    """Methods that were measured."""
    measured: Measured
    """Their turns."""
    versions: dict[str, str]
    """Versions of the packages that the methods ran with."""
    left_out: dict[str, str]
    """Reason of each method that is not in the rows."""


def main() -> None:
    """Parse the command line, fit, measure, print, draw."""
    parser = _parser()
    options = parser.parse_args()
    chosen = [name for name in METHODS if any(fnmatch.fnmatchcase(name, pattern) for pattern in options.methods)]
    unknown = [p for p in (*options.methods, *options.growth_methods) if not fnmatch.filter(METHODS, p)]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
    source = Source(options.data, options.class_name, options.images, options.weights)
    _pin(options.threads)
    environment = report.probe(PACKAGES, threads=options.threads)
    report.print_header("one image by method, CPU, one at a time", environment)
    print(f"  fitted on {source.describe()}")
    with _work_folder(options.work) as work:
        setting = Setting(
            work=work,
            environ=_environ(options.threads),
            threads=options.threads,
            rounds=options.rounds,
            lead=options.lead,
            patience=options.patience,
            seconds_each=options.seconds_per_method,
        )
        by_method = run([(METHODS[name], source) for name in chosen], setting)
        grown = run(
            [
                (METHODS[name], dataclasses.replace(source, images=int(count)))
                for count in options.growth
                for name in options.growth_methods
            ],
            setting,
        )
    targets = targets_of(by_method.rows, chosen)
    _print(by_method, grown, targets)
    if options.output:
        others = {**grown.versions, **by_method.versions}
        versions = {**environment.versions, **{k: v for k, v in others.items() if k not in environment.versions}}
        environment = dataclasses.replace(environment, versions=versions)
        settings = {
            "command": report.command("timing", without=("--work", "--output")),
            "source": source.describe(),
            "left_out": {**grown.left_out, **by_method.left_out},
            "by_method": _quietness(by_method.measured),
            "growth": _quietness(grown.measured),
        }
        result = Result(environment, settings, by_method.rows, grown.rows, targets)
        options.output.mkdir(parents=True, exist_ok=True)
        page.write(result, options.output / "timing.json")
        # From the file, so that `benchmarks.redraw` gives the same page.
        write_pages(page.read(options.output / "timing.json"), options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=report.names, default=("*",), help="names or patterns, comma-separated")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of MVTec AD; the built-in sample unless given")
    parser.add_argument("--class", dest="class_name", default="bottle")
    parser.add_argument("--images", type=int, default=209, help="good images to fit on")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of resnet18; random unless given")
    parser.add_argument("--threads", type=int, default=2, help="threads of every method; all run on so many cores")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls of each method")
    parser.add_argument("--lead", type=int, default=2, help="untimed calls right before each timed one")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for quiet rounds, per part")
    parser.add_argument("--seconds-per-method", type=float, default=45, help="time for the calls of a slow method")
    parser.add_argument(
        "--growth",
        type=report.names,
        default=("25", "50", "100", "209"),
        help="image counts, '' for none",
    )
    parser.add_argument("--growth-methods", type=report.names, default=GROWING, help="comma-separated")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the fitted methods there and use them again")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write timing.json, the page and the figures there")
    return parser


def run(wanted: Sequence[tuple[Method, Source]], setting: Setting) -> Round:
    """Fit, open and measure; a method that is not available here is left out with its reason."""
    left_out: dict[str, str] = {}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        workers: dict[tuple[str, int], Worker] = {}
        opened: dict[tuple[str, int], dict[str, Any]] = {}
        failed: dict[tuple[str, int], Missing] = {}
        for method, source in wanted:
            print(f"{method.name}, {source.images} images", file=sys.stderr, flush=True)
            key = (method.folder, source.images)
            try:
                if key in failed:  # rows that run the same files
                    raise failed[key]
                folder = _made(method, source, setting, failed)
                versions |= rival_versions(folder)
                worker = stack.enter_context(start(method, setting.environ))
                opened[method.name, source.images] = _open(worker, method, folder, source, setting)
                workers[method.name, source.images] = worker
            except Missing as missing:
                left_out[f"{method.name} on {source.images} images"] = str(missing)
        measured = measure(
            {_key(*key): worker for key, worker in workers.items()},
            rounds=setting.rounds,
            lead=setting.lead,
            patience=setting.patience,
            seconds_each=setting.seconds_each,
        )
        rows = []
        for (name, images), worker in workers.items():
            said = opened[name, images]
            versions |= {key: value for key, value in said["versions"].items() if key != "python"}
            memory = worker.ask("memory")
            rows.append(
                Row(
                    name=name,
                    label=page.label_of(name, said["precision"]),
                    precision=said["precision"],
                    notes=tuple(said["notes"]),
                    kind=METHODS[name].kind,
                    images=images,
                    summary=summarise(measured.turns[_key(name, images)]),
                    private_mb=memory["private"],
                    peak_mb=memory["peak"],
                    shipped_mb=said["bytes"] / 1e6,
                )
            )
    return Round(rows, measured, versions, left_out)


def _made(method: Method, source: Source, setting: Setting, failed: dict[tuple[str, int], Missing]) -> Path:
    try:
        return made(method, source, setting.work, setting.environ)
    except Missing as missing:
        failed[method.folder, source.images] = missing
        raise


def _key(name: str, images: int) -> str:
    return f"{name} {images}"


def _open(worker: Worker, method: Method, folder: Path, source: Source, setting: Setting) -> dict[str, Any]:
    """Load the method into its process and warm it up."""
    import numpy as np

    from padim_edge.presets import PRESETS

    image = setting.work / "image.npy"
    if not image.is_file():
        np.save(image, probe_image(source))
    said = worker.ask(
        "open",
        engine=method.engine,
        folder=str(folder),
        image=str(image),
        preprocessing=dataclasses.asdict(PRESETS[method.preset].preprocessing),
        threads=setting.threads,
        options=method.options,
    )
    worker.ask("warm_up", calls=WARM_UP, seconds=WARM_UP_SECONDS)
    return said


def targets_of(rows: Sequence[Row], chosen: Sequence[str]) -> list[report.Target]:
    """Return the promises about the chosen methods; undefined where one of them is not available here."""
    medians = {row.name: row.summary.median for row in rows}
    return [
        report.Target(
            f"{upper} / {lower}",
            wanted,
            medians[upper] / medians[lower] if upper in medians and lower in medians else None,
            at_most=at_most,
        )
        for upper, lower, wanted, at_most in RATIOS
        if upper in chosen and lower in chosen
    ]


def write_pages(result: Result, output: Path) -> None:
    """Write the page and the figures of a result."""
    from benchmarks import plots

    (output / "timing.md").write_text(page.markdown(result), encoding="utf-8")
    subtitle = f"{result.environment.cpu}, {result.environment.threads} threads"
    if result.methods:
        plots.by_method(result.methods, output / "timing", subtitle)
    if result.grown:
        plots.growth(result.grown, output / "growth", subtitle)


def _quietness(measured: Measured) -> dict[str, Any]:
    return {"rounds": measured.rounds, "used": measured.used, "others_share": round(measured.others, 4)}


def _print(by_method: Round, grown: Round, targets: list[report.Target]) -> None:
    for found, columns, rows in (
        (by_method, page.COLUMNS, page.by_method(by_method.rows)),
        (grown, page.GROWTH_COLUMNS, page.growth(grown.rows)),
    ):
        if rows:
            report.print_table(columns, rows)
            print(page.how_quiet(_quietness(found.measured)))
    for name, why in {**grown.left_out, **by_method.left_out}.items():
        print(f"left out     {name}: {why}")
    report.print_targets(targets)


def _pin(threads: int) -> None:
    """Keep this process and the processes that it starts on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _environ(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


@contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        (given / "image.npy").unlink(missing_ok=True)  # of another class, perhaps
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
