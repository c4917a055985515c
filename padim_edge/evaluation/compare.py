"""What a model costs against another one: A is the reference, B the one that is smaller, faster or simply newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset, Item
from padim_edge.evaluation.evaluate import METRICS, Evaluation, Loaded, Scored, conclude, load, read_truth
from padim_edge.evaluation.metrics import pixel_metrics
from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.preprocessing import Box
from padim_edge_runtime.bench.footprint import NO_MEMORY, Cost
from padim_edge_runtime.detector import Detector, Result
from padim_edge_runtime.regions import to_image

__all__ = ["Comparison", "Spread", "compare", "deltas", "notes", "reasons", "to_json"]

SMALLEST = 1e-6
"""Scores and maps below this are taken for it where something is divided by them."""

DISTURBED = 2
"""Times the tenth percentile of the timed calls that their ninetieth may be before a note says so."""

Float32 = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Spread:
    """Relative differences over the images, 0 or more; 0.01 is one per cent."""

    median: float
    maximum: float


@dataclass(frozen=True)
class Comparison:
    """What two models say of the same images."""

    class_name: str
    images: int
    """That both have judged, 1 or more."""
    test: bool
    """Whether these were the test images; else the good ones, for want of test images."""
    a: Evaluation | None
    """`None` without test images."""
    b: Evaluation | None
    score: Spread
    """`|b - a| / a` of each image's score."""
    rank_correlation: float | None
    """Spearman's, of the scores, -1 to 1: 1 where both put the images in the same order. `None` where all scores of
    a model are equal."""
    differing: tuple[str, ...]
    """Names of the images that are good to one model and anomalous to the other, each by its own threshold."""
    alarms: tuple[int, int]
    """Images that are anomalous to A, and to B."""
    map: Spread | None
    """`max |b - a| / max a` of each image's map; `None` where the maps do not lie on one another."""
    unreadable: tuple[str, ...]
    """One sentence for each image that was left out for both."""
    reasons: dict[str, str]
    """Why a figure is `None`, for each that is."""
    notes: tuple[str, ...]
    """What to know when reading the figures, one sentence each without a full stop; mostly empty."""


@dataclass(frozen=True)
class _Judged:
    """What both models, A first, said of one image."""

    item: Item
    scores: tuple[float, float]
    anomalous: tuple[bool, bool]
    map_difference: float
    """NaN where the maps do not lie on one another."""


def compare(a: Detector, b: Detector, dataset: Dataset, progress: Progress = lambda _: None) -> Comparison:
    """Let both models judge the test images, or for want of them the good ones.

    Takes the memory of an evaluation, and of B's maps in the model's frame; each image is decoded once.

    Args:
        a: The reference.
        b: The model that is measured against it.
        dataset: Its test images, labelled, with masks where pixels are to be compared.
        progress: Called with 1 for each image.

    Raises:
        PadimEdgeError: There are no images, none of them can be read, or a model gives a score or a map that is not
            finite, as overflows in low precision do.
    """
    items = dataset.test or dataset.good
    if not items:
        raise PadimEdgeError(f"the data set of {dataset.class_name!r} has no images; expected test images, or good")
    apart = _apart(a.metadata, b.metadata)
    unreadable: list[str] = []
    judged: list[_Judged] = []
    maps = _judge((a, b), items, unreadable, judged, progress, aligned=apart is None)
    evaluations: tuple[Evaluation, Evaluation] | None = None
    if dataset.test:
        evaluations = _evaluate((a, b), dataset.class_name, maps, unreadable, judged)
    else:
        for _ in maps:  # nothing is kept of them
            pass
    scores = np.array([each.scores for each in judged])
    lacking = {} if apart is None else {"map": apart}
    for evaluation in reversed(evaluations or ()):  # A has the last word
        lacking |= evaluation.reasons
    if evaluations is None:
        lacking |= dict.fromkeys(METRICS, "no test images")
    rank_correlation = _rank_correlation(scores)
    if rank_correlation is None:
        lacking["rank_correlation"] = "fewer than two different scores"
    return Comparison(
        class_name=dataset.class_name,
        images=len(judged),
        test=evaluations is not None,
        a=evaluations[0] if evaluations else None,
        b=evaluations[1] if evaluations else None,
        score=_spread(np.abs(scores[:, 1] - scores[:, 0]) / scores[:, 0].clip(SMALLEST)),
        rank_correlation=rank_correlation,
        differing=tuple(each.item.key or each.item.name for each in judged if each.anomalous[0] != each.anomalous[1]),
        alarms=(sum(each.anomalous[0] for each in judged), sum(each.anomalous[1] for each in judged)),
        map=None if apart else _spread(np.array([each.map_difference for each in judged])),
        unreadable=tuple(unreadable),
        reasons=lacking,
        notes=tuple(_notes(a.metadata, b.metadata, len(judged), test=evaluations is not None)),
    )


