"""Measure what the presets `free` and `auto` cost beside the bare backbone, `edge` and PatchCore, in one run.

Every graph judges the same frame and the graphs take turns. The backbone alone goes to layer3, which `free` does not
need, so that the floor is that of the other presets. Times of the graphs are compared, without the checks of the frame
around them; `benchmarks.timing` has those.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import report
from benchmarks.images import Source, dataset, frames
from benchmarks.latency import Call, measure
from padim_edge_runtime.bench.footprint import LEAD

if TYPE_CHECKING:
    import numpy.typing as npt

    from padim_edge.datasets import Dataset
    from padim_edge_artifact.method import Method

BARE = "backbone to layer3 fp32"
PATCHCORE = "PatchCore 10 % fp32"

OURS = {
    "free fp32": ("free", "fp32"),
    "free int8": ("free", "int8"),
    "edge fp32": ("edge", "fp32"),
    "edge int8": ("edge", "int8"),
    "auto fp32": ("auto", "fp32"),
    "auto int8": ("auto", "int8"),
}
"""Preset and precision of each model of ours, by name."""

RATIOS = (
    ("free fp32", BARE, 1.05),
    ("free int8", "edge int8", 1.1),
    ("free fp32", PATCHCORE, 1 / 3),
    ("auto fp32", BARE, 1.35),
    ("auto int8", "edge int8", 1.5),
)
"""Promises: (graph, graph that its time is divided by, largest ratio)."""

LARGEST = {"auto fp32": 60 * report.MB, "auto int8": 18 * report.MB}
"""Largest size of a model's files in bytes, by graph."""


@dataclass(frozen=True)
class Timing:
    """Times of one graph in milliseconds."""

    name: str
    """Name of the graph."""
    median: float
    """Median."""
    p10: float
    """Tenth percentile."""
    p90: float
    """Ninetieth percentile."""
    bytes: int
    """Size of the model's files."""


