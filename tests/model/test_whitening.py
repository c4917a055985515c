"""Every form of the whitened distance is the Mahalanobis distance, or as near to it as the form promises."""

from __future__ import annotations

import dataclasses

import heads
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import PadimEdgeError, Statistics
from padim_edge_artifact.method import Precision
from padim_edge_model.graph import Part
from padim_edge_model.whitening import (
    Diagonal,
    Exact,
    Form,
    LowRank,
    column_blocks,
    diagonal,
    exact_numbers,
    form_of,
    inverse_of_lower,
    levels_of,
    low_rank,
    squared_distance,
    whiten,
)

FLOAT32 = 1e-5
"""Relative error; the factors are stored in float32."""

CONDITION = 2e-4
"""Relative error; eigenvalues from the ridge, 0.01, to about 100 magnify the rounding of the factors."""

NESTED = heads.parts_of([(3, (4, 6)), (2, (2, 3)), (4, (1, 1))])
NOT_NESTED = heads.parts_of([(3, (4, 5)), (2, (3, 3)), (2, (2, 2))])
FLAT = heads.parts_of([(3, (2, 3)), (4, (2, 3))])


@st.composite
def parts(draw: st.DrawFn) -> tuple[Part, ...]:
    """One to three stages, each on a coarser grid than the one before; it may or may not fit into the finer grid."""
    grid = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    shapes = [(draw(st.integers(1, 4)), grid)]
    for _ in range(draw(st.integers(0, 2))):
        grid = (draw(st.integers(1, grid[0])), draw(st.integers(1, grid[1])))
        shapes.append((draw(st.integers(1, 4)), grid))
    return heads.parts_of(shapes)


