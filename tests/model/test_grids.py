"""Matrices along one axis: their laws, and torch and scipy as references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from padim_edge_model import grids
from padim_edge_model.fused import map_matrices

SIZES = st.integers(1, 70)
EXACT = 1e-12
"""Absolute error; both sides compute in float64."""


@settings(max_examples=40, deadline=None)
@given(outputs=SIZES, inputs=SIZES)
def test_bicubic_is_torchs_for_any_sizes(outputs: int, inputs: int) -> None:
    signal = np.random.default_rng(0).standard_normal(inputs)
    expected = torch.nn.functional.interpolate(
        torch.tensor(signal)[None, None, :, None], size=(outputs, 1), mode="bicubic", align_corners=False
    )[0, 0, :, 0].numpy()
    np.testing.assert_allclose(grids.bicubic(outputs, inputs) @ signal, expected, atol=EXACT)


@settings(max_examples=40, deadline=None)
@given(cells=SIZES, sigma=st.floats(0.1, 12))
def test_gaussian_is_scipys_also_where_the_kernel_is_wider_than_the_signal(cells: int, sigma: float) -> None:
    signal = np.random.default_rng(1).standard_normal(cells)
    expected = ndimage.gaussian_filter1d(signal, sigma, mode="reflect", truncate=4)
    np.testing.assert_allclose(grids.gaussian(cells, sigma) @ signal, expected, atol=EXACT)


@settings(max_examples=40, deadline=None)
@given(cells=SIZES, factor=st.integers(1, 8))
def test_nearest_repeats_cells_by_whole_factors(cells: int, factor: int) -> None:
    signal = np.arange(cells)
    np.testing.assert_array_equal(grids.nearest(cells * factor, cells) @ signal, signal.repeat(factor))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_mean_pool_is_torchs_without_counting_the_padding(side: int) -> None:
    plane = np.random.default_rng(2).standard_normal((9, 7))
    expected = torch.nn.functional.avg_pool2d(
        torch.tensor(plane)[None, None], side, stride=1, padding=side // 2, count_include_pad=False
    )[0, 0].numpy()
    found = grids.mean_pool(9, side) @ plane @ grids.mean_pool(7, side).T
    np.testing.assert_allclose(found, expected, atol=EXACT)


@settings(max_examples=20, deadline=None)
@given(outputs=SIZES, inputs=SIZES, sigma=st.floats(0, 5))
def test_a_constant_stays_the_same_constant(outputs: int, inputs: int, sigma: float) -> None:
    """All rows sum to 1, so a map has the unit of the distances it was made of."""
    matrices = (
        grids.bicubic(outputs, inputs),
        grids.nearest(outputs, inputs),
        grids.mean_pool(outputs, 3),
        grids.gaussian(outputs, sigma),
    )
    for matrix in matrices:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=EXACT)


def test_map_matrices_take_height_and_width_apart() -> None:
    rows, columns = map_matrices((64, 96), (16, 24), 2.0)
    assert rows.shape == (64, 16)
    assert columns.shape == (96, 24)
