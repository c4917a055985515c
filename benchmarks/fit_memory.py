"""Measure the memory of a fit, for several numbers of images and in copies of the statistics.

Every fit runs in a process of its own that never imports torch, because the embedding graph comes from another process
as a file. The peak is that of the fit, and then of whitening, writing and calibrating the model, and of nothing else.

    python -m benchmarks.fit_memory --backbone wide_resnet50_2 --preset paper --images 50,209
    python -m benchmarks.fit_memory --preset free --size 64 --images 300,30000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.report import MB, peak_mb

if TYPE_CHECKING:
    from padim_edge_artifact.kept import Kept

MARGIN = 1.03
"""Largest ratio of the larger fit's peak to that of the smaller one; the 3 % are for the allocator."""

MARGIN_MEMORY = 1.05
"""The same for a memory of prototypes, which keeps candidates of each fold until there are as many as it may have."""

COPIES = 3.0
"""Most copies of the statistics in float32 that fit and model may take together."""

DRAWN = 40
"""Number of sample images that are drawn. All others are made from them, so that drawing takes next to no time."""

LARGE_MB = 4000
"""Size of statistics in MB from which on the process itself hardly counts."""


@dataclass(frozen=True)
class Fit:
    """Report of one process about its fit."""

    images: int
    """Number of images."""
    peak_mb: float
    """Largest resident set of the whole process in MB."""
    before_mb: float
    """Largest resident set until just before the fit, in MB: Python, numpy, onnxruntime and the drawn images."""
    statistics_mb: float
    """Means and scatters in float64, and candidates of a memory, which the fit must hold, in MB."""
    seconds: float
    """Duration of the fit."""
    whole_mb: float
    """Largest resident set in MB after the model was written and calibrated, too."""
    copies: float | None
    """`whole_mb` in copies of the Gaussians in float32, as the paper counts them (Table VIII); `None` for a memory."""
    model_mb: float
    """Size of the model files in MB."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=report.names, default=("300", "3000"), help="numbers, comma-separated")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--size", metavar="N", help="side of the model's frame in pixels")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="random unless given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    # For the processes that this command starts.
    parser.add_argument("--export-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fit-on", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))
    if options.export_to:
        method = {"name": options.preset, "backbone": options.backbone, "size": options.size}
        export(method, options.weights, options.export_to)
        return
    if options.fit_on:
        print(json.dumps(asdict(fit(options.fit_on, int(options.images[0])))))
        return

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch"), threads=None)
    report.print_header("memory and time of fitting", environment)
    same = ["--backbone", options.backbone, "--preset", options.preset]
    same += ["--size", options.size] if options.size else []
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        weights = ["--weights", str(options.weights)] if options.weights else []
        _call(*same, *weights, "--export-to", str(start))
        fits = []
        for count in options.images:
            print(f"fitting {count} images", flush=True)
            fits.append(Fit(**json.loads(_call(*same, "--images", count, "--fit-on", str(start)))))
    _print(fits)
    first, last = fits[0], fits[-1]
    what = f"peak of {last.images} / peak of {first.images} images"
    margin = MARGIN if last.copies is not None else MARGIN_MEMORY
    targets = [report.Target(what, margin, last.peak_mb / first.peak_mb, at_most=True)]
    if last.copies is not None and last.statistics_mb >= LARGE_MB:
        what = f"copies of the statistics in float32, {last.images} images"
        targets.append(report.Target(what, COPIES, last.copies, at_most=True))
    report.print_targets(targets)
    settings = {
        "backbone": options.backbone,
        "preset": options.preset,
        "size": options.size,
        "weights": options.weights.name if options.weights else "random",
        "drawn": DRAWN,
    }
    report.write_json(options.json, "fit_memory", environment, settings, [asdict(each) for each in fits], targets)


def _print(fits: list[Fit]) -> None:
    rows = [
        (
            str(each.images),
            *(f"{value:.1f}" for value in (each.peak_mb, each.before_mb, each.statistics_mb, each.seconds)),
            f"{1e3 * each.seconds / each.images:.1f}",
            f"{each.whole_mb:.1f}",
            "" if each.copies is None else f"{each.copies:.2f}",
            f"{each.model_mb:.1f}",
        )
        for each in fits
    ]
    difference = fits[-1].peak_mb - fits[0].peak_mb
    longer = fits[-1].seconds - fits[0].seconds
    rows.append(("difference", f"{difference:+.1f}", "", "", f"{longer:+.1f}", "", "", "", ""))
    columns = ("images", "peak MB", "before the fit", "statistics", "seconds", "ms per image")
    report.print_table((*columns, "peak with the model", "copies in fp32", "model MB"), rows)


def _call(*arguments: str) -> str:
    """Run this module in a fresh process and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.fit_memory", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()).stdout


