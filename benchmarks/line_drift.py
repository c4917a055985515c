"""Measure how often drift is told without a change, and how soon an exposure ramp and other changes are found.

Each class: a model is fitted on half of the good images. The other half, moved by up to two pixels, with the lamp's
flicker of 1 % and noise, makes a pool of images that the model judges as a line does. Lines of 10 000 good images are
drawn from the pool. The changes are made in the pixels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import report
from padim_edge_line.drift import Change, Monitor, Observation, Observer
from padim_edge_line.drift.baseline import IMAGES
from padim_edge_line.drift.channels import CHANNELS
from padim_edge_line.drift.charts import ALLOWANCE, LENGTH, LIMIT, RUNS
from padim_edge_runtime import Detector
from padim_edge_runtime.prefetch import cores

__all__ = ["main"]

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = "weights/resnet18-imagenet1k-v1-trunk.safetensors"

CLASSES = {"bottle": "mvtec_ad", "screw": "mvtec_ad", "kolektor": "others", "cookie": "others"}
"""Folder of each class. Parameters were chosen on the first two; the others were seen before the last change."""

RAMP, OVER = 0.15, 200
"""Share of the exposure that is lost, and the images that it takes."""
WITHIN = 60
"""Images within which the ramp should be found."""
SHOWN = 100
"""Images of each change."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """Change of the camera or the lamp."""

    gain: float = 1.0
    """Factor of all grey levels."""
    ramp: bool = False
    """Whether the exposure falls by `RAMP` over `OVER` images."""
    flat: float = 1.0
    """Factor of the differences from the mean grey level."""
    move: tuple[float, float] = (0.0, 0.0)
    """(x, y) in shares of width and height."""
    spread: bool = False
    """Whether the lamp's flicker goes from the darkest to the brightest over the images, as a pool needs it."""
    noise: float = 0.0
    """Standard deviation of the noise in one of 4 x 4 regions, in grey levels."""


