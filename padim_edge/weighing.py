"""The weight of both kinds of distance in one model, from good images alone.

Gaussians know every place, and fail where parts lie freely. A memory compares any place with all places, and fails
where the same pattern is normal here and a defect there. Defects are drawn on good images that a model has not seen,
and both kinds judge them. The kind that surely ranks these better counts more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.planting import MOVED
from padim_edge.rehearsal.trials import PLAIN_EXTENT, Judged, Planting, Trial, judge, per_image, plain
from padim_edge.rehearsal.where import on_part, shrink_of
from padim_edge_artifact import names
from padim_edge_artifact.combination import EQUAL, GIVEN, REHEARSED, Combination
from padim_edge_artifact.kept import Kept
from padim_edge_learn.assemble import ModelOptions
from padim_edge_learn.held_out import GoodImages
from padim_edge_learn.left_out import left_out
from padim_edge_model.fused import MapStage, combined, map_stage
from padim_edge_model.graph import of_kept
from padim_edge_runtime.channel_order import feed
from padim_edge_runtime.progress import Report, none

__all__ = ["PLANTS", "Compared", "Draws", "combination_of", "compared", "compared_draws", "weight_of"]

PLANTS = 360
"""Number of defects that both kinds judge."""
_MOST = 120
"""Largest number of good images that are left out, all models together."""
_DRAWS = 400
"""Number of draws of the bootstrap."""
_SURE = 0.9
"""Certainty from which a kind counts as better; below it, both count alike."""
_BETTER = 0.85
"""Share of the better kind. The other one keeps the rest, since the defects that will come may be of other kinds."""
_MOVED_EXTENT = 2 * PLAIN_EXTENT
"""Extent in pixels from which a piece out of place counts as visible, which no contrast tells."""
_LEAST = 0.05
"""Least spread of the good images' scores, as a share of their median."""

Frame = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Draws of defects."""

    seeds: tuple[int, ...] = (0,)
    """Random seed of each draw."""
    plants: int = PLANTS
    """Number of defects of each draw; 0 for the good images alone."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Good images and planted defects, as both kinds of distance see them in models that have not seen the image."""

    judged: tuple[Judged, ...]
    """Images and defects that each model judged. Scores are numbers of rows of `position` and `memory`."""
    position: npt.NDArray[np.float32]
    """`(n, h, w)` distances to the Gaussians."""
    memory: npt.NDArray[np.float32]
    """`(n, h', w')` distances to the nearest prototypes."""
    stages: tuple[MapStage, MapStage]
    """Map stage for each of both grids."""

    @property
    def good(self) -> npt.NDArray[np.int64]:
        """Rows of the good images."""
        return np.array([int(each.score) for judged in self.judged for each in judged.good], np.int64)

    @property
    def drawn(self) -> bool:
        """Whether there are planted defects."""
        return any(judged.crops for judged in self.judged)

    def alone(self) -> tuple[Float64, Float64]:
        """Return the scores `(n,)` that each kind alone gives."""
        first, second = self.stages
        return _largest(first, self.position), _largest(second, self.memory)

    def together(self, combination: Combination) -> Float64:
        """Return the scores `(n,)` of a model with these weights."""
        return _largest(self.stages[0], combined(self.position, self.memory, combination.factors))

    def scored(self, combination: Combination) -> tuple[Judged, ...]:
        """Return the images and defects with the scores of a model with these weights."""
        scores = self.together(combination)
        return tuple(
            replace(
                each,
                good=tuple(replace(good, score=float(scores[int(good.score)])) for good in each.good),
                crops=tuple(
                    replace(crop, trial=replace(crop.trial, score=float(scores[int(crop.trial.score)]), before=before))
                    for crop in each.crops
                    for before in [None if crop.trial.before is None else float(scores[int(crop.trial.before)])]
                ),
            )
            for each in self.judged
        )


def _largest(stage: MapStage, distances: npt.NDArray[Any]) -> Float64:
    return np.array([float(stage(each[None]).max()) for each in distances])


def compared(
    kept: Kept,
    images: GoodImages,
    options: ModelOptions,
    *,
    plants: int = PLANTS,
    device: str = "cpu",
    report: Report = none,
) -> Compared:
    """Let both kinds of distance judge good images, with and without drawn defects, that they have not seen.

    Args:
        kept: Statistics and memory of the images.
        images: The images that were fitted on.
        options: Options of the model; the weights do not matter here.
        plants: Number of defects; 0 for the good images alone.
        device: Device that judges the images.
        report: Progress bar.
    """
    (found,) = compared_draws(kept, images, options, Draws((0,), plants), device=device, report=report)
    return found


