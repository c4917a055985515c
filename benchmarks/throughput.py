"""Measure the images per second of `infer` on full-size images, with and without decoding and resizing.

Every way judges the same images, as files, decoded in memory, and in the model's frame, and the ways take turns. Ratios
to the loop of the same rounds are what to compare, because images per second belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.images import sample
from benchmarks.quiet import REST, Turns, take_turns

if TYPE_CHECKING:
    from padim_edge_runtime import Detector
    from padim_edge_runtime.image_files import ImageLike
    from padim_edge_runtime.profile import Profile

LOOP = "one after another"
"""`Detector.inspect` in a loop, one image after another in one thread, all cores for the model."""
OVERLAPPED = "overlapped, same detector"
"""`Detector.inspect_many` with the detector of the loop: one image in the model at a time, on all cores."""
INFER = "infer"
"""`Detector.inspect_many` as `padim-edge infer` calls it: an image in the model for each core, on one thread each."""

DECODED = "decoded in memory"
"""Images that need no decoding any more."""
FRAMES = "in the model's frame"
"""Images that need neither decoding nor resizing."""

DRAWN = 8
"""Number of different sample images; the others are copies of them."""
FITTED = 24
"""Number of sample images that the model is fitted on where none is given."""
SIDE = 1024
"""Width and height in pixels of the drawn images."""
QUALITY = 95
"""Quality of the drawn JPEG images."""

Images = Sequence["ImageLike"]

Run = Callable[[Images], "Profile"]


@dataclass(frozen=True)
class Speed:
    """Speed of one way with one kind of images."""

    images: str
    """Kind of images."""
    what: str
    """Way to judge them."""
    median: float
    """Median of images per second."""
    p10: float
    """Tenth percentile of images per second."""
    p90: float
    """Ninetieth percentile of images per second."""
    ratio: float
    """Median over the loop's median."""
    processor: float
    """Milliseconds of processor time per image, median over the rounds."""
    shares: dict[str, float]
    """Share of the busy time of each stage, over all rounds."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="fitted on sample images unless given")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of ResNet-18; random unless given")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images; drawn unless given")
    parser.add_argument("--images", type=int, default=40, help="images of each kind")
    parser.add_argument("--rounds", type=int, default=12, help="runs of each way over each kind")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for quiet rounds, for each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page for people")
    options = parser.parse_args()

    environment = report.probe(("padim-edge", "numpy", "pillow", "onnxruntime"), threads=None)
    report.print_header("throughput of infer, CPU", environment)
    speeds: list[Speed] = []
    others: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        _opened(options.model, options.weights, Path(folder), options.images) as (detector, ways),
    ):
        for name, images in kinds(options.data, options.images, Path(folder), detector).items():
            turns = measure(ways, images, options.rounds, options.patience)
            print(
                f"{name}: {len(images)} images; other processes took {100 * turns.others:.1f} % of the processor time"
            )
            speeds += summarise(name, turns.found)
            others[name] = round(turns.others, 4)
        del detector
    settings = {
        "command": report.command("throughput", without=("--json", "--markdown")),
        "model": options.model.name if options.model else "resnet18 edge, fitted on sample images",
        "weights": None if options.model else options.weights.name if options.weights else "random",
        "data": options.data.name if options.data else f"sample images of {SIDE} x {SIDE}",
        "images": options.images,
        "rounds": options.rounds,
        "others_share": others,
    }
    for columns, rows in tables(speeds):
        report.print_table(columns, rows, words=2)
    report.write_json(options.json, "throughput", environment, settings, [dataclasses.asdict(s) for s in speeds], [])
    if options.markdown:
        options.markdown.write_text(markdown(environment, settings, speeds), encoding="utf-8")


@contextmanager
def _opened(
    model: Path | None, weights: Path | None, folder: Path, count: int
) -> Iterator[tuple[Detector, dict[str, Run]]]:
    """Open each way to judge images. The model's files are closed at the end, before their folder goes."""
    from padim_edge_runtime import Detector
    from padim_edge_runtime.pipeline import threads_for

    path = model or _fitted(weights, folder)
    all_cores, shared = Detector.load(path, "cpu"), Detector.load(path, "cpu", threads=threads_for(count))
    ways: dict[str, Run] = {
        LOOP: partial(_loop, all_cores),
        OVERLAPPED: partial(_overlapped, all_cores),
        INFER: partial(_overlapped, shared),
    }
    yield all_cores, ways
    ways.clear()


def _fitted(weights: Path | None, folder: Path) -> Path:
    import padim_edge
    from benchmarks.networks import weights_for

    print("fitting a model", flush=True)
    fitted = padim_edge.fit(sample(FITTED), "edge", weights=weights_for("resnet18", weights, folder), progress=False)
    return fitted.export(folder / "model.onnx", progress=False).path


