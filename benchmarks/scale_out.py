"""Measure the speed of a large fit by the number of processes, and whether its memory stays flat.

    python -m benchmarks.scale_out --images 20000 --ranks 1,2

Every rank draws its own shard of a scene like ShanghaiTech's (a still camera, people who pass), so that no disk and no
decoder is timed. `padim_edge.gather` and `padim_edge.ranks` are also what `torchrun -m padim_edge fit` runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.report import MB, peak_mb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from padim_edge.datasets import Item
    from padim_edge_artifact.kept import Kept
    from padim_edge_runtime.image_files import Decoded

STC_FRAMES, STC_SCENES = 274_515, 13
"""Number of good frames and of scenes of ShanghaiTech Campus."""

WANTED = 1.6
"""Least ratio of two ranks' throughput to one's, on a machine with the cores for it."""

MARGIN = 1.05
"""Largest ratio of the peak of a long fit to that of a tenth of it."""


@dataclass(frozen=True)
class Run:
    """One fit."""

    ranks: int
    """Number of processes."""
    images: int
    """Number of images, over all ranks."""
    seconds: float
    """Duration of the fit alone, without the start of processes and the export of the backbone."""
    rate: float
    """Images per second."""
    peak_mb: float
    """Largest resident set of any rank in MB."""
    peak_early_mb: float
    """Largest resident set of any rank after a tenth of the images, in MB."""
    statistics_mb: float
    """Size of the statistics in MB."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--ranks", type=report.names, default=("1", "2"), help="numbers, comma-separated")
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a torchvision backbone; random unless given")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--rank-to", type=Path, help=argparse.SUPPRESS)  # for the processes that this command starts
    options = parser.parse_args()
    if options.rank_to:
        work(options)
        return
    environment = report.probe(("padim-edge", "torch", "onnxruntime", "numpy"), threads=None)
    report.print_header(f"fitting {options.images} drawn frames of {options.size} x {options.size}", environment)
    runs = [measure(options, int(count)) for count in options.ranks]
    rows = [
        (
            str(each.ranks),
            str(each.images),
            f"{each.seconds:.1f}",
            f"{each.rate:.1f}",
            f"{each.rate / runs[0].rate:.2f}",
            f"{each.peak_mb:.0f}",
            f"{each.peak_early_mb:.0f}",
            f"{each.statistics_mb:.0f}",
        )
        for each in runs
    ]
    columns = ("ranks", "images", "s", "images/s", "over the first", "peak MB", "peak MB at a tenth", "statistics MB")
    report.print_table(columns, rows, words=0)
    targets = targets_of(runs, environment.cores)
    report.print_targets(targets)
    best = max(runs, key=lambda each: each.rate)
    hours = STC_FRAMES / best.rate / 3600
    print(
        f"\nAt {best.rate:.1f} images/s, ShanghaiTech's {STC_FRAMES} frames take {hours:.1f} h on this machine for "
        f"one pass (fit) and as much again for calibration; {STC_SCENES} scenes fitted apart keep "
        f"{STC_SCENES * best.statistics_mb / 1000:.1f} GB of statistics, {best.statistics_mb / 1000:.2f} GB in "
        "memory at a time."
    )
    settings = {"backbone": options.backbone, "size": options.size}
    results = [asdict(each) for each in runs]
    report.write_json(options.json, "scale_out", environment, settings, results, targets)


def targets_of(runs: Sequence[Run], cores: int) -> list[report.Target]:
    """Return the promises: flat memory always; the gain of a second rank only where each rank has cores of its own."""
    found = [
        report.Target(
            f"peak of {each.images} over peak of a tenth, {each.ranks} ranks",
            MARGIN,
            round(each.peak_mb / each.peak_early_mb, 4),
            at_most=True,
        )
        for each in runs
    ]
    by_ranks = {each.ranks: each for each in runs}
    if {1, 2} <= by_ranks.keys() and cores >= 4:
        found.append(report.Target("two ranks over one", WANTED, round(by_ranks[2].rate / by_ranks[1].rate, 3)))
    return found


