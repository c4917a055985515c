"""A model against labelled images: how well do scores and maps tell good from bad?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.evaluation.metrics import ImageMetrics, PixelMetrics, Rate, image_metrics, pixel_metrics, rate
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import in_order
from padim_edge_runtime.regions import to_image

__all__ = ["METRICS", "Evaluation", "Loaded", "Scored", "conclude", "evaluate", "load", "mean", "read_truth"]

METRICS = ("image_auroc", "image_ap", "best_f1", "pixel_auroc", "pro", "false_alarm_rate", "miss_rate")
"""Keys of `Evaluation.metrics`, in the order in which they are shown."""


@dataclass(frozen=True)
class Scored:
    """One test image and its score."""

    item: Item
    score: float


@dataclass(frozen=True, eq=False)
class Loaded:
    """One image, ready to be judged."""

    item: Item
    size: tuple[int, int]
    """(width, height) of the image in pixels."""
    frames: tuple[npt.NDArray[np.uint8], ...]
    """`(H, W, 3)` in the frame of each preprocessing that was asked for."""
    truth: npt.NDArray[np.bool_] | None
    """`(height, width)`, True where the defect is; `None` where it is not known."""


@dataclass(frozen=True)
class Evaluation:
    """What was found on the test images of one class."""

    class_name: str
    threshold: float
    """That the model ships with."""
    image: ImageMetrics
    pixel: PixelMetrics
    """At the images' own resolution."""
    kinds: dict[str, Rate]
    """Share above the threshold for each kind of image, good ones first."""
    scored: tuple[Scored, ...]
    """Every judged image, in the order of the data set."""
    without_mask: int
    """Anomalous images that have no mask; they count in the image metrics only."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be judged."""

    @property
    def good(self) -> int:
        """Number of good images judged."""
        return sum(each.item.kind == GOOD for each in self.scored)

    @property
    def anomalous(self) -> int:
        """Number of anomalous images judged."""
        return len(self.scored) - self.good

    @property
    def metrics(self) -> dict[str, float | None]:
        """The figures by name; `None` where one is undefined (see `reasons`)."""
        found = (
            self.image.auroc,
            self.image.ap,
            self.image.best_f1,
            self.pixel.auroc,
            self.pixel.pro,
            self.image.false_alarm.value if self.image.false_alarm else None,
            self.image.miss.value if self.image.miss else None,
        )
        return dict(zip(METRICS, found, strict=True))

    @property
    def reasons(self) -> dict[str, str]:
        """Why a metric is undefined, for each that is."""
        lacking = "no good images" if not self.good else "no anomalous images"
        no_pixels = "no anomalous pixels (no masks)" if self.anomalous else lacking
        why = dict.fromkeys(METRICS, lacking) | {"pixel_auroc": no_pixels, "pro": no_pixels}
        return {name: why[name] for name, value in self.metrics.items() if value is None}

    def to_json(self) -> dict[str, Any]:
        """The object that `evaluate --json` prints for a class."""
        return {
            **self.metrics,
            "reasons": self.reasons,
            "threshold": self.threshold,
            "best_f1_threshold": self.image.best_f1_threshold,
            "false_alarm_interval": _interval(self.image.false_alarm),
            "miss_interval": _interval(self.image.miss),
            "good": self.good,
            "anomalous": self.anomalous,
            "regions": self.pixel.regions,
            "without_mask": self.without_mask,
            "unreadable": len(self.unreadable),
            "kinds": {
                kind: {"images": each.total, "alarms": each.count, "rate": each.value, "interval": _interval(each)}
                for kind, each in self.kinds.items()
            },
        }


def mean(evaluations: list[Evaluation]) -> dict[str, float | None]:
    """Mean of each metric over the classes; `None` where any class lacks it."""
    means: dict[str, float | None] = {}
    for name in METRICS:
        values = [each.metrics[name] for each in evaluations]
        defined = [value for value in values if value is not None]
        means[name] = float(np.mean(defined)) if defined and len(defined) == len(values) else None
    return means


