"""The way of an image from a file or an array to an inspection, one at a time or several in threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata
from padim_edge_artifact.calibration import check_threshold
from padim_edge_artifact.preprocessing import Box
from padim_edge_model.comparable import check_frame
from padim_edge_runtime import image_files
from padim_edge_runtime.channel_order import ordered
from padim_edge_runtime.image_files import ImageLike
from padim_edge_runtime.inspection import Inspection, Result, Source, Unreadable, View
from padim_edge_runtime.prefetch import cores, in_order
from padim_edge_runtime.profile import Clock
from padim_edge_runtime.regions import find_regions

__all__ = ["Choice", "Hook", "Judge", "inspect", "inspect_many", "threads_for", "workers_of"]

MOST_AT_ONCE = 8
"""Largest number of threads, however many cores there are: each thread holds an image in memory."""

Hook = Callable[[Inspection], object]
"""Function that is called with an inspection, in the thread that made it, while the decoded image is still there."""


class Judge(Protocol):
    """A loaded model, such as a `Detector`."""

    @property
    def metadata(self) -> Metadata:
        """Metadata of the model."""

    @property
    def device(self) -> str:
        """Device that the model runs on: a key of `providers.DEVICES`."""

    @property
    def threads(self) -> int | None:
        """CPU threads for one image; `None` where onnxruntime chose."""

    def __call__(self, images: npt.NDArray[np.uint8], *, threshold: float | None = None) -> Result:
        """Judge images in the model's frame and in its order of channels."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Options of an inspection.

    Raises:
        PadimEdgeError: A value is outside its range.
    """

    color: str = "rgb"
    """Order of an array's channels, `rgb` or `bgr`."""
    threshold: float | None = None
    """Threshold to use; `None` takes the model's own."""
    min_area: int = 0
    """Regions of less area, in square pixels of the image, are not reported. The verdict does not depend on them."""

    def __post_init__(self) -> None:
        image_files.check_color(self.color)
        if self.threshold is not None:
            check_threshold(self.threshold)


def threads_for(images: int) -> int | None:
    """Choose the CPU threads for one image that give the most images a second; `None` is onnxruntime's choice.

    With as many images as cores, each core works on an image of its own. So no thread waits for the others at the end
    of every layer. With fewer images, all cores work on one. The scores are the same.

    Args:
        images: Number of images to inspect.
    """
    several = min(cores(), MOST_AT_ONCE)
    return 1 if images >= several > 1 else None


def workers_of(judge: Judge) -> int:
    """Return the number of threads that `inspect_many` decodes, judges and draws in."""
    return max(_slots(judge), min(cores(), MOST_AT_ONCE), 2)


def _slots(judge: Judge) -> int:
    """Return the number of images that may be in the model at a time. Only a CPU takes several."""
    if judge.device != "cpu" or judge.threads is None:
        return 1
    return max(1, min(cores(), MOST_AT_ONCE) // judge.threads)


def inspect(
    judge: Judge,
    image: ImageLike,
    choice: Choice,
    *,
    clock: Clock | None = None,
    turn: AbstractContextManager[object] | None = None,
) -> Inspection:
    """Inspect one image; the inspection holds the decoded image.

    Args:
        judge: The model.
        image: As for `image_files.decode`.
        choice: Options of the inspection.
        clock: Counts the time that each stage takes.
        turn: Entered for as long as the image is in the model.

    Raises:
        ImageError: The image cannot be read.
        DeviceError: The device failed while it ran.
    """
    clock, metadata = clock or Clock(), judge.metadata
    with clock.stage("decode"):
        levels = metadata.preprocessing.levels
        decoded = image_files.decode(image, color=choice.color, keep_grey=True, levels=levels)
    with clock.stage("resize"):
        frame = image_files.prepare(decoded.pixels, metadata.preprocessing)
    with turn or nullcontext(), clock.stage("model"):
        start = time.perf_counter()
        result = judge(ordered(frame, metadata.preprocessing.color), threshold=choice.threshold)
        milliseconds = 1e3 * (time.perf_counter() - start)
    with clock.stage("comparison"):
        check = check_frame(frame, metadata.reference, metadata.grid, result.patch_distance[0])
    frame_map, (width, height) = result.anomaly_map[0], decoded.size
    with clock.stage("regions"):
        regions = find_regions(
            frame_map, result.threshold, metadata.preprocessing, width, height, smallest=choice.min_area
        )
    return Inspection(
        path=_path_of(image),
        score=float(result.score[0]),
        p_value=float(result.p_value[0]),
        threshold=result.threshold,
        anomalous=bool(result.anomalous[0]),
        regions=regions,
        width=width,
        height=height,
        milliseconds=milliseconds,
        shift=_in_pixels(check.shift, metadata, width, height),
        warnings=check.warnings,
        notes=decoded.notes,
        view=View(frame_map, metadata, decoded, result.patch_distance[0], check),
    )


def inspect_many(
    judge: Judge, images: Iterable[ImageLike], choice: Choice, *, hook: Hook | None = None, clock: Clock | None = None
) -> Generator[Inspection | Unreadable, None, None]:
    """Inspect images in threads and give the inspections in the images' order.

    An image goes through all of its stages in one of a few threads. So the stages of several images overlap, and no
    more decoded images than threads are in memory.

    Args:
        judge: The model.
        images: As for `image_files.decode`, each; may be lazy and endless.
        choice: Options of the inspections.
        hook: Called with each inspection in its thread, for example to draw it.
        clock: Counts the time that each stage takes.

    Raises:
        DeviceError: The device failed while it ran. Whatever the hook raises comes through as well.
    """
    clock = clock or Clock()
    workers = clock.workers = workers_of(judge)
    turns = threading.Semaphore(_slots(judge))

    def one(image: ImageLike) -> Inspection | Unreadable:
        source = Source.of(image)
        try:
            inspection = inspect(judge, image, choice, clock=clock, turn=turns)
        except ImageError as error:
            return Unreadable(_path_of(image), str(error))
        if hook is not None:
            hook(inspection)
        return inspection.kept_as(source)

    yield from in_order(one, images, workers=workers, ahead=2 * workers)


def _path_of(image: ImageLike) -> Path | None:
    return Path(image) if isinstance(image, (str, os.PathLike)) else None


def _in_pixels(shift: tuple[int, int], metadata: Metadata, width: int, height: int) -> tuple[int, int]:
    """Convert (rows, columns) in patches to (x, y) in pixels of the image."""
    # The thumbnails show the input of the graph. Where the graph itself crops, they show the whole image.
    preprocessing, (h, w) = metadata.preprocessing, metadata.grid
    box = preprocessing.judged_box(width, height) if preprocessing.camera is None else Box(0, 0, width, height)
    return round(shift[1] * box.width / w), round(shift[0] * box.height / h)