def _judge(
    detectors: tuple[Detector, Detector],
    items: Sequence[Item],
    unreadable: list[str],
    judged: list[_Judged],
    progress: Progress,
    *,
    aligned: bool,
) -> Iterator[tuple[Loaded, Float32, Float32]]:
    """Each readable image and its `(H, W)` maps by A and B; what they say is noted on the way."""
    preprocessings = [each.metadata.preprocessing for each in detectors]
    shared = preprocessings[0] == preprocessings[1]
    for loaded in load(items, preprocessings[:1] if shared else preprocessings, unreadable, progress):
        a, b = (
            _finite(detector(frame), name, loaded.item)
            for detector, frame, name in zip(detectors, (loaded.frames[0], loaded.frames[-1]), "AB", strict=True)
        )
        map_a, map_b = a.anomaly_map[0], b.anomaly_map[0]
        difference = float(np.abs(map_b - map_a).max() / max(map_a.max(), SMALLEST)) if aligned else np.nan
        judged.append(
            _Judged(
                loaded.item,
                (float(a.score[0]), float(b.score[0])),
                (bool(a.anomalous[0]), bool(b.anomalous[0])),
                difference,
            )
        )
        yield loaded, map_a, map_b


def _finite(result: Result, name: str, item: Item) -> Result:
    """The same, or an error where a number has overflowed."""
    if not (np.isfinite(result.score).all() and np.isfinite(result.anomaly_map).all()):
        raise PadimEdgeError(
            f"model {name} gives {item.name} the score {result.score[0]} and a map that is not finite everywhere, "
            "expected finite numbers; export it again, in another precision if it was fp16 or int8"
        )
    return result


def _evaluate(
    detectors: tuple[Detector, Detector],
    class_name: str,
    maps: Iterator[tuple[Loaded, Float32, Float32]],
    unreadable: list[str],
    judged: list[_Judged],
) -> tuple[Evaluation, Evaluation]:
    """Both evaluations, just as `evaluate` makes them.

    B's turn comes when A's is over, or the pixels of both would be held at once. Until then its maps wait as they came
    out of the model, mostly a small part of the image's size, and masks are read again, which are mostly small files.
    """
    geometry = [(each.metadata.preprocessing, each.metadata.inspected) for each in detectors]
    waiting: deque[tuple[Item, tuple[int, int], Float32]] = deque()

    def maps_of_a() -> Iterator[tuple[Float32, Truth | None]]:
        preprocessing, inspected = geometry[0]
        for loaded, map_a, map_b in maps:
            waiting.append((loaded.item, loaded.size, map_b))
            yield to_image(map_a, preprocessing, *loaded.size, inspected=inspected), loaded.truth

    def maps_of_b() -> Iterator[tuple[Float32, Truth | None]]:
        preprocessing, inspected = geometry[1]
        while waiting:
            item, size, map_b = waiting.popleft()
            yield to_image(map_b, preprocessing, *size, inspected=inspected), read_truth(item, size)

    pixels = [pixel_metrics(maps_of_a()), pixel_metrics(maps_of_b())]
    a, b = (
        conclude(
            class_name,
            detector.metadata.threshold,
            [Scored(each.item, each.scores[i]) for each in judged],
            pixels[i],
            unreadable,
        )
        for i, detector in enumerate(detectors)
    )
    return a, b


