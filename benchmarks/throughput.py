"""How many full-size images a second does `infer` judge, against a loop that takes one after another?

All ways judge the same files and take turns, so that whatever else the machine does falls on all of them alike. Ratios
to the loop of the same rounds are what to compare; images a second belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from padim_edge import datasets

if TYPE_CHECKING:
    from padim_edge_runtime import Detector
    from padim_edge_runtime.profile import Profile

LOOP = "loop"
"""Decode, resize, compare, model, regions, one after another in one thread; all cores for the model."""
OVERLAPPED = "pipeline, same detector"
"""The pipeline of `infer` with the very detector of the loop: one image in the model at a time, on all cores."""
INFER = "infer"
"""The pipeline of `infer` as the command runs it: an image in the model for each core, on one thread each."""

DRAWN = 8
"""Different sample images; the others are copies of them."""
FITTED = 24
"""Sample images that the model is fitted on where none is given."""
SIDE = 1024
QUALITY = 95
"""Of the JPEG images."""

REST = 0.05
"""Seconds before each turn, in which onnxruntime's threads of the one before stop spinning."""

Run = Callable[[list[Path]], "Profile"]


@dataclass(frozen=True)
class Speed:
    """Of one way to judge one folder."""

    images: str
    what: str
    median: float
    """Images a second, as p10 and p90."""
    p10: float
    p90: float
    ratio: float
    """Median over the loop's median."""
    processor: float
    """Milliseconds of processor time for an image, median over the rounds."""
    shares: dict[str, float]
    """Of the busy time, for each stage, over all rounds."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="fitted on sample images unless given")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="of the ResNet-18 fitted here; random unless given"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images; drawn unless given")
    parser.add_argument("--images", type=int, default=40, help="in each folder")
    parser.add_argument("--rounds", type=int, default=12, help="runs of each way over each folder")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for quiet rounds, for each folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()

    environment = report.probe(("padim-edge", "numpy", "pillow", "onnxruntime"), threads=None)
    report.print_header("throughput of infer, CPU", environment)
    speeds: list[Speed] = []
    shares_of_others: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, _opened(options.model, options.weights, Path(folder)) as ways:
        for name, files in _folders(options.data, options.images, Path(folder)).items():
            profiles, others = measure(ways, files, options.rounds, patience=options.patience)
            print(f"{name}: {len(files)} images; other processes took {100 * others:.1f} % of the processor time")
            speeds += summarise(name, profiles)
            shares_of_others[name] = round(others, 4)
    report.print_table(
        ("images", "what", "images/s", "p10", "p90", "ratio", "processor ms"),
        [
            (
                each.images,
                each.what,
                *(f"{value:.1f}" for value in (each.median, each.p10, each.p90)),
                f"{each.ratio:.2f}",
                f"{each.processor:.1f}",
            )
            for each in speeds
        ],
        words=2,
    )
    from padim_edge_runtime.profile import STAGES

    shown = [stage for stage in STAGES if any(each.shares[stage] > 0 for each in speeds)]
    report.print_table(
        ("images", "what", *(STAGES[stage] for stage in shown)),
        [
            (each.images, each.what, *(f"{100 * each.shares[stage]:.1f} %" for stage in shown))
            for each in speeds
            if each.what != OVERLAPPED
        ],
        words=2,
    )
    settings = {
        "model": options.model.name if options.model else "resnet18 edge, fitted on sample images",
        "weights": None if options.model else options.weights.name if options.weights else "random",
        "data": options.data.name if options.data else f"sample images of {SIDE} x {SIDE}",
        "images": options.images,
        "rounds": options.rounds,
        "others_share": shares_of_others,
    }
    report.write_json(options.json, "throughput", environment, settings, [dataclasses.asdict(s) for s in speeds], [])


@contextmanager
def _opened(model: Path | None, weights: Path | None, folder: Path) -> Iterator[dict[str, Run]]:
    """Each way to judge files. The model's files are closed at the end, before their folder goes."""
    from padim_edge_runtime import Detector
    from padim_edge_runtime.pipeline import threads_for

    path = model or _fitted(weights, folder)
    all_cores, one_core = Detector.load(path, "cpu"), Detector.load(path, "cpu", threads=1)
    ways: dict[str, Run] = {
        LOOP: lambda files: _loop(all_cores, files),
        OVERLAPPED: lambda files: _pipeline(all_cores, files),
        INFER: lambda files: _pipeline(one_core if threads_for(len(files)) else all_cores, files),
    }
    yield ways
    ways.clear()


