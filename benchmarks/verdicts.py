"""Count the images that are called not comparable: other products, turned, moved and black ones, good ones and defects.

A model is fitted on all good images of a class, and further ones on a few of them. Each judges its own test images, its
good test images after they were turned, moved, scaled or covered by nothing but grey, and those of the other classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks import report

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset, Item
    from padim_edge_runtime import Detector

FOUND = 0.99
"""Smallest share of images that are not comparable and are called so."""

WRONGLY = 0.01
"""Largest share of good images that may be called not comparable."""

MOVED = 0.1
"""Share of a side by which images are moved."""

Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Row:
    """One model on one kind of image."""

    class_name: str
    """Name of the class that was fitted on."""
    fitted: str
    """Number of images of the fit, and how they were chosen."""
    kind: str
    """Kind of the judged images."""
    images: int
    """Number of judged images."""
    not_comparable: int
    """Number of those that were called not comparable."""
    reasons: dict[str, int]
    """Number of images with each warning."""


def moved(image: Image.Image, right: float, down: float) -> Image.Image:
    """Move an image by shares of its sides; its border is repeated."""
    pixels = np.asarray(image)
    rows = (np.arange(image.height) - round(down * image.height)).clip(0, image.height - 1)
    columns = (np.arange(image.width) - round(right * image.width)).clip(0, image.width - 1)
    return Image.fromarray(pixels[rows][:, columns])


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """Show the same scene through another lens; the border is repeated where it shows more."""
    width, height = (round(side * factor) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    rows = (np.arange(image.height) + (height - image.height) // 2).clip(0, height - 1)
    columns = (np.arange(image.width) + (width - image.width) // 2).clip(0, width - 1)
    return Image.fromarray(pixels[rows][:, columns])


def plain(image: Image.Image, level: int) -> Image.Image:
    """Return an image of the same size in one grey."""
    return Image.new("RGB", image.size, (level, level, level))


CHANGES: dict[str, tuple[Change, ...]] = {
    "black": (lambda image: plain(image, 0),),
    "white": (lambda image: plain(image, 255),),
    "turned by 90": (lambda image: image.transpose(Image.Transpose.ROTATE_90),),
    "turned by 180": (lambda image: image.transpose(Image.Transpose.ROTATE_180),),
    "turned by 270": (lambda image: image.transpose(Image.Transpose.ROTATE_270),),
    "moved by 10 %": tuple(
        lambda image, right=right, down=down: moved(image, right, down)  # type: ignore[misc]
        for right, down in ((MOVED, 0), (-MOVED, 0), (0, MOVED), (0, -MOVED))
    ),
    "lens 0.8": (lambda image: scaled(image, 0.8),),
    "lens 1.25": (lambda image: scaled(image, 1.25),),
    "half as bright": (lambda image: image.point(lambda level: level / 2),),
}
"""Changes of good test images. Nothing is promised of the light, nor of moved screws, which may lie anywhere."""

PROMISED = {
    "bottle": ("black", "turned by 90", "turned by 270", "moved by 10 %", "other product: screw"),
    "screw": ("black", "other product: bottle"),
}
"""Kinds of image of which `FOUND` must be found, by class, on the model of all good images."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="root of MVTec AD")
    parser.add_argument("--others", type=Path, metavar="DIR", help="root of other classes in the same layout")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--other-class", dest="other_classes", type=report.names, default=("kolektor", "cookie"))
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--few", type=report.names, default=("20", "30"), help="numbers of images of further models")
    parser.add_argument("--draws", type=int, default=3, help="random choices of so few images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))

    from padim_edge import datasets

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch", "pillow"), threads=None)
    report.print_header("verdicts: good, anomalous, not comparable", environment)
    roots = dict.fromkeys(options.classes, options.data)
    if options.others is not None:
        roots |= dict.fromkeys(options.other_classes, options.others)
    found = {name: datasets.from_folder(root, name) for name, root in roots.items()}
    rows: list[Row] = []
    for name, dataset in found.items():
        others = {other: each for other, each in found.items() if other != name}
        rows += judged(name, "all", dataset, others, options)
        for count in map(int, options.few):
            for draw in range(options.draws):
                order = np.random.default_rng(draw).permutation(len(dataset.good))
                if count < len(order):
                    few = dataclasses.replace(dataset, good=tuple(dataset.good[i] for i in sorted(order[:count])))
                    left = tuple(dataset.good[i] for i in order[count:])
                    rows += judged(name, f"{count}, draw {draw}", few, {}, options, left)
    table = [
        (
            row.class_name,
            row.fitted,
            row.kind,
            str(row.images),
            f"{row.not_comparable / row.images:.1%}",
            ", ".join(f"{reason} {count}" for reason, count in row.reasons.items()),
        )
        for row in rows
    ]
    report.print_table(("class", "fitted on", "images", "count", "not comparable", "reasons"), table)
    targets = promised(rows)
    report.print_targets(targets)
    settings = {"preset": options.preset, "few": options.few, "draws": options.draws}
    report.write_json(
        options.json, "verdicts", environment, settings, [dataclasses.asdict(row) for row in rows], targets
    )


def judged(
    class_name: str,
    fitted: str,
    dataset: Dataset,
    others: dict[str, Dataset],
    options: argparse.Namespace,
    left: tuple[Item, ...] = (),
) -> list[Row]:
    """Fit one model and judge every kind of image with it.

    Args:
        class_name: Name of the class.
        fitted: How the images of the fit were chosen, in words.
        dataset: Good images to fit on, and the test images.
        others: Data sets of other classes, by name.
        options: Options of the command line.
        left: Good images that were not fitted on; they are judged together with the good test images.
    """
    from padim_edge.datasets import GOOD
    from padim_edge.fitted import ExportOptions, fit_dataset
    from padim_edge.presets import preset
    from padim_edge_runtime import Detector
    from padim_edge_runtime.progress import SILENT

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model = fit_dataset(dataset, preset(options.preset), weights=options.weights, feedback=SILENT)
        model.export_with(path, ExportOptions(), SILENT)
        detector = Detector.load(path, "cpu", threads=1)
        good = [item for item in dataset.test if item.kind == GOOD]
        rows = [_row(detector, (class_name, fitted, GOOD), _images((*good, *left)))]
        for kind in sorted({item.kind for item in dataset.test} - {GOOD}):
            items = [item for item in dataset.test if item.kind == kind]
            rows.append(_row(detector, (class_name, fitted, f"defect: {kind}"), _images(items)))
        for kind, changes in CHANGES.items():
            odd = (change(image) for image in _images(good) for change in changes)
            rows.append(_row(detector, (class_name, fitted, kind), odd))
        for other, each in others.items():
            images = _images(item for item in each.test if item.kind == GOOD)
            rows.append(_row(detector, (class_name, fitted, f"other product: {other}"), images))
    return rows


def _images(items: Iterable[Item]) -> Iterator[Image.Image]:
    return (item.read().image.convert("RGB") for item in items)


def _row(detector: Detector, names: tuple[str, str, str], images: Iterable[Image.Image]) -> Row:
    from padim_edge_runtime.inspection import NOT_COMPARABLE, Unreadable

    count = odd = 0
    reasons: Counter[str] = Counter()
    for inspection in detector.inspect_many(images):
        assert not isinstance(inspection, Unreadable)
        count += 1
        odd += inspection.verdict == NOT_COMPARABLE
        reasons.update(inspection.warnings)
    return Row(*names, count, odd, dict(reasons))


def promised(rows: list[Row]) -> list[report.Target]:
    """Compare the rows with what was promised."""
    targets = [
        report.Target(f"{row.class_name}, {row.kind}", FOUND, row.not_comparable / row.images)
        for row in rows
        if row.fitted == "all" and row.kind in PROMISED.get(row.class_name, ())
    ]
    for name in dict.fromkeys(row.class_name for row in rows):
        for label, few in (("all good images", False), ("few good images", True)):
            good = [r for r in rows if (r.class_name, r.kind) == (name, "good") and (r.fitted != "all") == few]
            if good:
                share = sum(row.not_comparable for row in good) / sum(row.images for row in good)
                what = f"{name}, fitted on {label}: good images called not comparable"
                targets.append(report.Target(what, WRONGLY, share, at_most=True))
    return targets


if __name__ == "__main__":
    main()
