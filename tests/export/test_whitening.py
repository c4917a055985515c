"""The whitened distance is the Mahalanobis distance."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import PadimEdgeError, Statistics
from padim_edge_artifact.statistics import absorb
from padim_edge_export.whitening import whiten

FLOAT32 = 1e-5
"""Relative; the factors are stored in float32."""


def statistics_of(embeddings: np.ndarray) -> Statistics:
    n, d, h, w = embeddings.shape
    statistics = Statistics.empty((h, w), d)
    absorb(statistics.mean, statistics.scatter, 0, embeddings.astype(np.float32))
    return Statistics(n, statistics.mean, statistics.scatter, (h, w))


def draw(n: int, d: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((d, d))
    return np.einsum("cd,ndhw->nchw", mixing, generator.standard_normal((n, d, 2, 3))).astype(np.float32)


def distances(statistics: Statistics, ridge: float, embeddings: np.ndarray) -> np.ndarray:
    whitening = whiten(statistics, ridge)
    n, d, h, w = embeddings.shape
    vectors = embeddings.reshape(n, d, -1).transpose(2, 0, 1).astype(np.float64)
    away = vectors @ whitening.factor.astype(np.float64) - whitening.bias[:, None]
    return np.linalg.norm(away, axis=2).T.reshape(n, h, w)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_distance_is_mahalanobis_also_with_fewer_pictures_than_dimensions(n: int, d: int, seed: int) -> None:
    embeddings, others = draw(n, d, seed), draw(3, d, seed + 1)
    expected = reference.distance(reference.fit(embeddings.astype(np.float64), 0.01), others.astype(np.float64))
    found = distances(statistics_of(embeddings), 0.01, others)
    np.testing.assert_allclose(found, expected, rtol=2e-4)  # mixing makes eigenvalues from 0.01 to 100


def test_the_distance_of_the_mean_is_zero() -> None:
    statistics = statistics_of(draw(30, 8, 0))
    mean = statistics.mean.T.reshape(1, 8, 2, 3)
    assert distances(statistics, 0.01, mean).max() < FLOAT32 * 10


def test_the_distance_does_not_change_when_the_features_are_mixed() -> None:
    """Invariant under invertible linear maps, as long as the ridge does not matter."""
    embeddings, others = draw(60, 4, 1).astype(np.float64), draw(5, 4, 2).astype(np.float64)
    mixing = np.random.default_rng(3).standard_normal((4, 4)) + 3 * np.eye(4)

    def mixed(x: np.ndarray) -> np.ndarray:
        return np.einsum("cd,ndhw->nchw", mixing, x)

    ridge = 1e-9
    plain = distances(statistics_of(embeddings), ridge, others)
    np.testing.assert_allclose(distances(statistics_of(mixed(embeddings)), ridge, mixed(others)), plain, rtol=1e-3)


def test_the_factor_is_triangular() -> None:
    factor = whiten(statistics_of(draw(20, 6, 0)), 0.01).factor
    assert (np.tril(factor, -1) == 0).all()


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(ridge: float) -> None:
    with pytest.raises(PadimEdgeError, match="expected a positive number"):
        whiten(statistics_of(draw(20, 6, 0)), ridge)


def test_one_picture_is_refused() -> None:
    with pytest.raises(PadimEdgeError, match="expected at least 2"):
        whiten(statistics_of(draw(1, 3, 0)), 0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_statistics_that_are_not_those_of_pictures_are_refused(value: float) -> None:
    good = statistics_of(draw(20, 3, 0))
    good.scatter[1, 0, 0] = value
    with pytest.raises(PadimEdgeError, match="not finite"):
        whiten(good, 0.01)