def _fitted(weights: Path | None, folder: Path) -> Path:
    from benchmarks.backbone import load
    from padim_edge.build import build
    from padim_edge.presets import PRESETS

    print("fitting a model", flush=True)
    sample = datasets.from_sample("bottle")
    dataset = dataclasses.replace(sample, good=sample.good[:FITTED])
    return build(dataset, folder / "model.onnx", PRESETS["edge"], load("resnet18", weights, folder)).model


def _folders(data: Path | None, count: int, folder: Path) -> dict[str, list[Path]]:
    """The files to judge, `count` of each kind."""
    if data is not None:
        from padim_edge_runtime import image_files

        there = [path for path, _ in image_files.find([data])]
        return {data.name: [there[i % len(there)] for i in range(count)]}
    from PIL import Image

    from padim_edge.sample import draw_good

    print("drawing images", flush=True)
    drawn = [Image.fromarray(draw_good("bottle", i, split="test", size=SIDE)) for i in range(min(DRAWN, max(count, 1)))]
    kinds = {"PNG": ("RGB", "png"), "PNG, grey": ("L", "png"), "JPEG": ("RGB", "jpg")}
    folders = {}
    for name, (mode, ending) in kinds.items():
        files = []
        for i, image in enumerate(drawn):
            files.append(folder / f"{i}-{mode}.{ending}")
            image.convert(mode).save(files[-1], **({"quality": QUALITY} if ending == "jpg" else {}))
        folders[name] = [files[i % len(files)] for i in range(count)]
    return folders


def _loop(detector: Detector, files: list[Path]) -> Profile:
    from padim_edge_model.comparable import compare
    from padim_edge_runtime import image_files
    from padim_edge_runtime.profile import Clock
    from padim_edge_runtime.regions import find_regions

    metadata, clock = detector.metadata, Clock()
    for path in files:
        with clock.stage("decode"):
            image = image_files.read(path).image
        with clock.stage("resize"):
            frame = image_files.prepare(image, metadata.preprocessing)
        with clock.stage("comparison"):
            compare(frame, metadata.reference, metadata.grid)
        with clock.stage("model"):
            result = detector(frame)
        with clock.stage("regions"):
            find_regions(result.anomaly_map[0], result.threshold, metadata.preprocessing, *image.size)
    return clock.profile(len(files), "cpu")


def _pipeline(detector: Detector, files: list[Path]) -> Profile:
    from padim_edge_runtime import Inspection
    from padim_edge_runtime.profile import Clock

    clock = Clock()
    for result in detector.inspect_many(files, clock=clock):
        assert isinstance(result, Inspection), result
    return clock.profile(len(files), "cpu")


def measure(
    ways: dict[str, Run], files: list[Path], rounds: int, *, patience: float
) -> tuple[dict[str, list[Profile]], float]:
    """Run all ways over the files; they take turns, in another order each round.

    Args:
        ways: What to time.
        files: The images.
        rounds: Runs of each way that count.
        patience: Seconds in which more rounds are taken, so that those count in which other processes did least. The
            choice looks at the neighbours' processor time only, never at what was measured.

    Returns:
        The profiles of each way, and the mean share of the machine's processor time that other processes took.
    """
    from benchmarks.latency import QUIET

    for run in ways.values():
        run(files[:8])
    taken: list[tuple[float, dict[str, Profile]]] = []
    turns, shuffler = list(ways), random.Random(0)
    deadline = time.monotonic() + patience
    while sum(others <= QUIET for others, _ in taken) < rounds:
        if len(taken) >= rounds and time.monotonic() > deadline:
            break
        shuffler.shuffle(turns)
        clock, profiles = report.Neighbours(), {}
        for what in turns:
            time.sleep(REST)
            profiles[what] = ways[what](files)
        taken.append((clock.share(), profiles))
    used = sorted(taken, key=lambda each: each[0])[:rounds]
    return {what: [profiles[what] for _, profiles in used] for what in ways}, sum(o for o, _ in used) / len(used)


def summarise(images: str, profiles: dict[str, list[Profile]]) -> list[Speed]:
    """Median and percentiles of each way, and its ratio to the loop."""
    import numpy as np

    rates = {what: [each.rate for each in runs] for what, runs in profiles.items()}
    speeds = []
    for what, runs in profiles.items():
        median, p10, p90 = np.percentile(rates[what], (50, 10, 90)).tolist()
        busy = {stage: sum(each.busy[stage] for each in runs) for stage in runs[0].busy}
        total = sum(busy.values())
        speeds.append(
            Speed(
                images,
                what,
                *(round(value, 2) for value in (median, p10, p90)),
                round(median / float(np.median(rates[LOOP])), 4),
                round(float(np.median([1e3 * each.processor / each.images for each in runs])), 3),
                {stage: round(value / total, 4) for stage, value in busy.items()},
            )
        )
    return speeds


if __name__ == "__main__":
    main()
