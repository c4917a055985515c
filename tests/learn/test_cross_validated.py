"""Held-out scores of a memory: each image is judged by a model that has nothing of its fold nor of its repeats."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn_memory import DIMS, GRID, embedded, learned, method, parts
from drawn_memory import distances as reference_distances
from drawn_memory import scores as reference_scores
from drawn_statistics import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import Memory, PadimEdgeError, names
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.memory import FOLDS
from padim_edge_artifact.method import Method
from padim_edge_artifact.reference import Seen
from padim_edge_learn import cross_validated as module
from padim_edge_learn.cross_validated import cross_validated
from padim_edge_learn.folds import Folds
from padim_edge_learn.held_out import GoodImages, HeldOut
from padim_edge_learn.suspects import suspects
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_model.comparable import Observed
from padim_edge_model.memory import Nearest, merge_memories, nearest_of
from padim_edge_model.repeats import Recorder

COUNT = 40
HOW = method(prototypes=150)
FRAMES = parts(COUNT)

Frame = np.ndarray


class Session:
    """A model computed by numpy, from all differences."""

    def __init__(self, nearest: Nearest) -> None:
        self.nearest = nearest

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=names.IMAGE)]

    def run(self, outputs: list[str], feed: dict[str, Frame]) -> list[np.ndarray]:
        assert outputs == [names.SCORE, names.PATCH_DISTANCE]
        found = reference_distances(self.nearest, embedded(feed[names.IMAGE]))
        return [found.max(axis=(1, 2)), found]


def kept_of(frames: Frame, *, named: Sequence[str | None] | None = None, how: Method = HOW) -> Kept:
    """The memory of these images, as a fit keeps it."""
    observed, recorder = Observed(Seen.nothing(GRID)), Recorder(Evidence.nothing())
    for frame, group in zip(frames, named or [None] * len(frames), strict=True):
        observed.add(frame)
        recorder.add(frame, group)
    recipe = dataclasses.replace(RECIPE, method=how)
    start = Kept(recipe, b"", Memory.empty(GRID, DIMS), Seen.nothing(GRID))
    folds = Folds(start)
    chosen = [folds.choose(each, place, len(frames)) for place, each in enumerate(recorder.evidence.named.tolist())]
    return dataclasses.replace(
        start,
        statistics=learned(embedded(frames), how, folds=chosen),
        seen=observed.seen,
        evidence=recorder.evidence,
    )


def good(frames: Sequence[Frame] | Frame, *, torn: frozenset[int] = frozenset()) -> GoodImages:
    def read(numbers: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        yield from ((number, frames[number]) for number in numbers if number not in torn)

    return GoodImages(read, len(frames))


def refit_of(kept: Kept, asked: list[frozenset[int]] | None = None) -> Callable[[frozenset[int]], Any]:
    def refit(left_out: frozenset[int]) -> Session:
        if asked is not None:
            asked.append(left_out)
        return Session(model(kept, left_out))

    return refit


def model(kept: Kept, without: frozenset[int] = frozenset()) -> Nearest:
    return nearest_of(memory(kept), kept.recipe.method, without)


def memory(kept: Kept) -> Memory:
    assert isinstance(kept.statistics, Memory)
    return kept.statistics


def held(kept: Kept, images: Sequence[Frame] | Frame, **options: Any) -> HeldOut:
    return cross_validated(kept, good(images, **options), refit_of(kept), Observed(kept.seen))


def odd(frame: Frame) -> Frame:
    """The same image with a green square, as no other has it."""
    found = frame.copy()
    found[10:18, 12:20] = (30, 220, 30)
    return found


def assert_judged_without(kept: Kept, found: HeldOut, frames: Frame, left_out: Sequence[frozenset[int]]) -> None:
    """Each score must be that of the model without these folds."""
    for folds in set(left_out):
        own = [place for place, other in enumerate(left_out) if other == folds]
        expected = reference_scores(model(kept, folds), embedded(frames[found.numbers[own]]))
        np.testing.assert_allclose(found.scores[own], expected, rtol=1e-6)


def test_each_image_is_judged_by_the_model_without_its_fold() -> None:
    kept = kept_of(FRAMES)
    found = held(kept, FRAMES)
    assert found.numbers.tolist() == list(range(COUNT))
    assert len(np.unique(found.groups)) == COUNT
    assert found.drift is None
    assert_judged_without(kept, found, FRAMES, [frozenset({fold}) for fold in memory(kept).fold_of.tolist()])


@settings(max_examples=20, deadline=None)
@given(fold=st.integers(0, FOLDS - 1), seed=st.integers(0, 99))
def test_a_model_without_a_fold_knows_nothing_of_it(fold: int, seed: int) -> None:
    """Whatever its images are, the model is the same to the bit."""
    kept = kept_of(FRAMES)
    own = memory(kept).fold_of == fold
    others = FRAMES.copy()
    others[own] = np.random.default_rng(seed).integers(0, 256, others[own].shape, np.uint8)
    one, other = (model(each, frozenset({fold})) for each in (kept, kept_of(others)))
    for field in ("mean", "whitening", "prototypes"):
        assert np.array_equal(getattr(one, field), getattr(other, field))


def test_an_image_of_its_own_kind_scores_high_though_the_memory_holds_it() -> None:
    frames = FRAMES.copy()
    frames[13] = odd(frames[13])
    kept = kept_of(frames, how=method(prototypes=COUNT * GRID[0] * GRID[1]))
    inside = reference_scores(model(kept), embedded(frames))
    found = held(kept, frames)
    assert inside[13] < 0.1
    assert found.scores[13] > 2 * np.delete(found.scores, 13).max()
    assert suspects(found.alone).flagged == (13,)


@pytest.mark.parametrize("place", [14, 30, 39])
def test_a_copy_in_any_fold_does_not_lower_the_score(place: int) -> None:
    frames = FRAMES.copy()
    frames[13] = odd(frames[13])
    alone = held(kept_of(frames), frames)
    frames[place] = frames[13]
    kept = kept_of(frames)
    found = held(kept, frames)
    folds = memory(kept).fold_of
    both = frozenset({int(folds[13]), int(folds[place])})
    assert found.groups[13] == found.groups[place]
    for number in (13, place):
        assert found.scores[number] > 0.7 * alone.scores[13] > np.delete(found.scores, [13, place]).max()
        expected = reference_scores(model(kept, both), embedded(frames[number][None]))[0]
        assert found.scores[number] == pytest.approx(expected, rel=1e-6)


def test_named_groups_are_left_out_together() -> None:
    """Parts that were photographed in turn, and then images that nobody named."""
    named = [f"part {number % 4}" if number < 30 else None for number in range(COUNT)]
    kept = kept_of(FRAMES, named=named)
    folds = memory(kept).fold_of
    groups = {name: set(folds[[i for i, other in enumerate(named) if other == name]].tolist()) for name in named[:4]}
    assert sorted(map(len, groups.values())) == [1, 1, 1, 1]
    assert len(set.union(*groups.values())) == 4
    found = held(kept, FRAMES)
    assert_judged_without(kept, found, FRAMES, [frozenset({int(fold)}) for fold in folds])
    assert len(np.unique(found.groups)) == 4 + 10


def test_named_groups_of_merged_memories_are_left_out_together() -> None:
    named = ["a", "b", "c", "d", "e"] * 8
    first, second = kept_of(FRAMES[:20], named=named[:20]), kept_of(FRAMES[20:], named=named[::-1][20:])
    merged = merge_memories(memory(first), memory(second), HOW)
    kept = dataclasses.replace(first, statistics=merged, evidence=first.evidence.merged(second.evidence))
    folds = merged.fold_of
    names = np.array([*named[:20], *named[::-1][20:]])
    together = [frozenset(folds[names == name].tolist()) for name in names]
    assert {len(each) for each in together} == {1, 2}
    assert_judged_without(kept, held(kept, FRAMES), FRAMES, together)


def in_turn(count: int) -> Frame:
    """Images of a few parts, one after the other, again and again."""
    return FRAMES[np.arange(COUNT) % count]


def test_parts_that_come_again_and_again_are_refused_unless_they_are_named() -> None:
    """A memory without an image's fold holds its copies. So its threshold would be next to nothing."""
    with pytest.raises(PadimEdgeError, match=r"5 of the 5 independent good images come again.*--group"):
        held(kept_of(in_turn(5)), in_turn(5))
    kept = kept_of(in_turn(5), named=[f"part {number % 5}" for number in range(COUNT)])
    assert (held(kept, in_turn(5)).scores > 1).all()


