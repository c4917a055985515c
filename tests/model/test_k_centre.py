"""Greedy k-centre selection against the plain loop, written straight down in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_model import k_centre
from padim_edge_model.k_centre import cover, farthest_first

ROUNDING = 2e-5
"""Error of a squared distance in float32, relative to the points' largest squared length; copies are told by half."""


@contextmanager
def short_rounds(candidates: int = 12, centres: int = 3, rows: int = 7) -> Iterator[None]:
    """Let a few hundred points take many rounds, as millions do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k_centre, "_CANDIDATES", candidates)
        patch.setattr(k_centre, "_ROUND", centres)
        patch.setattr(k_centre, "_ROWS", rows)
        yield


def squared(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.square(points.astype(np.float64) - centre.astype(np.float64)).sum(axis=1)


def plain(points: np.ndarray, count: int, start: int) -> list[int]:
    """The algorithm of the paper: take the farthest point, the first of several, until all are copies."""
    taken, distance = [start], squared(points, points[start])
    while len(taken) < count and distance.max() > 0:
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, squared(points, points[taken[-1]]))
    return taken


def shortfalls(points: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """How much nearer each point was to those before it than the farthest one was, in squared distance."""
    distance = squared(points, points[taken[0]])
    found = []
    for index in taken[1:]:
        found.append(distance.max() - distance[index])
        distance = np.minimum(distance, squared(points, points[index]))
    return np.array(found)


def radius(points: np.ndarray, taken: np.ndarray) -> float:
    """Distance of the point that is farthest from the taken ones."""
    distance = np.full(len(points), np.inf)
    for index in taken:
        distance = np.minimum(distance, squared(points, points[index]))
    return float(np.sqrt(distance.max()))


def drawn(kind: str, count: int, dims: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if kind == "random":
        return draw.standard_normal((count, dims)).astype(np.float32)
    places = 3 * draw.standard_normal((5, dims))
    points = (places[draw.integers(0, 5, count)] + 0.1 * draw.standard_normal((count, dims))).astype(np.float32)
    return points if kind == "clustered" else points[draw.integers(0, max(1, count // 4), count)]


KINDS = ("random", "clustered", "copies")

many = given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 300),
    dims=st.integers(1, 40),
    wanted=st.integers(1, 320),
    seed=st.integers(0, 999),
)


@settings(max_examples=60, deadline=None)
@many
def test_each_point_is_the_farthest_from_those_before_it(
    kind: str, count: int, dims: int, wanted: int, seed: int
) -> None:
    points = drawn(kind, count, dims, seed)
    with short_rounds():
        taken = farthest_first(points, wanted, start=[seed % count])
    assert taken[0] == seed % count
    assert len(np.unique(taken)) == len(taken) <= min(wanted, count)
    near = ROUNDING * float(np.square(points.astype(np.float64)).sum(axis=1).max())
    assert (shortfalls(points, taken) <= near).all()
    if len(taken) < min(wanted, count):
        assert radius(points, taken) ** 2 <= near


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 300),
    dims=st.integers(1, 4),
    levels=st.integers(1, 5),
    wanted=st.integers(1, 320),
    seed=st.integers(0, 999),
)
def test_on_whole_numbers_it_is_the_plain_loop_to_the_index(
    count: int, dims: int, levels: int, wanted: int, seed: int
) -> None:
    """Distances of whole numbers have no rounding, so even ties and copies are decided alike."""
    points = np.random.default_rng(seed).integers(0, levels, (count, dims)).astype(np.float32)
    start = seed % count
    assert farthest_first(points, wanted, start=[start]).tolist() == plain(points, wanted, start)
    with short_rounds():  # where several are farthest, another one of them may be among the candidates
        taken = farthest_first(points, wanted, start=[start])
    assert len(taken) <= wanted
    assert (shortfalls(points, taken) == 0).all()
    if len(taken) < wanted:
        assert radius(points, taken) == 0
        assert len(taken) == len(np.unique(points, axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_plain_loop_in_full_size(kind: str) -> None:
    points = drawn(kind, 9000, 24, 5)
    taken = farthest_first(points, 600, start=[17])
    if kind == "random":  # the others have points as far as each other, up to rounding
        assert taken.tolist() == plain(points, 600, 17)
    assert (shortfalls(points, taken) <= ROUNDING * np.square(points).sum(axis=1).max()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_index(kind: str) -> None:
    points = drawn(kind, 9000, 24, 6)
    one, two, three, usual = (farthest_first(points, 500, workers=workers) for workers in (1, 2, 3, None))
    assert one.tolist() == two.tolist() == three.tolist() == usual.tolist()


@settings(max_examples=30, deadline=None)
@many
def test_more_points_cover_no_worse_and_begin_with_the_same(
    kind: str, count: int, dims: int, wanted: int, seed: int
) -> None:
    points = drawn(kind, count, dims, seed)
    with short_rounds():
        taken = farthest_first(points, wanted)
        fewer = farthest_first(points, max(1, wanted // 2))
    assert fewer.tolist() == taken[: len(fewer)].tolist()
    assert radius(points, taken) <= radius(points, fewer)


@settings(max_examples=60, deadline=None)
@given(
    dims=st.integers(1, 300),
    count=st.integers(1, 200),
    scale=st.sampled_from((1e-3, 1.0, 1e4)),
    seed=st.integers(0, 999),
)
def test_equal_points_are_one(dims: int, count: int, scale: float, seed: int) -> None:
    """Rounding must not tell copies apart, however long the vectors are."""
    one = (scale * np.random.default_rng(seed).standard_normal(dims)).astype(np.float32)
    assert farthest_first(np.tile(one, (count, 1)), 50).tolist() == [0]
    two = np.stack([one, 2 * one])[np.arange(count) % 2]
    assert len(farthest_first(two, 50)) == min(count, 2)


def test_one_point_is_the_first_and_all_are_all() -> None:
    points = drawn("random", 50, 8, 1)
    assert farthest_first(points, 1, start=[9]).tolist() == [9]
    for wanted in (50, 51, 1000):
        assert sorted(farthest_first(points, wanted, start=[9]).tolist()) == list(range(50))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 300), wanted=st.integers(1, 40), dims=st.integers(1, 40), seed=st.integers(0, 999))
def test_each_point_belongs_to_the_nearest_one_taken(count: int, wanted: int, dims: int, seed: int) -> None:
    points = drawn("clustered", count, dims, seed)
    with short_rounds():
        taken, owner = cover(points, wanted)
    apart = np.stack([squared(points, points[index]) for index in taken], axis=1)
    near = ROUNDING * np.square(points).sum(axis=1).max() + ROUNDING
    assert (apart[np.arange(count), owner] <= apart.min(axis=1) + near).all()
    assert (owner[taken] == np.arange(len(taken))).all()


def test_it_begins_with_all_starts_each_once() -> None:
    points = drawn("random", 100, 4, 0)
    taken = farthest_first(points, 10, start=[7, 3, 7, 50])
    assert taken[:3].tolist() == [7, 3, 50]
    assert len(np.unique(taken)) == 10
    assert farthest_first(points, 2, start=[7, 3, 50]).tolist() == [7, 3]
