"""Measure how far apart the fingerprints of images are: of different parts, and of one image taken again.

Two images count as repeats where their fingerprints are nearer than a limit. The table shows what the limit rests on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.decisions import SHARED

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset, Item
    from padim_edge_artifact import Preprocessing
    from padim_edge_model.repeats import Codes

DRAWN = 60
"""Number of images of each class of the built-in sample."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Distances of one class for one kind of pair, in grey levels."""

    class_name: str
    """Name of the class."""
    pairs: str
    """`nearest different image`, or how an image was changed."""
    images: int
    """Number of images, each with one distance."""
    smallest: float
    """Smallest distance."""
    median: float
    """Median distance."""
    largest: float
    """Largest distance."""
    limit: float
    """Distance up to which two images of this class are repeats."""
    within: float
    """Share of the distances within the limit."""


def changes() -> dict[str, Callable[[Pixels, int], Pixels]]:
    """Return ways of taking an image again, from its pixels and its number."""
    from benchmarks.deciding.copies import flickered, jpeg, noisy

    return {
        "same bytes": lambda pixels, _: pixels,
        "noise of sigma 2": lambda pixels, number: noisy(pixels, 2, number),
        "noise of sigma 5": lambda pixels, number: noisy(pixels, 5, number),
        "noise of sigma 10": lambda pixels, number: noisy(pixels, 10, number),
        "JPEG of quality 80": lambda pixels, _: jpeg(pixels, 80),
        "JPEG of quality 40": lambda pixels, _: jpeg(pixels, 40),
        "lamp 2 % brighter": lambda pixels, _: flickered(pixels, 1.02),
        "lamp 2 % darker": lambda pixels, _: flickered(pixels, 0.98),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeats", description=__doc__.splitlines()[0])
    parser.add_argument("--class", dest="classes", type=report.names, metavar="NAMES", help="of all unless given")
    parser.add_argument("--shared", type=Path, metavar="DIR", default=SHARED, help="folder with data/")
    parser.add_argument("--images", type=int, metavar="N", help="take no more images of a class")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()

    from padim_edge.presets import preset

    environment = report.probe(("padim-edge", "numpy", "pillow"), threads=None)
    report.print_header("repeats: distances of fingerprints", environment)
    preprocessing = preset("edge").preprocessing
    found = sources(options.shared)
    rows: list[Row] = []
    for name in options.classes or found:
        if name not in found:
            parser.error(f"there is no class {name!r} here; choose from {', '.join(found)}")
        rows += measure(name, found[name]().good[: options.images], preprocessing)
    print_rows(rows)
    settings = {"command": report.command("repeats", without=("--json", "--shared")), "size": preprocessing.size}
    report.write_json(options.json, "repeats", environment, settings, [dataclasses.asdict(row) for row in rows], [])


def sources(shared: Path) -> dict[str, Callable[[], Dataset]]:
    """Return the data sets that are there, and the built-in sample, by class."""
    from functools import partial

    from benchmarks.deciding.materials import SETS
    from padim_edge.datasets import from_folder, from_images
    from padim_edge.sample import CLASSES, draw_good

    there = {name: partial(from_folder, shared / path, name) for name, path in SETS.items() if (shared / path).is_dir()}
    drawn = {f"sample, {name}": partial(_drawn, from_images, partial(draw_good, name)) for name in CLASSES}
    return {**there, **drawn}


def _drawn(from_images: Callable[..., Dataset], draw: Callable[[int], Pixels]) -> Dataset:
    return from_images([draw(number) for number in range(DRAWN)])


def measure(class_name: str, items: tuple[Item, ...], preprocessing: Preprocessing) -> list[Row]:
    """Measure one class: the nearest different image of each image, and each image against itself taken again."""
    from padim_edge_model.repeats import distances, fingerprint, limit
    from padim_edge_runtime import image_files

    def code(pixels: Pixels) -> Codes:
        return fingerprint(image_files.prepare(pixels, preprocessing))

    ways = changes()
    own: list[Codes] = []
    again: dict[str, list[Codes]] = {way: [] for way in ways}
    for number, item in enumerate(items):
        pixels = np.asarray(item.read().image.convert("RGB"))
        own.append(code(pixels))
        for way, change in ways.items():
            again[way].append(code(change(pixels, number)))
    codes = np.stack(own)
    apart = distances(codes, codes)
    np.fill_diagonal(apart, np.inf)
    within = limit(codes)
    rows = [_row(class_name, "nearest different image", apart.min(axis=1), within)]
    for way, found in again.items():
        each = [float(distances(a[None], b[None])[0, 0]) for a, b in zip(codes, found, strict=True)]
        rows.append(_row(class_name, way, np.array(each), within))
    return rows


def _row(class_name: str, pairs: str, found: npt.NDArray[np.float64], within: float) -> Row:
    numbers = (float(found.min()), float(np.median(found)), float(found.max()))
    return Row(class_name, pairs, len(found), *numbers, within, float((found <= within).mean()))


def print_rows(rows: list[Row]) -> None:
    """Print the table."""
    table = [
        (
            row.class_name,
            row.pairs,
            str(row.images),
            *(f"{each:.2f}" for each in (row.smallest, row.median, row.largest, row.limit)),
            f"{row.within:.1%}",
        )
        for row in rows
    ]
    report.print_table(
        ("class", "pairs", "images", "smallest", "median", "largest", "limit", "within it"), table, words=2
    )


if __name__ == "__main__":
    main()