def test_one_scene_that_comes_again_and_again_does_no_harm() -> None:
    """An empty conveyor belt, between others."""
    frames = FRAMES.copy()
    frames[::4] = frames[0]
    found = held(kept_of(frames), frames)
    assert len(np.unique(found.groups)) == 1 + 30
    assert (np.delete(found.scores, np.arange(0, COUNT, 4)) > 1).all()


def test_some_of_the_images_in_any_order_are_enough() -> None:
    kept = kept_of(FRAMES)
    whole = held(kept, FRAMES)
    some = np.random.default_rng(1).permutation(COUNT)[:15]
    found = held(kept, FRAMES[some])
    assert found.numbers.tolist() == list(range(15))
    np.testing.assert_allclose(found.scores, whole.scores[some], rtol=1e-6)
    assert found.groups.tolist() == whole.groups[some].tolist()


def test_images_that_cannot_be_read_are_left_out() -> None:
    kept = kept_of(FRAMES)
    found = held(kept, FRAMES, torn=frozenset({0, 17}))
    assert found.numbers.tolist() == [number for number in range(COUNT) if number not in (0, 17)]
    with pytest.raises(PadimEdgeError, match="none of the good images can be read"):
        held(kept, FRAMES, torn=frozenset(range(COUNT)))


def test_strangers_are_refused() -> None:
    with pytest.raises(PadimEdgeError, match=r"2 of the 42 good images were not fitted on \(the first is number 41\)"):
        held(kept_of(FRAMES), np.concatenate([FRAMES, parts(2, seed=8)]))


