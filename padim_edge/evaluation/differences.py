"""Differences between what two models say of the same images. A is the reference, B is measured against it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset, Item
from padim_edge.evaluation.cases import Scored, defect_share
from padim_edge.evaluation.evaluate import conclude
from padim_edge.evaluation.labelled import Advance, Labelled, Truth, labelled_images, read_truth
from padim_edge.evaluation.metrics import pixel_metrics
from padim_edge.evaluation.result import Evaluation
from padim_edge.evaluation.tables import METRICS
from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.preprocessing import Box
from padim_edge_runtime.detector import Detector, Result
from padim_edge_runtime.regions import to_image

__all__ = ["Differences", "Spread", "compare_detectors", "deltas"]

_SMALLEST = 1e-6
"""Smallest score or map value to divide by."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spread:
    """Relative differences over the images, 0 or more; 0.01 is 1 %."""

    median: float
    """Median over the images."""
    maximum: float
    """Largest difference of any image."""


@dataclass(frozen=True)
class Differences:
    """Differences of two models on the same images."""

    class_name: str
    """Name of the class."""
    images: int
    """Number of images that both models judged, 1 or more."""
    test: bool
    """Whether these were the test images; otherwise they were the good ones."""
    a: Evaluation | None
    """Evaluation of A; `None` without test images."""
    b: Evaluation | None
    """Evaluation of B; `None` without test images."""
    score: Spread
    """Relative differences `|b - a| / a` of the image scores."""
    rank_correlation: float | None
    """Spearman's rank correlation of the scores, -1 to 1; 1 where both models put the images in the same order. `None`
    where a model gives all images the same score."""
    differing: tuple[str, ...]
    """Names of the images that one model finds good and the other anomalous, each by its own threshold."""
    alarms: tuple[int, int]
    """Numbers of images that are anomalous to A, and to B."""
    map: Spread | None
    """Relative differences `max |b - a| / max a` of the anomaly maps; `None` where the maps show different pixels."""
    unreadable: tuple[str, ...]
    """One sentence for each image that was left out for both models."""
    reasons: dict[str, str]
    """Reason for each figure that is `None`, in words."""
    notes: tuple[str, ...]
    """Sentences to know when reading the figures, without a full stop; mostly empty."""


@dataclass(frozen=True)
class _Judged:
    """Answers of both models, A first, for one image."""

    item: Item
    """Item of the data set."""
    scores: tuple[float, float]
    """Score of each model."""
    anomalous: tuple[bool, bool]
    """Decision of each model, by its own threshold."""
    map_difference: float
    """Relative difference of the maps; NaN where they show different pixels."""
    defect: float | None
    """Share of the image that is defective; `None` where it is unknown."""


def compare_detectors(a: Detector, b: Detector, dataset: Dataset, advance: Advance = lambda _: None) -> Differences:
    """Let both models judge the test images, or the good images where there are no test images.

    The memory needed is that of an evaluation, plus B's maps in the model's frame. Each image is decoded once.

    Args:
        a: The reference.
        b: The model that is measured against it.
        dataset: Data set with labelled test images, with masks where pixels are to be compared; or with good images.
        advance: Called with 1 for each image.

    Raises:
        PadimEdgeError: There are no images, or none of them can be read. Or a model gives a score or a map that is not
            finite, as overflows in low precision do.
    """
    items = dataset.test or dataset.good
    if not items:
        raise PadimEdgeError(
            f"the data set of {dataset.class_name!r} has no images; expected test images, or good ones; choose another"
        )
    apart = _apart(a.metadata, b.metadata)
    unreadable: list[str] = []
    bad_masks: list[str] = []
    judged: list[_Judged] = []
    images = _decoded((a, b), items, advance, unreadable, bad_masks)
    maps = _judge((a, b), images, judged, aligned=apart is None)
    evaluations: tuple[Evaluation, Evaluation] | None = None
    if dataset.test:
        of_a, of_b = _evaluate((a, b), dataset.class_name, maps, unreadable, judged)
        evaluations = replace(of_a, bad_masks=tuple(bad_masks)), replace(of_b, bad_masks=tuple(bad_masks))
    else:
        deque(maps, maxlen=0)  # the maps are not needed
    return _conclude((a.metadata, b.metadata), dataset.class_name, judged, unreadable, evaluations)


def _conclude(
    models: tuple[Metadata, Metadata],
    class_name: str,
    judged: Sequence[_Judged],
    unreadable: Sequence[str],
    evaluations: tuple[Evaluation, Evaluation] | None,
) -> Differences:
    """Turn the answers for all images into their differences."""
    apart = _apart(*models)
    scores = np.array([each.scores for each in judged])
    reasons = {} if apart is None else {"map": apart}
    if evaluations is None:
        reasons |= dict.fromkeys(METRICS, "no test images")
    else:
        reasons |= evaluations[1].reasons | evaluations[0].reasons
    rank_correlation = _rank_correlation(scores)
    if rank_correlation is None:
        reasons["rank_correlation"] = "fewer than two different scores"
    return Differences(
        class_name=class_name,
        images=len(judged),
        test=evaluations is not None,
        a=evaluations[0] if evaluations else None,
        b=evaluations[1] if evaluations else None,
        score=_spread(np.abs(scores[:, 1] - scores[:, 0]) / scores[:, 0].clip(_SMALLEST)),
        rank_correlation=rank_correlation,
        differing=tuple(each.item.key or each.item.name for each in judged if each.anomalous[0] != each.anomalous[1]),
        alarms=(sum(each.anomalous[0] for each in judged), sum(each.anomalous[1] for each in judged)),
        map=None if apart else _spread(np.array([each.map_difference for each in judged])),
        unreadable=tuple(unreadable),
        reasons=reasons,
        notes=tuple(_notes(*models, len(judged), test=evaluations is not None)),
    )