CHANGES: Mapping[str, tuple[Alteration, tuple[str, ...]]] = {
    "exposure ramp": (Alteration(ramp=True), ("light",)),
    "6 % brighter": (Alteration(gain=1.06), ("light",)),
    "7 % flatter": (Alteration(flat=0.93), ("light",)),
    "moved by 1 % of the height": (Alteration(move=(0.0, -0.01)), ("place", "region", "scores")),
    "noise in one region": (Alteration(noise=6.0), ("region",)),
}
"""Changes, and the kinds of words that name each rightly."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_drift", description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=report.names, metavar="NAMES", default=tuple(CLASSES))
    parser.add_argument("--shared", type=Path, metavar="DIR", default=SHARED, help="folder with data/ and weights/")
    parser.add_argument("--images", type=int, default=3000, help="images in the pool of each class")
    parser.add_argument("--lines", type=int, default=20, help="lines of 10 000 good images of each class")
    parser.add_argument("--ramps", type=int, default=10, help="repeats of each change")
    parser.add_argument("--channels", type=int, default=10_000, help="simulated channels, for the stated rate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options = parser.parse_args()
    for name in options.classes:
        if name not in CLASSES:
            parser.error(f"there is no class {name!r}; choose from {', '.join(CLASSES)}")
    environment = report.probe(("padim-edge-runtime", "numpy", "onnxruntime", "pillow"), threads=1)
    report.print_header("drift of the line", environment)
    rate = simulated_rate(options.channels)
    print(f"simulated: {100 * rate:.1f} % of lines have an alarm in {LENGTH} good images, stated {100 / RUNS:g} %")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.classes:
            results.append(measured(name, options, Path(folder)))
            print(_words(results[-1]), flush=True)
    targets = [report.Target("share of lines with a false alarm, simulated", 1 / RUNS, rate, at_most=True)]
    for each in results:
        most = max(each["alarms"].values())
        targets.append(report.Target(f"{each['class']}: false alarms in 10 000 good images", 1, most, at_most=True))
        found = each["changes"]["exposure ramp"]["median"]
        targets.append(report.Target(f"{each['class']}: images to find the ramp", WITHIN, found, at_most=True))
        targets.append(report.Target(f"{each['class']}: ms for an image", 0.3, each["ms"], at_most=True))
    report.print_targets(targets)
    settings = {
        "images": options.images,
        "lines": options.lines,
        "repeats": options.ramps,
        "channels": options.channels,
        "baseline": IMAGES,
        "allowance": ALLOWANCE,
        "limit": LIMIT,
        "variants tried": "three allowances, five limits and three ways of damping, on bottle and screw",
    }
    report.write_json(options.json, "line_drift", environment, settings, results, targets)


def simulated_rate(channels: int) -> float:
    """Return the share of lines with an alarm among `LENGTH` good images, all channels independent.

    Ranks of independent values are the same for every distribution, so uniform values do.
    """
    rng = np.random.default_rng(0)
    lines = np.arange(channels)
    baseline = (np.sort(rng.random((channels, IMAGES)), axis=1) + lines[:, None]).ravel()
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / (IMAGES + 1)) for i in range(IMAGES + 1)])
    up, down, highest = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for _ in range(LENGTH):
        found = scores[np.searchsorted(baseline, rng.random(channels) + lines) - lines * IMAGES]
        np.maximum(up + found - ALLOWANCE, 0, out=up)
        np.maximum(down - found - ALLOWANCE, 0, out=down)
        np.maximum(highest, np.maximum(up, down), out=highest)
    return float(1 - (1 - np.mean(highest > LIMIT)) ** len(CHANNELS))


def measured(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one class."""
    source = options.shared / "data" / CLASSES[name] / name
    model, images = fitted(name, source, options.shared / WEIGHTS, folder)
    detector = Detector.load(model, "cpu", threads=1)
    scene = Scene(detector, [np.asarray(Image.open(path).convert("RGB")) for path in images])
    pool = [each for each in scene.observed(Alteration(spread=True), options.images, 0) if each.good]
    rng = np.random.default_rng(1)
    alarms, start, seen = {}, time.perf_counter(), 0
    for words, steady in (("independent", 0.0), ("lamp with a memory of 10 images", 0.9)):
        told = [fed(Monitor("", detector.metadata.grid), line(pool, rng, steady)) for _ in range(options.lines)]
        seen += options.lines * (IMAGES + LENGTH)
        alarms[words] = sum(not change.over for each in told for _, change in each) / options.lines
    milliseconds = 1e3 * (time.perf_counter() - start) / seen + observing(detector, scene.images[0])
    changes = {}
    for words, (alteration, kinds) in CHANGES.items():
        at, named, good = [], 0, []
        for repeat in range(options.ramps):
            monitor = Monitor("", detector.metadata.grid)
            fed(monitor, line(pool, rng, 0.0, IMAGES + 100))
            after = list(scene.observed(alteration, SHOWN, 10**6 * (repeat + 1)))
            good.append(np.mean([each.good for each in after]))
            found = [(number, change) for number, change in fed(monitor, after) if not change.over][:1]
            at += [number for number, _ in found]
            named += sum(change.kind in kinds for _, change in found)
        changes[words] = {
            "found": len(at),
            "of": options.ramps,
            "median": float(np.median([*at, *[np.inf] * (options.ramps - len(at))])),
            "within": sum(number <= WITHIN for number in at),
            "named rightly": named,
            "still good": round(float(np.mean(good)), 3),
        }
        if not np.isfinite(changes[words]["median"]):
            changes[words]["median"] = None
    brightness = np.array([each.brightness for each in pool])
    return {
        "class": name,
        "images": len(images),
        "good": len(pool) / options.images,
        "lamp": round(float(brightness.std() / brightness.mean()), 4),
        "alarms": alarms,
        "ms": round(milliseconds, 4),
        "changes": changes,
    }


def observing(detector: Detector, image: Pixels, times: int = 1000) -> float:
    """Return the milliseconds that one observation takes."""
    observer, inspection = Observer(detector.metadata), detector.inspect(image)
    start = time.perf_counter()
    for _ in range(times):
        observer(inspection)
    return 1e3 * (time.perf_counter() - start) / times


