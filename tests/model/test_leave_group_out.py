"""Leave-group-out in closed form against brute-force refits, in every form of the distance."""

from __future__ import annotations

import heads
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import Statistics
from padim_edge_model.leave_one_out import distance_of, growth, leave_group_out, leave_one_out, ridge_without
from padim_edge_model.statistics import absorb
from padim_edge_model.whitening import Form, diagonal, low_rank, whiten

RIDGE = 0.01
FLOAT32 = 2e-3
"""Relative difference: factors and vectors are float32, and few images magnify their rounding."""


def embeddings(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d, 2, 2)).astype(np.float32) + 3


def statistics(x: np.ndarray) -> Statistics:
    found = Statistics.empty(x.shape[2:], x.shape[1])
    absorb(found.mean, found.scatter, 0, x)
    return Statistics(len(x), found.mean, found.scatter, found.grid)


def exact(x: np.ndarray, ridge: float) -> Form:
    return whiten(statistics(x), ridge, heads.parts_of([(x.shape[1], x.shape[2:])]))


def refit(x: np.ndarray, group: int) -> np.ndarray:
    """Distances `(g, h, w)` of the first g images to the Gaussians of the others, with the ridge itself."""
    return reference.distance(reference.fit(x[group:].astype(np.float64), RIDGE), x[:group])


@pytest.mark.parametrize("group", [1, 2, 5, 20])
def test_it_is_the_distance_to_a_refit_without_the_group(group: int) -> None:
    x = embeddings(60, 12, group)
    form = exact(x, ridge_without(RIDGE, len(x), group))
    np.testing.assert_allclose(leave_group_out(form, x[:group], len(x)), refit(x, group), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(4, 30), group=st.integers(1, 8), d=st.integers(1, 12), seed=st.integers(0, 99))
def test_also_with_fewer_images_than_dimensions(n: int, group: int, d: int, seed: int) -> None:
    group = min(group, n - 2)
    x = embeddings(n, d, seed)
    form = exact(x, ridge_without(RIDGE, n, group))
    np.testing.assert_allclose(leave_group_out(form, x[:group], n), refit(x, group), rtol=FLOAT32, atol=1e-4)


def test_copies_are_judged_as_if_the_image_were_there_once() -> None:
    """The law behind it all: a copy in the fit does not bring an image nearer."""
    x = embeddings(30, 5, 1)
    thrice = np.concatenate([x[:1]] * 3 + [x[1:]])
    once = leave_group_out(exact(x, ridge_without(RIDGE, 30, 1)), x[:1], 30)
    copies = leave_group_out(exact(thrice, ridge_without(RIDGE, 32, 3)), thrice[:3], 32)
    np.testing.assert_allclose(copies, np.concatenate([once] * 3), rtol=1e-4)


@pytest.mark.parametrize(
    "make", [exact, lambda x, ridge: low_rank(statistics(x), ridge, 4), lambda x, ridge: diagonal(statistics(x), ridge)]
)
def test_a_group_of_one_is_leave_one_out_in_every_form(make: object) -> None:
    x = embeddings(40, 7, 2)
    form = make(x, RIDGE)  # type: ignore[operator]
    alone = np.concatenate([leave_group_out(form, x[i : i + 1], 40) for i in range(40)])
    # The form keeps its ridge here, as leave_one_out does.
    np.testing.assert_allclose(alone, distance_of(form, x) * growth(form, x, 40), rtol=1e-3)


def test_a_group_of_one_is_the_equation_of_leave_one_out() -> None:
    x = embeddings(40, 7, 3)
    form = exact(x, RIDGE)
    alone = np.concatenate([leave_group_out(form, x[i : i + 1], 40) for i in range(40)])
    np.testing.assert_allclose(alone, leave_one_out(distance_of(form, x).astype(np.float32), 40), rtol=1e-4)


def test_a_full_rank_form_and_the_diagonal_of_one_dimension_are_exact() -> None:
    x = embeddings(30, 6, 4)
    form = low_rank(statistics(x), ridge_without(RIDGE, 30, 4), 5)  # the sixth direction is its own mean
    np.testing.assert_allclose(leave_group_out(form, x[:4], 30), refit(x, 4), rtol=0.2)
    one = x[:, :1]
    narrow = diagonal(statistics(one), ridge_without(RIDGE, 30, 4))
    np.testing.assert_allclose(leave_group_out(narrow, one[:4], 30), refit(one, 4), rtol=1e-4)


def test_all_images_but_one_may_be_left_out() -> None:
    """One image has no covariance: the distance is Euclidean in units of the ridge's root."""
    x = embeddings(5, 3, 5)
    form = exact(x, ridge_without(RIDGE, 5, 4))
    expected = np.linalg.norm(x[:4] - x[4:], axis=1) / 0.1
    np.testing.assert_allclose(leave_group_out(form, x[:4], 5), expected, rtol=FLOAT32)