def _apart(a: Metadata, b: Metadata) -> str | None:
    """Why the maps cannot be laid on one another, if so."""
    if a.size != b.size:
        return f"the maps have different sizes, {_sides(a.size)} and {_sides(b.size)}"
    if _box(a) != _box(b):
        return "the maps show different parts of the image, since the models crop it differently"
    return None


def _box(metadata: Metadata) -> Box:
    """The part of an image that the model sees; sides of the image are 1."""
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
    """Spearman's, of `(N, 2)` scores."""
    if not np.ptp(scores, axis=0).all():
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(scores[:, 0], scores[:, 1]).statistic)


def notes(comparison: Comparison, costs: tuple[Cost, Cost]) -> list[str]:
    """What to know when reading all the figures, one sentence each without a full stop."""
    found = list(comparison.notes)
    devices = [each.device for each in costs]
    if devices[0] != devices[1]:
        found.append(f"A ran on {devices[0]} and B on {devices[1]}")
    if set(devices) != {"cpu"}:
        found.append("memory is the host's, that of the GPU is not in it")
    unrest = max(each.latency.p90 / each.latency.p10 for each in costs)
    if unrest > DISTURBED:
        found.append(
            f"the timing was disturbed, p90 is {unrest:.1f} times p10; compare p10, or repeat it on a quiet machine"
        )
    return found


def reasons(comparison: Comparison, costs: tuple[Cost, Cost]) -> dict[str, str]:
    """Why a figure is undefined, for each that is."""
    return comparison.reasons | ({"memory": NO_MEMORY} if None in [each.memory for each in costs] else {})


def to_json(comparison: Comparison, costs: tuple[Cost, Cost]) -> dict[str, Any]:
    """The object that `compare --json` prints; differences are B less A, and what is undefined is `None`."""
    a, b = costs
    metrics = [_metrics(each) for each in (comparison.a, comparison.b)]
    times = [each.latency.milliseconds for each in costs]
    return {
        "a": _side(a, metrics[0], comparison.alarms[0]),
        "b": _side(b, metrics[1], comparison.alarms[1]),
        "difference": {
            "images": comparison.images,
            "judged": "test" if comparison.test else "good",
            "unreadable": len(comparison.unreadable),
            "score": {
                "median": comparison.score.median,
                "maximum": comparison.score.maximum,
                "rank_correlation": comparison.rank_correlation,
            },
            "map": comparison.map and {"median": comparison.map.median, "maximum": comparison.map.maximum},
            "decisions": {"differing": len(comparison.differing), "names": list(comparison.differing)},
            "metrics": deltas(comparison),
            "bytes": b.bytes - a.bytes,
            "milliseconds": {name: times[1][name] - times[0][name] for name in times[0]},
            "times_as_fast": {name: times[0][name] / times[1][name] for name in times[0]},
            "memory": {
                "private_bytes": b.memory.private - a.memory.private,
                "mapped_bytes": b.memory.mapped - a.memory.mapped,
            }
            if a.memory and b.memory
            else None,
            "reasons": reasons(comparison, costs),
            "notes": notes(comparison, costs),
        },
    }


def deltas(comparison: Comparison) -> dict[str, float | None]:
    """Each metric of B less that of A; `None` where one of them is undefined."""
    found = {}
    for name, a in _metrics(comparison.a).items():
        b = _metrics(comparison.b)[name]
        found[name] = None if a is None or b is None else b - a
    return found


def _metrics(evaluation: Evaluation | None) -> dict[str, float | None]:
    return dict.fromkeys(METRICS) if evaluation is None else evaluation.metrics


def _side(cost: Cost, metrics: dict[str, float | None], alarms: int) -> dict[str, Any]:
    metadata = cost.metadata
    return {
        "model": str(cost.model),
        "class_name": metadata.class_name,
        "preset": metadata.preset,
        "precision": metadata.precision,
        "backbone": metadata.backbone.name,
        "input": list(metadata.size),
        "device": cost.device,
        "threshold": metadata.threshold,
        "alarms": alarms,
        "metrics": metrics,
        "bytes": cost.bytes,
        "milliseconds": cost.latency.milliseconds,
        "rounds": cost.latency.rounds,
        "memory": cost.memory and {"private_bytes": cost.memory.private, "mapped_bytes": cost.memory.mapped},
    }