def evaluate(detector: Detector, dataset: Dataset, progress: Callable[[int], object] = lambda _: None) -> Evaluation:
    """Judge the test images of a data set and compare with their labels.

    Maps are compared at the images' own resolution. Where a preset crops (`paper`) or a region of interest is set,
    only the pixels that the model inspects count, as in the published figures.

    Raises:
        PadimEdgeError: The data set has no test images, or none of them can be read.
    """
    if not dataset.test:
        raise PadimEdgeError(
            f"the data set of {dataset.class_name!r} has no test images; expected them as MVTec AD has them, in "
            f"test/{GOOD} and test/<defect>, or in another layout that --data takes"
        )
    scored: list[Scored] = []
    unreadable: list[str] = []
    pixel = pixel_metrics(_maps(detector, dataset, scored, unreadable, progress))
    return conclude(dataset.class_name, detector.metadata.threshold, scored, pixel, unreadable)


def conclude(
    class_name: str, threshold: float, scored: list[Scored], pixel: PixelMetrics, unreadable: list[str]
) -> Evaluation:
    """What the scores and maps of all test images amount to.

    Args:
        class_name: Of the data set.
        threshold: That the model ships with.
        scored: Every judged image, at least one.
        pixel: Of their maps.
        unreadable: One sentence for each image that could not be judged.
    """
    labels = np.array([each.item.kind != GOOD for each in scored])
    scores = np.array([each.score for each in scored])
    kinds = dict.fromkeys(sorted({each.item.kind for each in scored}, key=lambda kind: (kind != GOOD, kind)))
    alarms = {kind: [each.score > threshold for each in scored if each.item.kind == kind] for kind in kinds}
    return Evaluation(
        class_name=class_name,
        threshold=threshold,
        image=image_metrics(labels, scores, threshold),
        pixel=pixel,
        kinds={kind: found for kind, events in alarms.items() if (found := rate(np.array(events))) is not None},
        scored=tuple(scored),
        without_mask=sum(each.item.kind != GOOD and each.item.mask is None for each in scored),
        unreadable=tuple(unreadable),
    )


def _maps(
    detector: Detector,
    dataset: Dataset,
    scored: list[Scored],
    unreadable: list[str],
    progress: Callable[[int], object],
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]]:
    """Map and truth of each test image, one at a time; scores and unreadable images are noted on the way."""
    preprocessing, inspected = detector.metadata.preprocessing, detector.metadata.inspected
    for each in load(dataset.test, (preprocessing,), unreadable, progress):
        result = detector(each.frames[0])
        scored.append(Scored(each.item, float(result.score[0])))
        yield to_image(result.anomaly_map[0], preprocessing, *each.size, inspected=inspected), each.truth


def load(
    items: Sequence[Item],
    preprocessings: Sequence[Preprocessing],
    unreadable: list[str],
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[Loaded]:
    """The readable images in order, each decoded once; the others' sentences go to `unreadable`.

    Args:
        items: At least one.
        preprocessings: Those of the models that will judge.
        unreadable: Gains a sentence for each image that is left out.
        progress: Called with 1 for each image.

    Raises:
        PadimEdgeError: None of the images can be read.
    """

    def prepare(item: Item) -> tuple[tuple[int, int], tuple[npt.NDArray[np.uint8], ...]] | ImageError:
        try:
            image = item.read().image
            return image.size, tuple(image_files.prepare(image, each) for each in preprocessings)
        except ImageError as error:
            return error

    readable = False
    for item, prepared in zip(items, in_order(prepare, items), strict=True):
        progress(1)
        try:
            if isinstance(prepared, ImageError):
                raise prepared
            size, frames = prepared
            loaded = Loaded(item, size, frames, read_truth(item, size))
        except ImageError as error:
            unreadable.append(str(error))
            continue
        readable = True
        yield loaded
    if not readable:
        raise PadimEdgeError(f"none of the {len(items)} images can be read; the first: {unreadable[0]}")


def read_truth(item: Item, size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """`(height, width)`, True where the defect is; all False for a good image, `None` where it is not known.

    Args:
        item: The image.
        size: Its (width, height) in pixels.

    Raises:
        ImageError: The mask cannot be read, or is not of that size.
    """
    width, height = size
    if item.kind == GOOD:
        return np.zeros((height, width), np.bool_)
    if item.mask is None:
        return None
    truth = item.mask()
    if truth.shape != (height, width):
        raise ImageError(
            f"the mask of {item.name} has {truth.shape[1]}x{truth.shape[0]} pixels, expected those of the image, "
            f"{width}x{height}"
        )
    return truth


def _interval(found: Rate | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]