def kinds(data: Path | None, count: int, folder: Path, detector: Detector) -> dict[str, Images]:
    """Return `count` images of each kind: as files, decoded in memory, and in the model's frame."""
    from padim_edge_runtime import image_files, image_search

    files = _drawn(folder, count) if data is None else {data.name: list(image_search.search(data).files)}
    found: dict[str, Images] = {name: _repeated(each, count) for name, each in files.items()}
    images = [image_files.read(path).image for path in next(iter(files.values()))[:DRAWN]]
    found[DECODED] = _repeated(images, count)
    found[FRAMES] = _repeated([detector.prepare(image) for image in images], count)
    return found


def _repeated(images: Images, count: int) -> list[ImageLike]:
    return [images[i % len(images)] for i in range(count)]


def _drawn(folder: Path, count: int) -> dict[str, list[Path]]:
    from PIL import Image

    from padim_edge.sample import draw_good

    print("drawing images", flush=True)
    drawn = [Image.fromarray(draw_good("bottle", i, split="test", size=SIDE)) for i in range(min(DRAWN, max(count, 1)))]
    files: dict[str, list[Path]] = {}
    for name, mode, ending in (("PNG", "RGB", "png"), ("PNG, grey", "L", "png"), ("JPEG", "RGB", "jpg")):
        for i, image in enumerate(drawn):
            file = folder / f"{i}-{mode}.{ending}"
            image.convert(mode).save(file, quality=QUALITY)  # PNG has no quality and takes no notice
            files.setdefault(name, []).append(file)
    return files


def _loop(detector: Detector, images: Images) -> Profile:
    from padim_edge_runtime.pipeline import Choice, inspect
    from padim_edge_runtime.profile import Clock

    clock = Clock()
    for image in images:
        inspect(detector, image, Choice(), clock=clock)
    return clock.profile(len(images), detector.device)


def _overlapped(detector: Detector, images: Images) -> Profile:
    from padim_edge_runtime.inspection import UNREADABLE
    from padim_edge_runtime.profile import Clock

    clock = Clock()
    for found in detector.inspect_many(images, clock=clock):
        assert found.verdict != UNREADABLE, found
    return clock.profile(len(images), detector.device)


def measure(ways: dict[str, Run], images: Images, rounds: int, patience: float) -> Turns[str, Profile]:
    """Run all ways over the images; they take turns.

    Args:
        ways: Functions to time.
        images: Images to judge.
        rounds: Runs of each way that count.
        patience: Seconds in which more rounds are taken, so that those count in which other processes did least.
    """

    def turn(run: Run) -> Profile:
        time.sleep(REST)
        return run(images)

    for run in ways.values():
        run(images[:8])
    return take_turns({what: partial(turn, run) for what, run in ways.items()}, rounds, patience)


def summarise(images: str, profiles: dict[str, list[Profile]]) -> list[Speed]:
    """Compute median and percentiles of each way, and its ratio to the loop."""
    import numpy as np

    rates = {what: [each.rate for each in runs] for what, runs in profiles.items()}
    speeds = []
    for what, runs in profiles.items():
        median, p10, p90 = (round(float(value), 2) for value in np.percentile(rates[what], (50, 10, 90)))
        busy = {stage: sum(each.busy[stage] for each in runs) for stage in runs[0].busy}
        total = sum(busy.values())
        speeds.append(
            Speed(
                images,
                what,
                median,
                p10,
                p90,
                round(median / float(np.median(rates[LOOP])), 4),
                round(float(np.median([1e3 * each.processor / each.images for each in runs])), 3),
                {stage: round(value / total, 4) for stage, value in busy.items()},
            )
        )
    return speeds


def tables(speeds: Sequence[Speed]) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Return columns and rows of two tables: speeds, and shares of the stages."""
    from padim_edge_runtime.profile import STAGES

    stages = [stage for stage in STAGES if any(each.shares[stage] > 0 for each in speeds)]
    columns = ("images", "way", "images/s", "p10", "p90", "/ one after another", "ms per image", "processor ms")
    rows = [
        (
            each.images,
            each.what,
            *(f"{value:.1f}" for value in (each.median, each.p10, each.p90)),
            f"{each.ratio:.2f}",
            f"{1e3 / each.median:.2f}",
            f"{each.processor:.1f}",
        )
        for each in speeds
    ]
    shares = [
        (each.images, each.what, *(f"{100 * each.shares[stage]:.1f} %" for stage in stages))
        for each in speeds
        if each.what != OVERLAPPED
    ]
    return [(columns, rows), (("images", "way", *(STAGES[stage] for stage in stages)), shares)]


def markdown(environment: report.Environment, settings: dict[str, object], speeds: Sequence[Speed]) -> str:
    """Write the page."""
    header = "\n".join((*report.header_lines(environment), f"model     {settings['model']}; {settings['data']}"))
    (columns, rows), (stage_columns, shares) = tables(speeds)
    parts = [
        "# Throughput",
        f"```\n{settings['command']}\n```",
        f"```\n{header}\n```",
        f"Files are decoded and resized. Images {DECODED} are only resized, and images {FRAMES} neither.",
        report.markdown_table(columns, rows, words=2),
        "Shares of the busy time of all threads:",
        report.markdown_table(stage_columns, shares, words=2),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
