"""Statistics: one pass over the images equals numpy over all of them, and merging is exact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, Statistics
from padim_edge_model.statistics import absorb, merge

ROUNDING = 1e-12
"""Relative to the largest entry: float64 over at most 40 images of values near 3; measured 2e-15."""
LARGE_MEAN_ROUNDING = 1e-8
"""The same where the mean is 1e4 times the spread; `E[xx'] - mean mean'` would be wrong by 1e-7 and more."""

Embeddings = npt.NDArray[np.float32]


def draw(n: int, d: int, seed: int, grid: tuple[int, int] = (2, 3), mean: float = 3) -> Embeddings:
    """`(n, d, h, w)` float32."""
    return (np.random.default_rng(seed).standard_normal((n, d, *grid)) + mean).astype(np.float32)


def fit(embeddings: Embeddings, *batches: int) -> Statistics:
    """One pass, cut into batches at the given places."""
    grid = embeddings.shape[2:]
    start = Statistics.empty((grid[0], grid[1]), embeddings.shape[1])
    mean, scatter, count = start.mean, start.scatter, 0
    for batch in np.split(embeddings, sorted(batches)):
        if len(batch):
            absorb(mean, scatter, count, batch)
            count += len(batch)
    return Statistics(count, mean, scatter, start.grid)


def assert_same(found: Statistics, expected: Statistics, tolerance: float = ROUNDING) -> None:
    assert (found.count, found.grid, found.dims) == (expected.count, expected.grid, expected.dims)
    for name in ("mean", "scatter"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()), err_msg=name)


sizes = {"n": st.integers(1, 40), "d": st.integers(1, 8), "seed": st.integers(0, 99)}


@settings(deadline=None, max_examples=60)
@given(**sizes, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_streaming_equals_numpy_over_all_images(n: int, d: int, seed: int, cuts: list[int]) -> None:
    x = draw(n, d, seed)
    found = fit(x, *(min(cut, n) for cut in cuts))
    vectors = x.astype(np.float64).reshape(n, d, 6).transpose(2, 0, 1)
    scatter = np.stack([np.cov(v.T, ddof=0).reshape(d, d) * n for v in vectors])
    assert_same(found, Statistics(n, vectors.mean(axis=1), scatter, (2, 3)))


def test_a_large_mean_costs_no_digits() -> None:
    x = draw(40, 3, 0, mean=1e4)
    vectors = x.astype(np.float64).reshape(40, 3, 6).transpose(2, 0, 1)
    expected = np.stack([np.cov(v.T) for v in vectors])
    np.testing.assert_allclose(fit(x, 1, 7, 20).scatter / 39, expected, rtol=LARGE_MEAN_ROUNDING)


def test_more_patches_than_are_worked_on_at_a_time() -> None:
    x = draw(9, 2, 1, grid=(20, 30))
    vectors = x.astype(np.float64).reshape(9, 2, 600).transpose(2, 0, 1)
    found = fit(x, 4)
    np.testing.assert_allclose(found.mean, vectors.mean(axis=1), rtol=1e-12)
    assert_same(merge(fit(x[:4]), fit(x[4:])), found)


@settings(deadline=None, max_examples=60)
@given(**sizes, cut=st.integers(0, 40))
def test_merging_two_parts_is_fitting_the_whole(n: int, d: int, seed: int, cut: int) -> None:
    x = draw(n, d, seed)
    assert_same(merge(fit(x[: min(cut, n)]), fit(x[min(cut, n) :])), fit(x))


@settings(deadline=None, max_examples=40)
@given(a=st.integers(0, 9), b=st.integers(0, 9), c=st.integers(0, 9), d=st.integers(1, 5))
def test_merge_is_associative_and_commutative(a: int, b: int, c: int, d: int) -> None:
    first, second, third = (fit(draw(n, d, seed)) for seed, n in enumerate((a, b, c)))
    assert_same(merge(merge(first, second), third), merge(first, merge(second, third)))
    assert_same(merge(first, second), merge(second, first))


def test_the_empty_statistics_are_neutral_to_the_bit() -> None:
    some, none = fit(draw(5, 3, 0)), Statistics.empty((2, 3), 3)
    for both in (merge(some, none), merge(none, some)):
        assert both.count == 5
        assert np.array_equal(both.mean, some.mean)
        assert np.array_equal(both.scatter, some.scatter)
    assert merge(none, none).count == 0


def test_merging_changes_neither_part() -> None:
    first, second = fit(draw(5, 3, 0)), fit(draw(4, 3, 1))
    before = [array.copy() for s in (first, second) for array in (s.mean, s.scatter)]
    merge(first, second)
    after = [array for s in (first, second) for array in (s.mean, s.scatter)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("other", [Statistics.empty((3, 2), 3), Statistics.empty((2, 3), 4)])
def test_statistics_of_another_shape_are_refused(other: Statistics) -> None:
    with pytest.raises(ArtifactError, match="cannot be merged"):
        merge(Statistics.empty((2, 3), 3), other)


@pytest.mark.parametrize("scale", [1.0, 3e4])
def test_the_scatter_is_symmetric_and_positive_semidefinite(scale: float) -> None:
    scatter = fit(draw(7, 5, 2) * np.float32(scale), 3).scatter
    np.testing.assert_allclose(scatter, scatter.transpose(0, 2, 1), rtol=1e-12, atol=1e-9 * scale**2)
    eigenvalues = np.linalg.eigvalsh(scatter)
    assert eigenvalues.min() >= -1e-12 * eigenvalues.max()


def test_merging_in_place_gives_the_same_and_takes_no_second_copy() -> None:
    a, b = fit(draw(7, 4, 1)), fit(draw(5, 4, 2))
    expected = merge(a, b)
    found = merge(a, b, in_place=True)
    assert_same(found, expected, 0)
    assert found.scatter is a.scatter
    assert found.mean is a.mean