def _decoded(
    detectors: tuple[Detector, Detector],
    items: Sequence[Item],
    advance: Advance,
    unreadable: list[str],
    bad_masks: list[str],
) -> Iterator[Labelled]:
    """Decode each image once, and bring it into one frame only where both models have the same preprocessing."""
    preprocessings = [each.metadata.preprocessing for each in detectors]
    shared = preprocessings[0] == preprocessings[1]
    wanted = preprocessings[:1] if shared else preprocessings
    return labelled_images(items, wanted, unreadable, advance, bad_masks=bad_masks)


def _judge(
    detectors: tuple[Detector, Detector], images: Iterator[Labelled], judged: list[_Judged], *, aligned: bool
) -> Iterator[tuple[Labelled, Float32, Float32]]:
    """Yield each image and its `(H, W)` maps by A and B; `judged` is filled on the way."""
    for image in images:
        a, b = (
            _finite(detector(frame, color="rgb"), name, image.item)
            for detector, frame, name in zip(detectors, (image.frames[0], image.frames[-1]), "AB", strict=True)
        )
        map_a, map_b = a.anomaly_map[0], b.anomaly_map[0]
        difference = float(np.abs(map_b - map_a).max() / max(map_a.max(), _SMALLEST)) if aligned else np.nan
        judged.append(
            _Judged(
                image.item,
                (float(a.score[0]), float(b.score[0])),
                (bool(a.anomalous[0]), bool(b.anomalous[0])),
                difference,
                defect_share(image.item, image.truth),
            )
        )
        yield image, map_a, map_b


def _finite(result: Result, name: str, item: Item) -> Result:
    """Return the result, or raise an error where a number has overflowed."""
    if not (np.isfinite(result.score).all() and np.isfinite(result.anomaly_map).all()):
        raise PadimEdgeError(
            f"model {name} gives {item.name} the score {result.score[0]} and a map that is not finite everywhere, "
            "expected finite numbers; export it again, in another precision if it was fp16 or int8"
        )
    return result


def _evaluate(
    detectors: tuple[Detector, Detector],
    class_name: str,
    maps: Iterator[tuple[Labelled, Float32, Float32]],
    unreadable: list[str],
    judged: list[_Judged],
) -> tuple[Evaluation, Evaluation]:
    """Make both evaluations, with the figures that `evaluate_detector` gives.

    B is evaluated after A, because the pixels of both would not fit into memory at once. Until then B's maps wait in
    the model's frame, which is mostly much smaller than the image. Masks are small files and are read again.
    """
    geometry = [(each.metadata.preprocessing, each.metadata.inspected) for each in detectors]
    waiting: deque[tuple[Item, tuple[int, int], Float32]] = deque()

    def maps_of_a() -> Iterator[tuple[Float32, Truth | None]]:
        preprocessing, inspected = geometry[0]
        for image, map_a, map_b in maps:
            waiting.append((image.item, image.size, map_b))
            yield to_image(map_a, preprocessing, *image.size, inspected=inspected), image.truth

    def maps_of_b() -> Iterator[tuple[Float32, Truth | None]]:
        preprocessing, inspected = geometry[1]
        while waiting:
            item, size, map_b = waiting.popleft()
            yield to_image(map_b, preprocessing, *size, inspected=inspected), read_truth(item, size)

    pixels = [pixel_metrics(maps_of_a()), pixel_metrics(maps_of_b())]
    a, b = (
        replace(
            conclude(
                class_name,
                detector.metadata.threshold,
                [Scored(each.item, each.scores[i], each.defect) for each in judged],
                pixels[i],
                unreadable,
            ),
            detector=detector,
        )
        for i, detector in enumerate(detectors)
    )
    return a, b


def _apart(a: Metadata, b: Metadata) -> str | None:
    """Say why the maps show different pixels; `None` where they show the same."""
    if a.size != b.size:
        return f"the maps have different sizes, {_sides(a.size)} and {_sides(b.size)}"
    if _box(a) != _box(b):
        return "the maps show different parts of the image, since the models crop it differently"
    return None


def _box(metadata: Metadata) -> Box:
    """Return the part of an image that the model sees, in units of the image's sides."""
    return metadata.preprocessing.judged_box(1, 1)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _notes(a: Metadata, b: Metadata, images: int, *, test: bool) -> Iterator[str]:
    if not test:
        yield (
            f"there are no test images, so the models are compared on {images} good ones, on which they may have "
            "been fitted"
        )
    elif _box(a) != _box(b) or (a.roi is None) != (b.roi is None) or (a.size == b.size and a.roi != b.roi):
        yield "the models inspect different parts of the image, so their pixel AUROC and PRO cover different pixels"


def _spread(differences: npt.NDArray[np.float64]) -> Spread:
    return Spread(float(np.median(differences)), float(differences.max()))


def _rank_correlation(scores: npt.NDArray[np.float64]) -> float | None:
    """Compute Spearman's rank correlation of `(N, 2)` scores; `None` where all scores of a model are equal."""
    if not np.ptp(scores, axis=0).all():
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(scores[:, 0], scores[:, 1]).statistic)


def deltas(found: Differences) -> dict[str, float | None]:
    """Subtract each metric of A from that of B; `None` where one of them is undefined."""
    if found.a is None or found.b is None:
        return dict.fromkeys(METRICS)
    pairs = zip(METRICS, found.a.metrics.values(), found.b.metrics.values(), strict=True)
    return {name: None if a is None or b is None else b - a for name, a, b in pairs}