def compared_draws(
    kept: Kept,
    images: GoodImages,
    options: ModelOptions,
    draws: Draws,
    *,
    device: str = "cpu",
    report: Report = none,
) -> tuple[Compared, ...]:
    """Return what `compared` returns for several draws of the defects; models are made once."""
    count = min(kept.statistics.count, _MOST)
    each = per_image(count, draws.plants)[1] if draws.plants else 0
    heads, method = of_kept(kept).heads, kept.recipe.method
    part = on_part(images, options.inspected, method.preprocessing.input_size)
    first, second = (map_stage(method.preprocessing.size, head.grid, method.sigma, options.inspected) for head in heads)
    running = [_Draw(seed, [], ([], []), []) for seed in draws.seeds]
    with report("comparing Gaussians and memory", len(running) * count * (1 + each)) as advance:
        for fold in left_out(kept, images, options, device=device, most=_MOST):
            frames = list(images.read(fold.numbers))
            for draw in running:
                named = ((number, str(number), frame) for number, frame in frames)
                planting = Planting(
                    frozenset(fold.numbers if each else ()), each, draw.seed, part, shrink_of(method.preprocessing)
                )
                draw.judged.append(judge(draw.keeping(fold.session), named, planting, advance))
    empty = [np.empty((0, *head.grid), np.float32) for head in heads]
    return tuple(
        Compared(
            tuple(draw.judged),
            np.concatenate([empty[0], *draw.rows[0]]),
            np.concatenate([empty[1], *draw.rows[1]]),
            (first, second),
        )
        for draw in running
    )


@dataclass(frozen=True, eq=False)
class _Draw:
    """Defects of one random seed, and the distances so far."""

    seed: int
    """Random seed."""
    judged: list[Judged]
    """Images and defects that each model judged."""
    rows: tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]
    """Distances of each batch: to the Gaussians, and to the prototypes."""
    counts: list[int]
    """Number of images of each batch."""

    def keeping(self, session: Any) -> Callable[[Frame], Float64]:
        """Return a function that keeps the distances of frames, and returns the numbers of their rows as scores."""

        def score(frames: Frame) -> Float64:
            first = sum(self.counts)
            self.counts.append(len(frames))
            found = session.run(list(names.FURTHER_OUTPUTS), feed(session, frames))
            for rows, own in zip(self.rows, found, strict=True):
                rows.append(own)
            return np.arange(first, first + len(frames), dtype=np.float64)

        return score


def combination_of(found: Compared, *, weight: float | None = None, seed: int = 0) -> Combination:
    """Choose the weights of both kinds of distance.

    Args:
        found: Images and defects as both kinds see them.
        weight: Share of the memory that the user wants; `None` lets the planted defects decide.
        seed: Random seed of the bootstrap.
    """
    good = found.good
    share, choice = (0.5, EQUAL) if weight is None else (weight, GIVEN)
    if not len(good):  # too few images to leave any out
        return Combination(share, (1.0, 1.0), choice)
    scores = found.alone()
    units = (_spread(scores[0][good]), _spread(scores[1][good]))
    trials = [crop.trial for judged in found.judged for crop in judged.crops]
    visible = [trial for trial in trials if _visible(trial)]
    if weight is not None or not visible:
        return Combination(share, units, choice, len(good))
    rows = np.array([int(trial.score) for trial in visible], np.int64)
    kinds = np.array([trial.kind for trial in visible])
    auroc = tuple(_auroc(each[good], each[rows]) for each in scores)
    sure = _certainty([each[good] for each in scores], [each[rows] for each in scores], kinds, seed)
    return Combination(weight_of(sure), units, REHEARSED, len(good), len(visible), (auroc[0], auroc[1]), sure)


def weight_of(certainty: float) -> float:
    """Return the share of the memory for the probability that it is the better kind."""
    if certainty >= _SURE:
        return _BETTER
    return round(1 - _BETTER, 2) if certainty <= 1 - _SURE else 0.5


def _visible(trial: Trial) -> bool:
    """Tell whether a planted defect counts: plainly visible, or a large piece out of place."""
    return plain(trial) or (trial.kind in MOVED and trial.extent >= _MOVED_EXTENT)


def _spread(scores: Float64) -> float:
    """Return the unit of a kind of distance: from the median of the good scores to their ninetieth percentile."""
    median, high = np.quantile(scores, (0.5, 0.9))
    return float(max(high - median, _LEAST * median, 1e-6))


def _auroc(good: Float64, planted: Float64) -> float:
    """Return the share of pairs in which the planted image has the higher score; equal scores count half.

    scikit-learn's checks its input each time, and this is called hundreds of times.
    """
    ordered = np.sort(good)
    below = np.searchsorted(ordered, planted, "left") + np.searchsorted(ordered, planted, "right")
    return float(below.mean() / (2 * len(good)))


def _certainty(good: Sequence[Float64], planted: Sequence[Float64], kinds: npt.NDArray[np.str_], seed: int) -> float:
    """Return the probability that the memory ranks planted images better, by a bootstrap.

    Good images, kinds of defect, and defects of each kind are drawn anew. What kinds of defect will come is the largest
    uncertainty, so drawing defects alone would be too sure.
    """
    generator = np.random.default_rng(seed)
    by_kind = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    wins = 0.0
    for _ in range(_DRAWS):
        some = generator.integers(0, len(good[0]), len(good[0]))
        chosen = generator.integers(0, len(by_kind), len(by_kind))
        rows = np.concatenate([generator.choice(by_kind[kind], len(by_kind[kind])) for kind in chosen.tolist()])
        first, second = (_auroc(one[some], other[rows]) for one, other in zip(good, planted, strict=True))
        wins += 0.5 if first == second else float(second > first)
    return wins / _DRAWS
