"""Planted figures beside true ones: Gaussians alone, a memory alone, both alike, and both weighed, from one fit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.choosing.fitting import ASKED, subset
from benchmarks.choosing.record import Row
from padim_edge.datasets import GOOD, Dataset
from padim_edge.evaluation.metrics import image_metrics
from padim_edge.fitted import Fitted, fit_dataset
from padim_edge.frames import numbered_frames, readable_frames
from padim_edge.presets import preset
from padim_edge.rehearsal.folds import LEFT_OUT, rescaled
from padim_edge.rehearsal.outcome import conclude
from padim_edge.rehearsal.real import RealDefects, judge_real
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import plain
from padim_edge.weighing import Compared, Draws, combination_of, compared_draws
from padim_edge_artifact import Metadata, PadimEdgeError, names
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.kept import Kept
from padim_edge_learn.assemble import ModelOptions, assemble
from padim_edge_learn.held_out import GoodImages
from padim_edge_model.fused import MapStage, combined, map_stage
from padim_edge_model.graph import of_kept
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import SILENT

__all__ = ["DRAWS", "KINDS", "rehearsed"]

DRAWS = (0, 1, 2)
"""Random seeds of the drawn defects."""

KINDS = ("edge", "free", "equal", "auto")
"""Models of one fit: Gaussians alone, the memory alone, both alike, and both weighed by the first draw of defects."""

Frame = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]


def rehearsed(
    dataset: Dataset, images: int | None, seed: int, backbone: str, weights: str, size: str | None = None
) -> Row:
    """Fit both kinds once, and compare what planted and real defects say about each model.

    Args:
        dataset: Data set with labelled test images.
        images: Number of good images to fit on; `None` for all.
        seed: Random seed of the method and of the choice of images.
        backbone: Name of the backbone.
        weights: Path of the weights.
        size: Side of the frame; `None` for the preset's own.

    Raises:
        PadimEdgeError: The data set is too small, or an image cannot be read.
    """
    start = time.perf_counter()
    method = preset("auto", backbone=backbone, seed=seed, size=size)
    fitted = fit_dataset(subset(dataset, images, seed), method, weights=weights, feedback=SILENT)
    fit_seconds = time.perf_counter() - start
    readable = list(fitted.dataset.good)
    good = GoodImages(numbered_frames(readable, fitted.method.preprocessing, {}), len(readable))
    settings = ModelOptions(fitted.method.precision, "benchmarks", ASKED)
    start = time.perf_counter()
    draws = compared_draws(fitted.kept, good, settings, Draws(DRAWS))
    compare_seconds = (time.perf_counter() - start) / len(DRAWS)
    chosen = [combination_of(draw) for draw in draws]
    units = chosen[0].units
    combinations = dict(zip(KINDS, (*(Combination(share, units) for share in (0.0, 1.0, 0.5)), chosen[0]), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        models = _Models(fitted, good, settings, Path(folder))
        about = {kind: models.metadata(combinations[kind]) for kind in KINDS}
        real = models.judged(dataset)
    return {
        "class_name": dataset.class_name,
        "images": images,
        "seed": seed,
        "fitted": fitted.images,
        "weights": [each.weight for each in chosen],
        "certainties": [each.certainty for each in chosen],
        "true": {kind: real.figures(combinations[kind], about[kind]) for kind in KINDS},
        "true_by_draw": [real.auroc(each) for each in chosen],
        "planted": {kind: _planted(draws, combinations[kind], about[kind], real) for kind in KINDS},
        "fit_seconds": round(fit_seconds, 2),
        "compare_seconds": round(compare_seconds, 2),
    }


class _Models:
    """Models of one fit, and their answers to test images."""

    def __init__(self, fitted: Fitted, good: GoodImages, settings: ModelOptions, folder: Path) -> None:
        self.fitted, self.good, self.settings, self.folder = fitted, good, settings, folder
        self.made = 0

    def metadata(self, combination: Combination) -> Metadata:
        """Make a model as an export does, and return what it says about itself."""
        self.made += 1
        path = self.folder / f"{self.made}.onnx"
        return assemble(self.fitted.kept, path, self.good, replace(self.settings, combination=combination)).metadata

    def judged(self, dataset: Dataset) -> _Judged:
        """Judge the test images by both kinds; the model of `equal` gives both distances."""
        detector = Detector.load(self.folder / f"{KINDS.index('equal') + 1}.onnx", "cpu")
        rows: list[list[npt.NDArray[np.float32]]] = [[], []]

        def keep(frames: Frame) -> Float64:
            """Keep the distances of frames, and return the numbers of their rows."""
            first = len(rows[0])
            for frame in frames:
                found = detector.session.run(list(names.FURTHER_OUTPUTS), {names.IMAGE: frame[None]})
                for own, each in zip(rows, found, strict=True):
                    own.append(each[0])
            return np.arange(first, first + len(frames), dtype=np.float64)

        unreadable: dict[str, str] = {}
        preprocessing = detector.metadata.preprocessing
        for frame in readable_frames(dataset.test, preprocessing, unreadable):
            keep(frame[None])
        if unreadable:
            raise PadimEdgeError(f"an image cannot be read ({next(iter(unreadable.values()))}); repair the data set")
        labels = np.array([item.kind != GOOD for item in dataset.test])
        real = judge_real(keep, dataset.test, preprocessing) if any(item.mask for item in dataset.test) else None
        return _Judged(labels, np.stack(rows[0]), np.stack(rows[1]), real, self.stages())

    def stages(self) -> tuple[MapStage, MapStage]:
        """Return the map stage of each kind."""

        def stage(head: Kept) -> MapStage:
            method = head.recipe.method
            return map_stage(method.preprocessing.size, of_kept(head).grid, method.sigma)

        first, second = (stage(head) for head in self.fitted.kept.heads)
        return first, second


@dataclass(frozen=True, eq=False)
class _Judged:
    """Distances of the test images, and behind them those of the real defects with masks."""

    labels: npt.NDArray[np.bool_]
    """`(n,)` True for anomalous test images."""
    position: npt.NDArray[np.float32]
    """`(n + m, h, w)` distances to the Gaussians."""
    memory: npt.NDArray[np.float32]
    """`(n + m, h', w')` distances to the prototypes."""
    real: RealDefects | None
    """Real defects, whose scores are numbers of rows."""
    stages: tuple[MapStage, MapStage]
    """Map stage of each kind."""

    def scores(self, combination: Combination) -> Float64:
        """Return the score of each row by a model with these weights."""
        both = combined(self.position, self.memory, combination.factors)
        return np.array([float(self.stages[0](each[None]).max()) for each in both])

    def auroc(self, combination: Combination) -> float | None:
        """Return the image AUROC of a model with these weights."""
        return image_metrics(self.labels, self.scores(combination)[: len(self.labels)], 0.0).auroc

    def figures(self, combination: Combination, metadata: Metadata) -> dict[str, float | None]:
        """Return image AUROC, and the rates at the threshold that ships."""
        found = image_metrics(self.labels, self.scores(combination)[: len(self.labels)], metadata.threshold)
        return {
            "auroc": found.auroc,
            "miss": None if found.miss is None else found.miss.value,
            "false_alarm": None if found.false_alarm is None else found.false_alarm.value,
        }


def _planted(
    draws: Sequence[Compared], combination: Combination, metadata: Metadata, real: _Judged
) -> list[dict[str, Any]]:
    """Return for each draw of defects what a rehearsal says."""
    return [_said(found, real, combination) for found in _rehearsals(draws, combination, metadata)]


def _rehearsals(draws: Sequence[Compared], combination: Combination, metadata: Metadata) -> Iterator[Rehearsal]:
    for draw, seed in zip(draws, DRAWS, strict=True):
        judged, scale = rescaled(draw.scored(combination), metadata)
        yield conclude(judged, metadata, seed, how=LEFT_OUT, scale=scale)


def _said(found: Rehearsal, real: _Judged, combination: Combination) -> dict[str, Any]:
    visible = np.array([each.score for each in found.trials if plain(each)])
    good = np.array([each.score for each in found.good])
    labels = np.array([False] * len(good) + [True] * len(visible))
    auroc = image_metrics(labels, np.concatenate([good, visible]), 0.0).auroc if len(visible) else None
    share = found.chart.plain
    said: dict[str, Any] = {
        "auroc": auroc,
        "plain": 0 if share is None else share.total,
        "found": None if share is None else share.value,
        "level": found.level,
    }
    if real.real is not None:
        scores = real.scores(combination)
        trials = tuple(replace(each, score=float(scores[int(each.score)])) for each in real.real.trials)
        chart = replace(found, real=trials).foretold
        if chart is not None:
            said |= {
                "chart_difference": chart.difference,
                "chart_groups": chart.counted,
                "real": chart.found.value,
                "expected": chart.expected,
            }
    return said
