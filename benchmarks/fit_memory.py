"""Does fitting ten times as many images take more memory, and how much is it in copies of the statistics?

Every fit runs in a process of its own, which never imports torch: the embedding graph comes from another process, as a
file. So the peak is that of the fit, and then of whitening, writing and calibrating the model, and of nothing else.

    python -m benchmarks.fit_memory --backbone wide_resnet50_2 --preset paper --images 50,209
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from padim_edge.presets import Preset

MARGIN = 1.03
"""Peak of the larger fit over that of the smaller one; the 3 % are for the allocator's moods."""

DRAWN = 40
"""Sample images that are drawn; all others are made from them, so that drawing takes next to no time."""

LARGE_MB = 4000
"""Statistics from which on the process itself hardly counts."""

MB = 1e6


@dataclass(frozen=True)
class Fit:
    """What one process reports of its fit."""

    images: int
    peak_mb: float
    """Largest resident set of the whole process."""
    before_mb: float
    """The same until just before the fit: Python, numpy, onnxruntime's library and the drawn images."""
    statistics_mb: float
    """Means and scatters, which the fit must hold."""
    seconds: float
    whole_mb: float
    """Largest resident set when the model had been written and calibrated, too."""
    copies: float
    """The same in copies of the statistics in float32, as the paper counts them (Table VIII)."""
    model_mb: float


COPIES = 3.0
"""Most copies of the statistics in float32 that all of it may take."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=report.names, default=("300", "3000"), help="numbers, comma-separated")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="random unless given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    # For the processes that this command starts.
    parser.add_argument("--export-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fit-on", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))
    if options.export_to:
        export(options.backbone, options.preset, options.weights, options.export_to)
        return
    if options.fit_on:
        print(json.dumps(asdict(fit(options.fit_on, options.preset, int(options.images[0])))))
        return

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch"), threads=None)
    report.print_header("memory and time of fitting", environment)
    # An exporting parent would count here too: on Linux a process starts with the peak of the one that forked it.
    assert "torch" not in sys.modules
    same = ["--backbone", options.backbone, "--preset", options.preset]
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "embedding.onnx"
        weights = ["--weights", str(options.weights)] if options.weights else []
        _call(*same, *weights, "--export-to", str(graph))
        fits = []
        for count in options.images:
            print(f"fitting {count} images", flush=True)
            fits.append(Fit(**json.loads(_call(*same, "--images", count, "--fit-on", str(graph)))))
    _print(fits)
    first, last = fits[0], fits[-1]
    what = f"peak of {last.images} / peak of {first.images} images"
    targets = [report.Target(what, MARGIN, last.peak_mb / first.peak_mb, at_most=True)]
    if last.statistics_mb > LARGE_MB:  # of small ones, onnxruntime and the backbone are most
        targets.append(report.Target("peak in copies of the statistics in float32", COPIES, last.copies, at_most=True))
    report.print_targets(targets)
    settings = {
        "backbone": options.backbone,
        "preset": options.preset,
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
            f"{each.copies:.2f}",
            f"{each.model_mb:.1f}",
        )
        for each in fits
    ]
    difference = fits[-1].peak_mb - fits[0].peak_mb
    gone = fits[-1].seconds - fits[0].seconds
    rows.append(("difference", f"{difference:+.1f}", "", "", f"{gone:+.1f}", "", "", "", ""))
    columns = ("images", "peak MB", "before the fit", "statistics", "seconds", "ms an image")
    report.print_table((*columns, "peak with the model", "copies in fp32", "model MB"), rows)


def _call(*arguments: str) -> str:
    """Run this module in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.fit_memory", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()).stdout


def export(backbone: str, preset_name: str, weights: Path | None, output: Path) -> None:
    """Write the embedding graph of a preset, and its recipe beside it."""
    from benchmarks.backbone import load
    from padim_edge import gather
    from padim_edge.datasets import Dataset
    from padim_edge.presets import choose
    from padim_edge_export.backbones import default_dims

    preset = choose(preset_name, dims=default_dims(backbone))
    empty = gather.begin(Dataset("bottle", (), ()), preset, load(backbone, weights, output.parent))
    output.write_bytes(empty.graph)
    output.with_suffix(".json").write_text(json.dumps(asdict(empty.recipe)), encoding="utf-8")


def fit(graph: Path, preset_name: str, count: int) -> Fit:
    """Fit on `count` images, make a model of it, and report of this process."""
    import dataclasses
    import time

    from padim_edge.presets import PRESETS
    from padim_edge_artifact import Statistics
    from padim_edge_artifact.kept import Kept, Recipe
    from padim_edge_artifact.metadata import decode
    from padim_edge_learn.accumulate import fit as run
    from padim_edge_learn.assemble import assemble
    from padim_edge_model.comparable import Observed, Seen
    from padim_edge_model.graph import joined, of_kept
    from padim_edge_model.precision import Precision
    from padim_edge_runtime.devices.providers import import_onnxruntime

    import_onnxruntime()
    recipe = decode(Recipe, json.loads(graph.with_suffix(".json").read_text(encoding="utf-8")), "recipe")
    nothing = Kept(recipe, graph.read_bytes(), Statistics.empty((1, 1), 1), Seen.nothing(recipe.parts[0].grid))
    embedding = joined(of_kept(nothing)).SerializeToString()
    drawn = _draw(PRESETS[preset_name])
    before = _peak_mb()
    start = time.perf_counter()
    statistics = run(embedding, _vary(drawn, count))
    seconds = time.perf_counter() - start
    peak = _peak_mb()
    assert statistics.count == count
    observed = Observed(nothing.seen)
    for frame in drawn:
        observed.add(frame)
    with tempfile.TemporaryDirectory() as folder:
        made = assemble(
            dataclasses.replace(nothing, statistics=statistics, seen=observed.seen),
            Path(folder) / "model.onnx",
            _vary(drawn, min(count, DRAWN)),
            min(count, DRAWN),
            precision=Precision(),
            false_alarm_rate=0.1,
            created_by="a benchmark",
        )
    assert "torch" not in sys.modules
    patches, dims = statistics.mean.shape
    return Fit(
        images=count,
        peak_mb=round(peak, 1),
        before_mb=round(before, 1),
        statistics_mb=round((statistics.mean.nbytes + statistics.scatter.nbytes) / MB, 1),
        seconds=round(seconds, 2),
        whole_mb=round(_peak_mb(), 1),
        copies=round(_peak_mb() / (4 * patches * dims * (dims + 1) / MB), 3),
        model_mb=round(made.bytes / MB, 1),
    )


def _draw(preset: Preset) -> list[npt.NDArray[np.uint8]]:
    from PIL import Image

    from padim_edge.sample import draw_good
    from padim_edge_runtime import image_files

    return [image_files.prepare(Image.fromarray(draw_good("bottle", i)), preset.preprocessing) for i in range(DRAWN)]


def _vary(drawn: list[npt.NDArray[np.uint8]], count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """`count` images, one at a time: the drawn ones in turn, moved by some pixels and a little brighter or darker."""
    import numpy as np

    generator = np.random.default_rng(0)
    for i in range(count):
        down, across, light = (int(value) for value in generator.integers(-4, 5, 3))
        moved = np.roll(drawn[i % len(drawn)], (down, across), axis=(0, 1)).astype(np.int16)
        yield (moved + light).clip(0, 255).astype(np.uint8)


def _peak_mb() -> float:
    import resource

    # In kilobytes on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


if __name__ == "__main__":
    main()