def fitted(name: str, source: Path, weights: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Fit a model on half of the good images; return it and the other images."""
    files = sorted((source / "train" / "good").iterdir())
    order = np.random.default_rng(0).permutation(len(files))
    good = folder / name
    good.mkdir()
    for i in order[: len(files) // 2]:
        shutil.copy(files[i], good / files[i].name)
    model = folder / f"{name}.onnx"
    command = ["export", "--class", name, "--data", good, "--backbone", "resnet18", "--weights", weights, "--fast"]
    called = [sys.executable, "-m", "padim_edge", *map(str, command), "--output", str(model)]
    subprocess.run(called, check=True, capture_output=True)
    return model, [files[i] for i in order[len(files) // 2 :]] + sorted((source / "test" / "good").iterdir())


@dataclass(frozen=True, eq=False)
class Scene:
    """A camera in front of a line."""

    detector: Detector
    """The model."""
    images: list[Pixels]
    """Good images that the model was not fitted on."""

    def observed(self, alteration: Alteration, count: int, seed: int) -> Iterator[Observation]:
        """Take and judge some images, each with a draw of its own."""
        observer = Observer(self.detector.metadata)

        def one(number: int) -> Observation:
            rng = np.random.default_rng(seed + number)
            lamp = float(rng.standard_normal())
            if alteration.spread:
                lamp = NormalDist().inv_cdf((number + 0.5) / count)
            return observer(self.detector.inspect(self._taken(alteration, number, lamp, rng)), seed + number)

        with ThreadPoolExecutor(cores()) as pool:
            yield from pool.map(one, range(count))

    def _taken(self, alteration: Alteration, number: int, lamp: float, rng: np.random.Generator) -> Pixels:
        image = self.images[int(rng.integers(len(self.images)))].astype(np.float32)
        height, width = image.shape[:2]
        x, y = rng.integers(-2, 3, 2)
        image = _moved(image, int(x + alteration.move[0] * width), int(y + round(alteration.move[1] * height)))
        fallen = 1 - RAMP * min(number + 1, OVER) / OVER if alteration.ramp else 1.0
        image *= fallen * alteration.gain * (1 + 0.01 * lamp)
        image = image.mean() + alteration.flat * (image - image.mean())
        if alteration.noise:
            place = slice(height // 4, height // 2), slice(width // 2, 3 * width // 4)
            image[place] += alteration.noise * rng.standard_normal((*image[place].shape[:2], 1))
        image += 1.5 * rng.standard_normal(image.shape, dtype=np.float32)
        return np.asarray(np.rint(image).clip(0, 255).astype(np.uint8))


def _moved(image: npt.NDArray[np.float32], x: int, y: int) -> npt.NDArray[np.float32]:
    """Move an image; the border is repeated."""
    height, width = image.shape[:2]
    rows, columns = (np.arange(height) - y).clip(0, height - 1), (np.arange(width) - x).clip(0, width - 1)
    return np.asarray(image[rows][:, columns])


def line(
    pool: list[Observation], rng: np.random.Generator, steady: float, count: int = IMAGES + LENGTH
) -> Iterator[Observation]:
    """Draw good images from a pool. With a steady lamp, the light of an image is like the one before.

    Args:
        pool: Good images, from the darkest to the brightest lamp.
        rng: Source of the draw.
        steady: Correlation of the lamp's light from one image to the next.
        count: Number of images.
    """
    lamp = float(rng.standard_normal())
    for number in range(count):
        lamp = steady * lamp + (1 - steady**2) ** 0.5 * float(rng.standard_normal())
        place = int(NormalDist().cdf(lamp) * len(pool))
        yield replace(pool[min(place, len(pool) - 1)], time=number)


def fed(monitor: Monitor, images: Iterable[Observation]) -> list[tuple[int, Change]]:
    """Give images to a monitor; return what it tells, each with the number of the image."""
    return [(number, change) for number, seen in enumerate(images, 1) for change in monitor.add(seen)]


def _words(found: Mapping[str, Any]) -> str:
    changes = "\n".join(
        f"  {name}: found {each['found']} of {each['of']}, median after {each['median']} images, within {WITHIN}: "
        f"{each['within']}, named rightly {each['named rightly']} ({100 * each['still good']:.0f} % still good)"
        for name, each in found["changes"].items()
    )
    alarms = ", ".join(f"{name} {number:.2f}" for name, number in found["alarms"].items())
    return (
        f"{found['class']}: alarms in {LENGTH} good images: {alarms}; {found['ms']:.3f} ms an image; brightness of the "
        f"good images differs by {100 * found['lamp']:.1f} %\n{changes}"
    )


if __name__ == "__main__":
    main()
