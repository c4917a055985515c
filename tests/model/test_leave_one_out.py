"""Leave-one-out in closed form against brute-force refits."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_model.leave_one_out import leave_one_out


def embeddings(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d, 2, 2)) + 3


def brute_force(x: np.ndarray, ridge: float, *, scaled: bool) -> np.ndarray:
    """Distances `(n, h, w)` of each image to the Gaussians of the others; `scaled` scales the refit's ridge."""
    n = len(x)
    found = []
    for i in range(n):
        others = np.delete(x, i, axis=0)
        eps = ridge * (n - 1) / (n - 2) if scaled else ridge
        found.append(reference.distance(reference.fit(others, eps), x[i : i + 1])[0])
    return np.stack(found)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 30), d=st.integers(1, 10), seed=st.integers(0, 99))
def test_it_is_exact_for_a_scaled_ridge_also_with_fewer_images_than_dimensions(n: int, d: int, seed: int) -> None:
    x = embeddings(n, d, seed)
    inside = reference.distance(reference.fit(x, 0.01), x)
    np.testing.assert_allclose(leave_one_out(inside, n), brute_force(x, 0.01, scaled=True), rtol=1e-6)


def test_it_is_near_for_the_very_ridge_with_enough_images() -> None:
    x = embeddings(60, 5, 0)
    inside = reference.distance(reference.fit(x, 0.01), x)
    np.testing.assert_allclose(leave_one_out(inside, 60), brute_force(x, 0.01, scaled=False), rtol=1e-3)


def test_two_images_are_judged_by_the_other_one() -> None:
    """One image has no covariance: the distance is Euclidean in units of the ridge's root."""
    x = embeddings(2, 4, 1)
    inside = reference.distance(reference.fit(x, 0.01), x)
    expected = np.linalg.norm(x[0] - x[1], axis=0) / 0.1
    np.testing.assert_allclose(leave_one_out(inside, 2), [expected, expected], rtol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10, 500])
def test_it_is_never_below_the_distance_inside_the_fit_and_keeps_the_order(n: int) -> None:
    bound = (n - 1) / np.sqrt(n)
    inside = np.linspace(0, bound, 50, dtype=np.float32)[None]
    outside = leave_one_out(inside, n)
    assert np.isfinite(outside).all()
    assert (np.diff(outside) >= 0).all()
    if n > 3:
        assert (outside >= inside * 0.999).all()