def export(options: dict[str, Any], weights: Path | None, output: Path) -> None:
    """Write the start of a fit: the embedding graph and its origin, with placeholders for the empty statistics."""
    import padim_edge
    from benchmarks.networks import weights_for
    from padim_edge.datasets import Dataset
    from padim_edge.start import begin
    from padim_edge_artifact import Statistics
    from padim_edge_artifact.kept import write_kept
    from padim_edge_artifact.reference import Seen

    method = padim_edge.preset(**options)
    empty = begin(Dataset("bottle", (), ()), method, weights_for(method.backbone, weights, output.parent))
    if method.bank is None:  # empty statistics of a large backbone are gigabytes of zeros
        empty = replace(empty, statistics=Statistics.empty((1, 1), 1), seen=Seen.nothing((1, 1)))
    write_kept(output, empty)


def _read_start(path: Path) -> Kept:
    from padim_edge_artifact import Statistics
    from padim_edge_artifact.kept import read_kept
    from padim_edge_artifact.reference import Seen

    kept = read_kept(path)
    if kept.recipe.method.bank is not None:
        return kept
    grid, dims = kept.recipe.parts[0].grid, kept.recipe.method.dims
    return replace(kept, statistics=Statistics.empty(grid, dims), seen=Seen.nothing(grid))


def fit(start: Path, count: int) -> Fit:
    """Fit on `count` images, make a model of them, and report on this process."""
    from benchmarks.images import frames, stretched
    from padim_edge.frames import numbered_frames
    from padim_edge.gather import gather
    from padim_edge.sample import draw_good
    from padim_edge_learn.assemble import ModelOptions, assemble
    from padim_edge_learn.held_out import GoodImages
    from padim_edge_runtime.devices.providers import import_onnxruntime

    import_onnxruntime()
    kept = _read_start(start)
    method = kept.recipe.method
    drawn = stretched([draw_good("bottle", i) for i in range(DRAWN)], DRAWN)
    items = stretched(list(frames(drawn, method.preprocessing)), count)
    before = peak_mb()
    began = time.perf_counter()
    found, unreadable = gather(kept, items)
    seconds = time.perf_counter() - began
    peak = peak_mb()
    assert found.statistics.count == count
    assert not unreadable
    some = items[:DRAWN]
    with tempfile.TemporaryDirectory() as folder:
        model = assemble(
            found,
            Path(folder) / "model.onnx",
            GoodImages(numbered_frames(some, method.preprocessing, {}), len(some)),
            ModelOptions(method.precision, "a benchmark", false_alarm_rate=0.1),
        )
    assert "torch" not in sys.modules
    statistics = found.statistics
    arrays = [statistics.mean, statistics.scatter, *getattr(statistics, "vectors", ())]
    patches, dims = statistics.mean.shape
    one_copy = 4 * patches * dims * (dims + 1) / MB
    return Fit(
        images=count,
        peak_mb=round(peak, 1),
        before_mb=round(before, 1),
        statistics_mb=round(sum(each.nbytes for each in arrays) / MB, 1),
        seconds=round(seconds, 2),
        whole_mb=round(peak_mb(), 1),
        copies=None if method.bank is not None else round(peak_mb() / one_copy, 3),
        model_mb=round(model.bytes / MB, 1),
    )


if __name__ == "__main__":
    main()