def main() -> None:
    """Parse the command line, fit, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.free_ratios", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of MVTec AD; the built-in sample unless given")
    parser.add_argument("--class", dest="class_name", default="bottle")
    parser.add_argument("--images", type=int, default=209, help="good images to fit on")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of resnet18; random unless given")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", help="side of the frame in pixels, to try the command")
    parser.add_argument("--threads", type=int, default=2, help="threads of every graph")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls of each graph")
    parser.add_argument("--lead", type=int, default=LEAD, help="untimed calls right before each timed one")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for quiet rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    source = Source(options.data, options.class_name, options.images, options.weights)
    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "onnx", "torch"), threads=options.threads)
    report.print_header("free beside backbone, edge and PatchCore; one image, CPU", environment)
    print(f"  fitted on {source.describe()}")
    with tempfile.TemporaryDirectory() as folder:
        calls, sizes = open_all(source, options, Path(folder))
        measured = measure(calls, options.rounds, lead=options.lead, patience=options.patience)
        del calls  # closes the models' files before their folder goes
    timings = summarise(measured.found, sizes)
    show(timings)
    print(
        f"{options.rounds} of {measured.rounds} rounds used; other processes took {100 * measured.others:.1f} % of the "
        "processor time in them"
    )
    targets = targets_of(timings)
    report.print_targets(targets)
    settings = {
        "command": report.command("free_ratios", without=("--json",)),
        "source": source.describe(),
        "backbone": options.backbone,
        "rounds_taken": measured.rounds,
        "others_share": round(measured.others, 4),
    }
    rows = [dataclasses.asdict(each) for each in timings]
    report.write_json(options.json, "free_ratios", environment, settings, rows, targets)


def open_all(source: Source, options: argparse.Namespace, folder: Path) -> tuple[dict[str, Call], dict[str, int]]:
    """Make every graph and return calls of one image, and bytes, by name."""
    from benchmarks.networks import stage_outputs, weights_for
    from padim_edge.presets import preset
    from padim_edge.settled import settled

    good = dataset(source)
    weights = weights_for(options.backbone, source.weights, folder)
    paths = {}
    for name, (chosen, precision) in OURS.items():
        print(f"building {name}", flush=True)
        method = preset(chosen, backbone=options.backbone, precision=precision, size=options.size)
        paths[name] = _exported(good, method, weights, folder / f"{name}.onnx")
    usual = settled(good, preset("edge", backbone=options.backbone, size=options.size))
    print(f"building {PATCHCORE}", flush=True)
    paths[PATCHCORE] = _patchcore(good, usual, source, folder)
    paths[BARE] = folder / "bare.onnx"
    bare = stage_outputs(options.backbone, weights, usual.preprocessing.size)
    paths[BARE].write_bytes(bare.SerializeToString())
    (frame,) = frames(good.test[:1], usual.preprocessing)
    calls = {name: _call(path, frame, options.threads) for name, path in paths.items()}
    return calls, {name: _bytes(path) for name, path in paths.items()}


def _exported(good: Dataset, method: Method, weights: str, path: Path) -> Path:
    from padim_edge.fitted import ExportOptions, fit
    from padim_edge_runtime.progress import SILENT

    fitted = fit(good, method, weights=weights, progress=False)
    return fitted.export_with(path, ExportOptions(fast=True), SILENT).path


def _patchcore(good: Dataset, method: Method, source: Source, folder: Path) -> Path:
    from benchmarks import methods
    from benchmarks.methods import features

    network = features.load(method.backbone, source.weights, folder)
    found = frames(good.good, method.preprocessing)
    methods.fit("patchcore-10", found, network, method.preprocessing.size).save(folder / "patchcore")
    return folder / "patchcore" / "patchcore-10.onnx"


def _call(path: Path, frame: npt.NDArray[np.uint8], threads: int) -> Call:
    from padim_edge_artifact import names
    from padim_edge_runtime.devices.providers import open_session

    session = open_session(path, "cpu", threads=threads).session
    feed = {names.IMAGE: frame[None]}
    wanted = [output.name for output in session.get_outputs()]
    if names.SCORE in wanted:
        wanted = [names.SCORE, names.ANOMALY_MAP]  # the answer of a method, and no more
    return lambda: session.run(wanted, feed)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def summarise(milliseconds: Mapping[str, list[float]], sizes: Mapping[str, int]) -> list[Timing]:
    """Compute median and percentiles of each graph."""
    timings = []
    for name, values in milliseconds.items():
        median, p10, p90 = (round(float(value), 4) for value in np.percentile(values, (50, 10, 90)))
        timings.append(Timing(name, median, p10, p90, sizes[name]))
    return timings


def targets_of(timings: list[Timing]) -> list[report.Target]:
    """Return the promises about ratios of medians, and about sizes."""
    medians = {each.name: each.median for each in timings}
    ratios = [
        report.Target(f"{upper} / {lower}", limit, medians[upper] / medians[lower], at_most=True)
        for upper, lower, limit in RATIOS
    ]
    sizes = {each.name: each.bytes for each in timings}
    return ratios + [
        report.Target(f"{name}, MB", limit / report.MB, sizes[name] / report.MB, at_most=True)
        for name, limit in LARGEST.items()
    ]


def show(timings: list[Timing]) -> None:
    """Print times, sizes, and ratios to the bare backbone."""
    floor = next(each for each in timings if each.name == BARE)
    lines = [
        (
            each.name,
            *(f"{value:.2f}" for value in (each.median, each.p10, each.p90)),
            *(f"{value:.3f}" for value in (each.median / floor.median, each.p10 / floor.p10)),
            f"{each.bytes / report.MB:.1f}",
        )
        for each in timings
    ]
    report.print_table(("graph", "median ms", "p10", "p90", "/ backbone", "/ backbone, p10", "MB"), lines)


if __name__ == "__main__":
    main()