def distances(form: Form, embeddings: np.ndarray) -> np.ndarray:
    """Distances `(N, h, w)` in float64, from the formula of each form."""
    n, d, h, w = embeddings.shape
    vectors = embeddings.reshape(n, d, -1).transpose(2, 0, 1).astype(np.float64)
    if isinstance(form, Diagonal):
        squared = np.square((vectors - form.mean[:, None]) * form.scale[:, None]).sum(axis=2)
    elif isinstance(form, LowRank):
        away = vectors - form.mean[:, None]
        kept = np.square(away @ form.factor.astype(np.float64)).sum(axis=2)
        squared = np.maximum(form.tail[:, None] * np.square(away).sum(axis=2) - kept, 0)
    else:
        squared = np.zeros(vectors.shape[:2])
        finest_first = [part for level in reversed(form.levels) for part in reversed(level.parts)]
        ends = np.cumsum([part.dims for part in finest_first])
        where = {part.name: np.arange(end - part.dims, end) for part, end in zip(finest_first, ends, strict=True)}
        before: list[np.ndarray] = []
        for level in form.levels:
            own = np.concatenate([where[part.name] for part in level.parts])
            rows, columns = (np.arange(many) * few // many for many, few in zip((h, w), level.grid, strict=True))
            cells = (rows[:, None] * level.grid[1] + columns).ravel()
            before.append(vectors[:, :, own] - level.mean[cells][:, None])
            squared += np.square(np.concatenate(before, axis=2) @ level.factor[cells].astype(np.float64)).sum(axis=2)
    return np.sqrt(squared).T.reshape(n, h, w)


def mahalanobis(values: list[np.ndarray], others: list[np.ndarray], ridge: float) -> np.ndarray:
    gaussians = reference.fit(heads.joined(values).astype(np.float64), ridge)
    return reference.distance(gaussians, heads.joined(others).astype(np.float64))


def finest(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same embedding with all stages on the finest grid."""
    return tuple(dataclasses.replace(part, grid=parts[0].grid) for part in parts)


@settings(max_examples=40, deadline=None)
@given(parts=parts(), n=st.integers(2, 20), seed=st.integers(0, 99))
def test_in_levels_as_one_level_and_as_the_dense_inverse_the_distance_is_the_same(
    parts: tuple[Part, ...], n: int, seed: int
) -> None:
    """This holds with fewer images than dimensions, and for grids that do not fit into each other, too."""
    values, others = heads.draw(parts, n, seed), heads.draw(parts, 3, seed + 1)
    statistics = heads.statistics_of(values)
    dense = mahalanobis(values, others, 0.01)
    levels, one = whiten(statistics, 0.01, parts), whiten(statistics, 0.01, finest(parts))
    assert len(one.levels) == 1
    for form in (levels, one):
        np.testing.assert_allclose(distances(form, heads.joined(others)), dense, rtol=CONDITION)
    vectors = heads.joined(others).reshape(3, statistics.dims, -1).transpose(2, 0, 1)
    squared = squared_distance(levels, np.ascontiguousarray(vectors), parts[0].grid)
    np.testing.assert_allclose(np.sqrt(squared).T.reshape(dense.shape), dense, rtol=CONDITION)


@pytest.mark.parametrize(("parts", "levels"), [(NESTED, 3), (NOT_NESTED, 1), (FLAT, 1), (NESTED[:2], 2)])
def test_there_is_a_level_for_each_grid_that_fits_into_the_next_finer_one(parts: tuple[Part, ...], levels: int) -> None:
    form = whiten(heads.statistics_of(heads.draw(parts, 5, 0)), 0.01, parts)
    assert len(form.levels) == levels
    assert [part.name for level in form.levels for part in level.parts] == [part.name for part in reversed(parts)]
    sizes = [int(np.prod(level.grid)) for level in form.levels]
    assert sizes == sorted(sizes)
    assert [len(level.mean) for level in form.levels] == [len(level.factor) for level in form.levels] == sizes


def test_patches_of_one_coarse_cell_share_its_block_of_the_statistics() -> None:
    """Levels rest on this law, which holds for means and covariances bit by bit."""
    statistics = heads.statistics_of(heads.draw(NESTED, 12, 0))
    mean, scatter = statistics.mean.reshape(4, 6, 9), statistics.scatter.reshape(4, 6, 9, 9)
    middle, coarse = slice(3, 9), slice(5, 9)
    for row, column in ((0, 0), (2, 4)):
        cell = np.s_[row : row + 2, column : column + 2]
        assert (mean[cell][..., middle] == mean[row, column, middle]).all()
        assert (scatter[cell][..., middle, middle] == scatter[row, column, middle, middle]).all()
    assert (scatter[..., coarse, coarse] == scatter[0, 0, coarse, coarse]).all()
    assert (scatter[0, 0, :3, :3] != scatter[0, 1, :3, :3]).any()  # the finest stage shares nothing


def test_the_distance_of_the_mean_is_zero_in_every_form() -> None:
    values = heads.draw(NESTED, 30, 0)
    statistics = heads.statistics_of(values)
    mean = statistics.mean.T.reshape(1, 9, 4, 6)
    for form in (whiten(statistics, 0.01, NESTED), low_rank(statistics, 0.01, 3), diagonal(statistics, 0.01)):
        assert distances(form, mean).max() < FLOAT32 * 10


def test_the_distance_does_not_change_when_the_features_are_mixed() -> None:
    """It is invariant under invertible linear maps, as long as the ridge does not matter."""
    parts = heads.parts_of([(4, (2, 3))])
    (values,), (others,) = heads.draw(parts, 60, 1), heads.draw(parts, 5, 2)
    mixing = np.random.default_rng(3).standard_normal((4, 4)) + 3 * np.eye(4)

    def mixed(x: np.ndarray) -> np.ndarray:
        return np.einsum("cd,ndhw->nchw", mixing, x).astype(np.float32)

    ridge = 1e-9
    plain = distances(whiten(heads.statistics_of([values]), ridge, parts), others)
    again = distances(whiten(heads.statistics_of([mixed(values)]), ridge, parts), mixed(others))
    np.testing.assert_allclose(again, plain, rtol=1e-3)  # mixed vectors are rounded to float32


def test_the_own_rows_of_every_factor_are_triangular() -> None:
    for level in whiten(heads.statistics_of(heads.draw(NESTED, 20, 0)), 0.01, NESTED).levels:
        own = level.factor[:, -level.mean.shape[1] :]
        assert (np.tril(own, -1) == 0).all()
        assert (np.diagonal(own, axis1=1, axis2=2) > 0).all()


@settings(deadline=None)
@given(st.integers(1, 600))
def test_column_blocks_cover_all_columns_in_multiples_of_the_kernels_width_but_for_the_first(dims: int) -> None:
    blocks = column_blocks(dims)
    assert [i for start, stop in blocks for i in range(start, stop)] == list(range(dims))
    assert all(stop - start == 32 for start, stop in blocks[1:])
    assert blocks[0][1] <= 48


@settings(max_examples=20, deadline=None)
@given(parts=parts(), n=st.integers(2, 12), seed=st.integers(0, 99))
def test_one_direction_less_than_images_is_exact(parts: tuple[Part, ...], n: int, seed: int) -> None:
    values, others = heads.draw(parts, n, seed), heads.draw(parts, 3, seed + 1)
    statistics = heads.statistics_of(values)
    if n - 1 >= statistics.dims:
        return
    found = distances(low_rank(statistics, 0.01, n - 1), heads.joined(others))
    np.testing.assert_allclose(found, mahalanobis(values, others, 0.01), rtol=CONDITION)


def test_the_error_of_a_low_rank_falls_with_the_rank_and_one_less_than_the_dimensions_is_exact() -> None:
    """It does so on average. The one direction that is left then has its own variance as the mean."""
    parts = heads.parts_of([(12, (4, 4)), (8, (2, 2))])
    values, others = heads.draw(parts, 60, 0), heads.draw(parts, 20, 1)
    statistics, exact = heads.statistics_of(values), mahalanobis(values, others, 0.01)
    found = {rank: distances(low_rank(statistics, 0.01, rank), heads.joined(others)) for rank in (2, 6, 10, 14, 18, 19)}
    errors = [float(np.abs(each / exact - 1).mean()) for each in found.values()]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 5 * errors[-2]
    np.testing.assert_allclose(found[19], exact, rtol=CONDITION)


def test_a_low_rank_is_the_gaussian_whose_other_directions_share_their_mean_variance() -> None:
    """This is its equation, from the covariance itself."""
    parts = heads.parts_of([(6, (1, 1))])
    values, others = heads.draw(parts, 20, 0), heads.draw(parts, 4, 1)
    eigenvalues, vectors = np.linalg.eigh(np.cov(values[0][:, :, 0, 0], rowvar=False) + 0.01 * np.eye(6))
    eigenvalues[:-2] = eigenvalues[:-2].mean()
    away = others[0][:, :, 0, 0] - values[0][:, :, 0, 0].mean(axis=0)
    expected = np.sqrt((np.square(away @ vectors) / eigenvalues).sum(axis=1))
    found = distances(low_rank(heads.statistics_of(values), 0.01, 2), others[0])
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=CONDITION)


def test_a_diagonal_is_the_sum_over_single_dimensions() -> None:
    values, others = heads.draw(NOT_NESTED, 20, 0), heads.draw(NOT_NESTED, 4, 1)
    each, other = heads.joined(values).astype(np.float64), heads.joined(others).astype(np.float64)
    expected = np.sqrt((np.square(other - each.mean(axis=0)) / (each.var(axis=0, ddof=1) + 0.01)).sum(axis=1))
    found = distances(diagonal(heads.statistics_of(values), 0.01), other)
    np.testing.assert_allclose(found, expected, rtol=FLOAT32)


@settings(max_examples=40, deadline=None)
@given(parts=parts(), n=st.integers(2, 12))
def test_of_the_exact_forms_the_smaller_one_is_taken(parts: tuple[Part, ...], n: int) -> None:
    statistics = heads.statistics_of(heads.draw(parts, n, 0))
    form = form_of(statistics, 0.01, parts, Precision())
    low = (n - 1) * statistics.dims * int(np.prod(parts[0].grid))
    assert isinstance(form, LowRank) == (low < exact_numbers(parts))
    if isinstance(form, LowRank):
        assert form.factor.size == low


def test_the_form_is_the_one_that_was_asked_for() -> None:
    statistics = heads.statistics_of(heads.draw(NESTED, 30, 0))
    assert isinstance(form_of(statistics, 0.01, NESTED, Precision()), Exact)
    assert isinstance(form_of(statistics, 0.01, NESTED, Precision(diagonal=True)), Diagonal)
    ranked = form_of(statistics, 0.01, NESTED, Precision(rank=5))
    assert isinstance(ranked, LowRank)
    assert ranked.factor.shape == (24, 9, 5)


def test_levels_save_what_coarse_cells_share() -> None:
    """With the 100 dimensions of preset `edge` on ResNet-18's grids, they are about a third of the whole matrices."""
    edge = heads.parts_of([(25, (56, 56)), (50, (28, 28)), (25, (14, 14))])
    assert [part.dims for (part,) in levels_of(edge)] == [25, 50, 25]
    assert exact_numbers(edge) == 3136 * 100 * 25 + 784 * 75 * 50 + 196 * 25 * 25
    whole = 3136 * 100 * 100
    assert exact_numbers(edge) < 0.35 * whole
    assert exact_numbers(finest(edge)) < 0.7 * whole  # triangular blocks alone


REFUSED = [
    lambda statistics, ridge: whiten(statistics, ridge, FLAT),
    lambda statistics, ridge: low_rank(statistics, ridge, 2),
    diagonal,
]


@pytest.mark.parametrize("form", REFUSED, ids=["exact", "low rank", "diagonal"])
@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(form, ridge: float) -> None:
    with pytest.raises(PadimEdgeError, match="expected a positive number"):
        form(heads.statistics_of(heads.draw(FLAT, 20, 0)), ridge)


@pytest.mark.parametrize("form", REFUSED, ids=["exact", "low rank", "diagonal"])
def test_one_image_is_refused(form) -> None:
    with pytest.raises(PadimEdgeError, match="expected at least 2"):
        form(heads.statistics_of(heads.draw(FLAT, 1, 0)), 0.01)


@pytest.mark.parametrize("form", REFUSED, ids=["exact", "low rank", "diagonal"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_statistics_that_are_not_those_of_images_are_refused(form, value: float) -> None:
    damaged: Statistics = heads.statistics_of(heads.draw(FLAT, 20, 0))
    damaged.scatter[1, 0, 0] = value
    with pytest.raises(PadimEdgeError, match="not finite"):
        form(damaged, 0.01)


@pytest.mark.parametrize("rank", [0, -1, 7, 100])
def test_a_rank_that_leaves_nothing_out_or_keeps_nothing_is_refused(rank: int) -> None:
    with pytest.raises(PadimEdgeError, match="expected 1 to 6"):
        low_rank(heads.statistics_of(heads.draw(FLAT, 20, 0)), 0.01, rank)


@pytest.mark.parametrize("dims", [1, 2, 15, 16, 17, 33, 100])
def test_the_inverse_of_a_triangle_is_one_and_is_a_triangle(dims: int) -> None:
    draw = np.random.default_rng(dims).standard_normal((5, dims, 2 * dims))
    lower = np.linalg.cholesky(draw @ draw.transpose(0, 2, 1) / dims + 0.003 * np.eye(dims))
    inverse = inverse_of_lower(lower)
    assert not np.triu(inverse, 1).any()
    np.testing.assert_allclose(lower @ inverse, np.broadcast_to(np.eye(dims), lower.shape), atol=1e-12)
