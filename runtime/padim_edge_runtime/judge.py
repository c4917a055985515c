"""Many image files through one detector, several at a time; one bad image stops nothing."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata, PadimEdgeError
from padim_edge_artifact.files import replacing
from padim_edge_artifact.preprocessing import Box
from padim_edge_model.comparable import compare
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.overlay import overlay
from padim_edge_runtime.prefetch import cores, in_order
from padim_edge_runtime.profile import Clock
from padim_edge_runtime.regions import Region, find_regions, to_image

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["COLUMNS", "Judged", "Unreadable", "judge", "side_by_side"]


@dataclass(frozen=True)
class Judged:
    """The decision on one image."""

    path: Path
    """As it was given."""
    score: float
    p_value: float
    threshold: float
    anomalous: bool
    regions: tuple[Region, ...]
    width: int
    """Of the image, in pixels."""
    height: int
    milliseconds: float
    """Time from going into the model to coming out of it, without decoding, drawing and waiting for a turn. Where
    several images are in the model at a time, each has one core, so it takes longer than alone on all of them."""
    shift: tuple[int, int]
    """(x, y) in pixels of the image by which it seems moved against the mean good image, in steps of a patch."""
    warnings: tuple[str, ...]
    """`shift` or `exposure` where the image is not comparable with the good ones: camera or lamp, not the part."""
    notes: tuple[str, ...]
    """What was changed in the image before judging."""

    def to_json(self) -> dict[str, Any]:
        """The object that `infer --json` prints."""
        content = dataclasses.asdict(self)
        return {**content, "path": str(self.path), "milliseconds": round(self.milliseconds, 3)}


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be judged, and why."""

    path: Path
    error: str

    def to_json(self) -> dict[str, Any]:
        """The object that `infer --json` prints."""
        return {"path": str(self.path), "error": self.error}


COLUMNS = ("path", "score", "p_value", "threshold", "anomalous", "regions", "width", "height", "milliseconds", "error")
"""Columns of the CSV file; `regions` is their number."""


MOST_AT_ONCE = 8
"""Threads at most, however many cores there are: each holds an image in memory."""
DRAWN_TOGETHER = 5_000_000
"""Pixels of all images that are being drawn; drawing takes some 150 bytes for each."""


def side_by_side(images: int) -> int:
    """How many of so many images to have in the model at a time on a CPU, for the most images a second.

    One a core, each on a single thread of onnxruntime (which gives the very same numbers): no thread then waits, or
    spins, for the others at the end of every layer. With fewer images than cores, all cores work on one image.
    """
    count = min(cores(), MOST_AT_ONCE)
    return count if images >= count else 1


def judge(
    detector: Detector,
    files: Iterable[tuple[Path, Path]],
    *,
    threshold: float | None = None,
    heatmaps: Path | None = None,
    smallest: int = 0,
    at_once: int = 1,
    clock: Clock | None = None,
) -> Generator[Judged | Unreadable, None, None]:
    """Judge image files, in their order.

    An image goes through all of its stages in one of a few threads. So the stages of several images overlap, and no
    more images than threads are in memory.

    Args:
        detector: The model.
        files: (path, name to report it under), as from `image_files.find`.
        threshold: Used instead of the model's own.
        heatmaps: Folder for overlays, `<name>.png` in the image's own size.
        smallest: Regions of less area, in square pixels of the image, are not reported. The decision is the score's
            alone.
        at_once: Images that may be in the model at a time on a CPU, where the detector should then have one thread
            (see `side_by_side`). Other devices get one image at a time.
        clock: Counts the time that each stage takes.

    Raises:
        PadimEdgeError: The heat maps cannot be written, or the device failed. Unreadable images are reported instead.
    """
    files, clock = list(files), clock or Clock()
    targets = _targets(heatmaps, [name for _, name in files]) if heatmaps is not None else [None] * len(files)
    metadata = detector.metadata
    slots = at_once if detector.device == "cpu" else 1
    workers = clock.workers = max(slots, min(cores(), MOST_AT_ONCE), 2)
    in_model, drawing = threading.Semaphore(slots), threading.Lock()

    def one(work: tuple[Path, Path | None]) -> Judged | Unreadable:
        path, target = work
        try:
            with clock.stage("decode"):
                image = image_files.read(path, keep_grey=True)
            with clock.stage("resize"):
                frame = image_files.prepare(image.image, metadata.preprocessing)
        except ImageError as error:
            return Unreadable(path, str(error))
        with clock.stage("comparison"):
            comparison = compare(frame, metadata.reference, metadata.grid)
        with in_model, clock.stage("model"):
            start = time.perf_counter()
            result = detector(frame, threshold=threshold)
            milliseconds = 1e3 * (time.perf_counter() - start)
        anomaly_map, (width, height) = result.anomaly_map[0], image.image.size
        with clock.stage("regions"):
            regions = find_regions(
                anomaly_map, result.threshold, metadata.preprocessing, width, height, smallest=smallest
            )
        judged = Judged(
            path=path,
            score=float(result.score[0]),
            p_value=float(result.p_value[0]),
            threshold=result.threshold,
            anomalous=bool(result.anomalous[0]),
            regions=regions,
            shift=in_pixels(comparison.shift, metadata, width, height),
            warnings=comparison.warnings,
            width=width,
            height=height,
            milliseconds=milliseconds,
            notes=image.notes,
        )
        if target is not None:
            turn = drawing if width * height * workers > DRAWN_TOGETHER else nullcontext()
            with turn, clock.stage("overlay"):
                _draw(image.image, judged, anomaly_map, metadata, target)
        return judged

    paths = (path for path, _ in files)
    yield from in_order(one, zip(paths, targets, strict=True), workers=workers, ahead=2 * workers)


def _draw(
    image: Image.Image, judged: Judged, anomaly_map: npt.NDArray[np.float32], metadata: Metadata, target: Path
) -> None:
    """Write the overlay of an image, RGB or L."""
    shown = to_image(anomaly_map, metadata.preprocessing, judged.width, judged.height, inspected=metadata.inspected)
    drawn = overlay(
        image if image.mode == "RGB" else image.convert("RGB"),
        shown,
        judged.threshold,
        anomalous=judged.anomalous,
        score=judged.score,
        boxes=[region.box for region in judged.regions],
    )
    _make_folder(target.parent)
    with replacing(target) as temporary:
        drawn.save(temporary, format="PNG", compress_level=1)


def in_pixels(shift: tuple[int, int], metadata: Metadata, width: int, height: int) -> tuple[int, int]:
    """(x, y) in pixels of the image, from (rows, columns) in patches."""
    # The thumbnails are of what goes into the graph: where that crops, too, they hold the whole image.
    preprocessing, (h, w) = metadata.preprocessing, metadata.grid
    box = preprocessing.judged_box(width, height) if preprocessing.camera is None else Box(0, 0, width, height)
    return round(shift[1] * box.width / w), round(shift[0] * box.height / h)


def _targets(folder: Path, names: list[Path]) -> list[Path]:
    """Where each image's overlay goes; names that differ only in their ending do not overwrite each other."""
    _make_folder(folder)
    taken: set[Path] = set()
    targets = []
    for name in names:
        target = folder / name.with_suffix(".png")
        number = 2
        while target in taken:
            target = folder / name.with_name(f"{name.stem}-{number}.png")
            number += 1
        taken.add(target)
        targets.append(target)
    return targets


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PadimEdgeError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another one for the heat maps"
        ) from error
