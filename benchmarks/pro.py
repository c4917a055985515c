"""Measure time and memory of exact pixel metrics on a large test set.

The test set has the size of MVTec AD's bottle, 83 images of 900x900 pixels; maps and masks are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.report import peak_mb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SECONDS = 60.0
"""Most seconds that the metrics may take."""

PEAK_MB = 2000.0
"""Most MB that the whole process may hold, the random maps included."""

GOOD_SHARE = 20 / 83
"""Share of good images, as in bottle."""

MOST_REGIONS = 4
"""Largest number of defect regions in one image."""


@dataclass(frozen=True)
class Row:
    """One test set."""

    images: int
    """Number of images."""
    size: int
    """Width and height in pixels."""
    regions: int
    """Number of defect regions."""
    seconds: float
    """Duration of the metrics alone, without drawing."""
    peak_mb: float
    """Largest resident set of the process in MB."""
    before_mb: float
    """Largest resident set until just before, in MB: Python, its libraries and one drawn image."""
    auroc: float | None
    """Pixel AUROC."""
    pro: float | None
    """PRO."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pro", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=83)
    parser.add_argument("--size", type=int, default=900, help="width and height in pixels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()

    environment = report.probe(("padim-edge", "numpy", "scipy"), threads=None)
    report.print_header("time and memory of the pixel metrics", environment)
    row = measure(options.images, options.size)
    columns = ("images", "size", "regions", "seconds", "peak MB", "MB before", "pixel AUROC", "PRO")
    areas = ("-" if area is None else f"{area:.4f}" for area in (row.auroc, row.pro))
    figures = (f"{value:.1f}" for value in (row.seconds, row.peak_mb, row.before_mb))
    report.print_table(columns, [(str(row.images), f"{row.size}x{row.size}", str(row.regions), *figures, *areas)])
    targets = [
        report.Target("seconds", SECONDS, row.seconds, at_most=True),
        report.Target("peak MB", PEAK_MB, row.peak_mb, at_most=True),
    ]
    # The limits belong to one size of test set.
    targets = targets if (options.images, options.size) == (83, 900) else []
    report.print_targets(targets)
    settings = {"images": options.images, "size": options.size}
    report.write_json(options.json, "pro", environment, settings, [dataclasses.asdict(row)], targets)


def measure(count: int, size: int) -> Row:
    """Draw a test set, one image at a time, and compute its metrics."""
    from padim_edge.evaluation.metrics import pixel_metrics

    drawing = 0.0

    def timed() -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
        nonlocal drawing
        for i in range(count):
            start = time.perf_counter()
            drawn = draw(i, size, good=i < round(GOOD_SHARE * count))
            drawing += time.perf_counter() - start
            yield drawn

    pixel_metrics([draw(0, size, good=False)])
    before = peak_mb()
    start = time.perf_counter()
    found = pixel_metrics(timed())
    seconds = time.perf_counter() - start - drawing
    return Row(
        images=count,
        size=size,
        regions=found.regions,
        seconds=round(seconds, 2),
        peak_mb=round(peak_mb(), 1),
        before_mb=round(before, 1),
        auroc=found.auroc,
        pro=found.pro,
    )


def draw(seed: int, size: int, *, good: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Draw a smooth map and its mask: blurred noise, and a bump where the mask has an ellipse.

    Returns:
        `(size, size)` float32 and bool.
    """
    import numpy as np
    from scipy import ndimage

    generator = np.random.default_rng(seed)
    # Noise at an eighth of the size, magnified: maps of a model are magnified in the same way.
    noise = ndimage.gaussian_filter(generator.normal(size=(size // 8 + 1,) * 2).astype(np.float32), 2)
    values = ndimage.zoom(noise / noise.std(), 8, order=1)[:size, :size]
    truth = np.zeros((size, size), np.bool_)
    down, across = np.ogrid[:size, :size]
    for _ in range(0 if good else generator.integers(1, MOST_REGIONS + 1)):
        y, x = generator.uniform(0, size, 2)
        height, width = generator.uniform(size / 90, size / 9, 2)
        ellipse = ((down - y) / height) ** 2 + ((across - x) / width) ** 2
        truth |= ellipse < 1
        values = values + (3 * np.exp(-ellipse)).astype(np.float32)
    return values, truth


if __name__ == "__main__":
    main()