def measure(options: argparse.Namespace, ranks: int) -> Run:
    """Start the ranks and read their reports."""
    with tempfile.TemporaryDirectory() as folder:
        passed = ["--images", str(options.images), "--backbone", options.backbone, "--size", str(options.size)]
        if options.weights:
            passed += ["--weights", str(options.weights.resolve())]
        module = ["-m", "benchmarks.scale_out", "--rank-to", folder, *passed]
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        subprocess.run([sys.executable, *(several if ranks > 1 else []), *module], check=True)
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).iterdir())]
    assert sum(each["own"] for each in found) == options.images
    seconds = max(each["seconds"] for each in found)
    return Run(
        ranks=ranks,
        images=options.images,
        seconds=round(seconds, 2),
        rate=round(options.images / seconds, 2),
        peak_mb=round(max(each["peak_mb"] for each in found), 1),
        peak_early_mb=round(max(each["peak_early_mb"] for each in found), 1),
        statistics_mb=round(found[0]["statistics_mb"], 1),
    )


def work(options: argparse.Namespace) -> None:
    """Fit the shard of one rank."""
    from contextlib import nullcontext

    from padim_edge import gather, ranks
    from padim_edge_runtime.prefetch import cores

    with ranks.joined_by_torchrun() if ranks.wanted() else nullcontext() as own:
        rank, world = (0, 1) if own is None else (own.rank, own.world)
        items = [_item(number, options.size) for number in range(options.images)]
        start = _begin(options, items) if own is None else own.from_first(partial(_begin, options, items))
        mine = items if own is None else own.share(items)
        if own is not None:
            own.gathered(None)  # so that all begin together
        peaks: list[float] = []
        done = [0]

        def advance(count: int) -> None:
            done[0] += count
            if done[0] * 10 >= len(mine) and not peaks:
                peaks.append(peak_mb())

        began = time.perf_counter()
        threads = max(1, cores() // world)
        found, unreadable = gather.gather(start, mine, threads=threads, advance=advance)
        assert not unreadable
        if own is not None:
            found = own.merged(found)
        seconds = time.perf_counter() - began
    if rank == 0:
        assert found.statistics.count == options.images
    statistics = found.statistics.mean.nbytes + found.statistics.scatter.nbytes
    said = {
        "own": len(mine),
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "peak_early_mb": peaks[0],
        "statistics_mb": statistics / MB,
    }
    (options.rank_to / f"{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def _begin(options: argparse.Namespace, items: Sequence[Item]) -> Kept:
    import padim_edge
    from benchmarks.networks import weights_for
    from padim_edge.datasets import Dataset
    from padim_edge.start import begin

    method = padim_edge.preset("edge", backbone=options.backbone, size=options.size)
    with tempfile.TemporaryDirectory() as folder:
        weights = weights_for(options.backbone, options.weights, Path(folder))
        return begin(Dataset("scene", tuple(items), ()), method, weights)


_SCENE = threading.local()


def _item(number: int, side: int) -> Item:
    from padim_edge.datasets import GOOD, Item

    return Item(f"frame {number}", GOOD, partial(_read, number, side), None)


def _read(number: int, side: int) -> Decoded:
    from PIL import Image

    from padim_edge_runtime.image_files import Decoded

    return Decoded(Image.fromarray(draw(number, side)), ())


def draw(number: int, side: int) -> npt.NDArray[np.uint8]:
    """Draw frame `number` of a still scene with some people in it, `(side, side, 3)`."""
    import numpy as np

    if getattr(_SCENE, "side", None) != side:
        y, x = np.mgrid[:side, :side] / side
        grey = (
            120 + 40 * y + 20 * np.sin(40 * x) * (y > 0.5) + 8 * np.random.default_rng(0).standard_normal((side, side))
        )
        _SCENE.side, _SCENE.ground = side, np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
    generator = np.random.default_rng(number)
    frame: npt.NDArray[np.uint8] = np.roll(_SCENE.ground, int(generator.integers(-1, 2)), axis=1)
    for _ in range(int(generator.integers(1, 5))):
        top, left = generator.integers(0, side - side // 6, 2)
        tall, wide = side // 7, side // 20
        frame[top : top + tall, left : left + wide] = generator.integers(20, 235, 3, np.uint8)
    return frame


if __name__ == "__main__":
    main()
