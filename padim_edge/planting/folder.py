"""A data set of planted defects on disk, in the layout of MVTec AD."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from padim_edge.datasets.items import Dataset, Item
from padim_edge.planting.parts import part_of
from padim_edge.planting.plant import EXTENTS, KINDS
from padim_edge.planting.series import check, plants
from padim_edge.planting.values import Pixels, Plant
from padim_edge_artifact.errors import ImageError, PadimEdgeError
from padim_edge_artifact.files import flush, flush_folder, staging, written
from padim_edge_runtime.progress import SILENT, Feedback
from padim_edge_runtime.results import cell

__all__ = ["Order", "Planted", "Row", "write"]

_EVERY = 3
"""Step at which good images are held out for planting. The others are there to fit on."""
_LOOKED_AT = 24
"""Largest number of images that say where the part is."""


@dataclass(frozen=True)
class Order:
    """Choice of plants: how many, of which kinds and sizes, and the seed."""

    count: int = 120
    """Number of plants, 1 or more."""
    seed: int = 0
    """Random seed, 0 or more."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of defect, some of `KINDS`."""
    extents: tuple[float, float] = EXTENTS
    """Smallest and largest extent as shares of an image's shorter side."""


@dataclass(frozen=True)
class Row:
    """One plant as `plants.csv` lists it."""

    image: str
    """File of the image, relative to the folder."""
    mask: str
    """File of its mask."""
    kind: str
    """Kind of the defect."""
    extent: float
    """Feret diameter in pixels of the image."""
    contrast: float
    """Contrast in deviations of the local texture."""
    levels: float
    """Contrast in grey levels."""
    area: int
    """Number of pixels of the mask."""
    row: float
    """Centre from top to bottom, 0 to 1."""
    column: float
    """Centre from left to right, 0 to 1."""
    source: str
    """Good image that it was planted in, by its path inside the data set."""


@dataclass(frozen=True)
class Planted:
    """A written data set."""

    folder: str
    """Folder of the data set."""
    fit: int
    """Number of good images in `train/good`."""
    good: int
    """Number of good images in `test/good`, each as it was before something was planted."""
    plants: tuple[Row, ...]
    """All plants, in the order of `plants.csv`."""
    unreadable: tuple[str, ...]
    """One sentence for each good image that could not be read."""

    def __str__(self) -> str:
        kinds = sorted({row.kind for row in self.plants})
        return (
            f"{self.folder}: {len(self.plants)} planted defects of {len(kinds)} {'kinds' if len(kinds) > 1 else 'kind'}"
            f" in {self.good} good images, and {self.fit} good images to fit on"
        )

    def to_json(self) -> dict[str, object]:
        """Return all of it as JSON."""
        content: dict[str, object] = json.loads(json.dumps(asdict(self)))
        return content


def write(dataset: Dataset, folder: Path, order: Order = Order(), feedback: Feedback = SILENT) -> Planted:
    """Plant defects in good images, and write a whole data set: `train/good`, `test` and `ground_truth`.

    Every third good image is held out. It becomes `test/good` as it is, and `test/<kind>` with one defect each
    time. The others become `train/good`. Nothing is left in the folder if anything fails.

    Args:
        dataset: Data set with good images; its test images are not looked at.
        folder: Folder to write to; it must not exist, or be empty.
        order: What to plant.
        feedback: Progress of the work, and sentences on the way.

    Raises:
        PadimEdgeError: The folder holds something or cannot be written, there are fewer than two images that can be
            read, there is no room for a defect, or the order is impossible.
    """
    check(order.kinds, order.extents)
    if order.count < 1:
        raise PadimEdgeError(f"the number of defects is {order.count}, expected 1 or more; give such a number")
    _refuse_full(folder)
    if len(dataset.good) < 2:
        raise PadimEdgeError(
            f"{dataset.class_name} has {len(dataset.good)} good images, expected 2 or more: some to plant in and some "
            "to fit on; give more images"
        )
    final = folder.resolve()
    with written(folder):
        final.parent.mkdir(parents=True, exist_ok=True)
        with staging(final) as unfinished:
            planted = _write(dataset, unfinished, order, feedback)
            if final.is_dir():
                final.rmdir()
            unfinished.rename(final)
            flush_folder(final.parent)
    return Planted(str(folder), *planted)