@pytest.mark.parametrize("order", ["as fitted", "shuffled", "two lines that take turns", "each twice"])
def test_each_model_is_made_at_most_twice_in_whatever_order_the_images_come(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "side_by_side", lambda _: 4)
    frames, kept = FRAMES, kept_of(FRAMES)
    if order == "shuffled":
        frames = FRAMES[np.random.default_rng(2).permutation(COUNT)]
    elif order == "two lines that take turns":
        lines = FRAMES[: COUNT // 2], FRAMES[COUNT // 2 :]
        first, second = (kept_of(line) for line in lines)
        merged = merge_memories(memory(first), memory(second), HOW)
        kept = dataclasses.replace(first, statistics=merged, evidence=first.evidence.merged(second.evidence))
        frames = np.stack(lines, axis=1).reshape(FRAMES.shape)
    elif order == "each twice":
        frames = np.concatenate([FRAMES, FRAMES[np.random.default_rng(3).permutation(COUNT)]])
        kept = kept_of(frames)
    asked: list[frozenset[int]] = []
    found = cross_validated(kept, good(frames), refit_of(kept, asked), Observed(kept.seen))
    assert len(found.scores) == len(frames)
    often = [asked.count(left_out) for left_out in set(asked)]
    assert max(often) <= 2
    if order == "as fitted":
        assert asked == [frozenset({fold}) for fold in range(FOLDS)]


def test_images_that_are_all_neighbours_cannot_be_held_out() -> None:
    """These images are left where all others cannot be read."""
    some = memory(kept_of(FRAMES))
    kept = kept_of(FRAMES[:2])
    alone = dataclasses.replace(kept, statistics=dataclasses.replace(some, count=2, fold_of=np.zeros(2, np.int64)))
    with pytest.raises(PadimEdgeError, match="2 good images are neighbours"):
        held(alone, FRAMES[:2])


@pytest.mark.parametrize("count", [2, 3])
def test_two_images_are_judged_by_each_other(count: int) -> None:
    frames = FRAMES[:count]
    kept = kept_of(frames)
    found = held(kept, frames)
    assert len(found.scores) == count
    assert (found.scores > 1).all()
    for number in range(count):
        others = np.delete(frames, number, axis=0)
        assert found.scores[number] == pytest.approx(
            reference_scores(
                model(kept, frozenset({int(memory(kept).fold_of[number])})), embedded(frames[number][None])
            )[0],
            rel=1e-6,
        )
        assert len(others) == count - 1


def test_the_look_and_the_distances_of_all_images_are_noted() -> None:
    kept = kept_of(FRAMES)
    observed = Observed(kept.seen)
    cross_validated(kept, good(FRAMES), refit_of(kept), observed)
    assert observed.seen.likeness.judged == COUNT
    assert observed.seen.likeness.highest > 0


RATES = {0.05: (0.01, 0.09), 0.10: (0.04, 0.15)}
"""False alarms asked for, and the range in which those found must lie."""


def test_false_alarms_come_at_about_the_rate_that_was_asked_for() -> None:
    """Four fits of 60 images, and 150 fresh images for each: chance alone moves the mean by a few hundredths."""
    found: dict[float, list[float]] = {rate: [] for rate in RATES}
    for seed in range(4):
        frames = parts(60, seed=100 + seed)
        kept = kept_of(frames)
        fresh = reference_scores(model(kept), embedded(parts(150, seed=200 + seed)))
        calibration = calibrate(held(kept, frames).scores)
        for rate, alarms in found.items():
            alarms.append(float((fresh > threshold(calibration, rate)).mean()))
    for rate, (lowest, highest) in RATES.items():
        assert lowest < np.mean(found[rate]) < highest
