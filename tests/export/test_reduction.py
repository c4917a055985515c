"""Laws of the reduction to D dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import reduction_matrix

from padim_edge_artifact import PadimEdgeError
from padim_edge_export import reduction

CHANNELS = (64, 128, 256)
SHARES = (0.25, 0.5, 0.25)


@pytest.mark.parametrize("shares", [None, SHARES])
@pytest.mark.parametrize("kind", reduction.KINDS)
def test_rows_are_orthonormal(kind: str, shares: tuple[float, ...] | None) -> None:
    """A choice of channels, a joint projection and a block projection are all semi-orthogonal matrices."""
    _, stages = reduction.draw(kind, CHANNELS, 100, 0, shares)
    matrix = reduction_matrix(stages, CHANNELS, joint=kind == "semi-orthogonal" and shares is None)
    assert matrix.shape == (100, 448)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(100), atol=1e-6)  # projections are stored in float32


@given(dims=st.integers(1, 448), seed=st.integers(0, 1000), shared=st.booleans())
def test_random_keeps_different_channels_and_records_them(dims: int, seed: int, shared: bool) -> None:
    recorded, stages = reduction.draw("random", CHANNELS, dims, seed, SHARES if shared else None)
    assert recorded.channels is not None
    assert list(recorded.channels) == sorted(set(recorded.channels))
    assert len(recorded.channels) == dims
    bounds = (0, 64, 192)
    rebuilt = [int(c) + low for stage, low in zip(stages, bounds, strict=True) for c in stage.channels]
    assert tuple(rebuilt) == recorded.channels


@given(
    channels=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    data=st.data(),
)
def test_split_deals_out_every_dimension_within_the_channels(channels: list[int], data: st.DataObject) -> None:
    dims = data.draw(st.integers(1, sum(channels)))
    shares = data.draw(st.lists(st.floats(0.05, 1), min_size=len(channels), max_size=len(channels)))
    dealt = reduction.split(dims, tuple(channels), tuple(shares))
    assert sum(dealt) == dims
    assert all(0 <= kept <= there for kept, there in zip(dealt, channels, strict=True))


def test_the_presets_shares_are_a_quarter_a_half_and_a_quarter() -> None:
    assert reduction.split(100, CHANNELS, SHARES) == (25, 50, 25)


@pytest.mark.parametrize("kind", reduction.KINDS)
def test_the_seed_decides_and_the_callers_generator_is_left_alone(kind: str) -> None:
    np.random.seed(5)  # noqa: NPY002  the global generator must not be touched
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (reduction.draw(kind, CHANNELS, 50, seed)[1] for seed in (1, 1, 2))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002

    def matrix(stages: tuple[reduction.StageReduction, ...]) -> np.ndarray:
        return reduction_matrix(stages, CHANNELS, joint=kind == "semi-orthogonal")

    np.testing.assert_array_equal(matrix(first), matrix(again))
    assert not np.array_equal(matrix(first), matrix(other))


@pytest.mark.parametrize("dims", [0, -1, 449])
def test_impossible_numbers_of_dimensions_are_refused(dims: int) -> None:
    with pytest.raises(PadimEdgeError, match=rf"--dims is {dims}, expected 1 to 448"):
        reduction.draw("random", CHANNELS, dims, 0)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PadimEdgeError, match="random, semi-orthogonal"):
        reduction.draw("pca", CHANNELS, 10, 0)


def _covariance(channels: int) -> np.ndarray:
    half = np.random.default_rng(5).standard_normal((channels, channels))
    return half @ half.T


def test_principal_components_keep_the_most_variance_that_so_many_directions_can() -> None:
    covariance = _covariance(12)
    recorded, stages = reduction.principal(covariance, (2, 4, 6), 5)
    matrix = np.concatenate([each.projection for each in stages], axis=1).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-6)
    kept = np.trace(matrix @ covariance @ matrix.T)
    assert kept == pytest.approx(np.sort(np.linalg.eigvalsh(covariance))[-5:].sum(), rel=1e-6)
    variances = np.diag(matrix @ covariance @ matrix.T)
    assert np.all(np.diff(variances) < 0)
    assert (recorded.channels, recorded.stage_dims) == (None, None)


def test_principal_components_of_each_stage_by_its_share() -> None:
    covariance = _covariance(12)
    recorded, stages = reduction.principal(covariance, (2, 4, 6), 6, (0.25, 0.5, 0.25))
    assert recorded.stage_dims == tuple(len(each.projection) for each in stages) == (2, 3, 1)
    own = np.linalg.eigvalsh(covariance[2:6, 2:6])
    assert np.trace(stages[1].projection @ covariance[2:6, 2:6] @ stages[1].projection.T) == pytest.approx(
        own[-3:].sum(), rel=1e-6
    )


def test_all_components_lose_nothing() -> None:
    _, stages = reduction.principal(_covariance(6), (2, 4), 6)
    matrix = np.concatenate([each.projection for each in stages], axis=1)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-6)
    with pytest.raises(PadimEdgeError, match="expected 1 to 6"):
        reduction.principal(_covariance(6), (2, 4), 7)