def _refuse_full(folder: Path) -> None:
    """Refuse a folder that holds something already, and a file."""
    if folder.is_dir() and any(folder.iterdir()):
        raise PadimEdgeError(f"the folder {folder} is not empty, expected a new one; choose another name or empty it")
    if folder.exists() and not folder.is_dir():
        raise PadimEdgeError(f"{folder} is a file, expected a folder that is new or empty; choose another name")


def _write(
    dataset: Dataset, folder: Path, order: Order, feedback: Feedback
) -> tuple[int, int, tuple[Row, ...], tuple[str, ...]]:
    """Write all files; return the numbers of good images, the rows of the plants, and what could not be read."""
    chosen = range(min(_EVERY, len(dataset.good)) - 1, len(dataset.good), _EVERY)
    # Numbered without gaps: kinds are spread evenly over successive numbers.
    held = list(enumerate(dataset.good[index] for index in chosen))
    each = -(-order.count // len(held))
    unreadable: list[str] = []
    part = part_of(pixels for _, pixels in _decoded(held[:: max(1, len(held) // _LOOKED_AT)], []))
    rows: list[Row] = []
    good: list[int] = []

    def frames() -> Iterator[tuple[int, Pixels]]:
        for index, pixels in _decoded(held, unreadable):
            _save(Image.fromarray(pixels), folder / "test" / "good" / f"{len(good):03d}.png")
            good.append(index)
            yield index, pixels

    with feedback.report("planting", order.count) as advance:
        counts: dict[str, int] = {}
        stream = frames()
        for number, plant in plants(stream, each, order.seed, order.kinds, order.extents, part):
            rows.append(_plant(plant, folder, counts, held[number][1].key or held[number][1].name))
            advance(1)
            if len(rows) == order.count:
                break
        for _ in stream:  # the images that are left become test images, too
            pass
    if not rows:
        reason = unreadable[0] if unreadable else "no kind of defect found room on the part"
        raise PadimEdgeError(f"nothing could be planted in {len(held)} images ({reason}); give other good images")
    fit = _fit_on([item for index, item in enumerate(dataset.good) if index not in chosen], folder, unreadable)
    with (folder / "plants.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(asdict(rows[0])))
        table.writeheader()
        table.writerows({name: cell(value) for name, value in asdict(row).items()} for row in rows)
    flush(folder / "plants.csv")
    return fit, len(good), tuple(rows), tuple(unreadable)


def _decoded(items: list[tuple[int, Item]], unreadable: list[str]) -> Iterator[tuple[int, Pixels]]:
    """Yield number and pixels of the images that can be read, and note the others."""
    for index, item in items:
        try:
            image = item.read().image
        except ImageError as error:
            unreadable.append(str(error))
            continue
        yield index, np.asarray(image.convert("RGB"))


def _plant(plant: Plant, folder: Path, counts: dict[str, int], source: str) -> Row:
    """Write one plant and its mask."""
    number = counts[plant.kind] = counts.get(plant.kind, 0) + 1
    image = f"test/{plant.kind}/{number - 1:03d}.png"
    mask = f"ground_truth/{plant.kind}/{number - 1:03d}_mask.png"
    _save(Image.fromarray(plant.image), folder / image)
    _save(Image.fromarray(plant.mask.astype(np.uint8) * 255), folder / mask)
    extent, contrast, levels = (
        round(value, 3) for value in (plant.measured.extent, plant.measured.contrast, plant.measured.levels)
    )
    row, column = (round(value, 4) for value in plant.place)
    return Row(image, mask, plant.kind, extent, contrast, levels, int(plant.measured.area), row, column, source)


def _fit_on(items: list[Item], folder: Path, unreadable: list[str]) -> int:
    """Write the images to fit on. A file is copied byte for byte, so that fitting sees what it always saw."""
    count = 0
    for item in items:
        target = folder / "train" / "good" / f"{count:03d}.png"
        if item.file is not None:
            target = target.with_suffix(item.file.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.file, target)
            flush(target)
        else:
            found = list(_decoded([(0, item)], unreadable))
            if not found:
                continue
            _save(Image.fromarray(found[0][1]), target)
        count += 1
    return count


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG. Noise hardly compresses, so the fastest level does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG", compress_level=1)
    flush(path)
