"""Means by products with matrices become pools over windows, with the same result."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from rewriting import assert_same, graph, kinds, weights

from padim_edge_export import rewrites
from padim_edge_model import grids


def moved(rows: np.ndarray, columns: np.ndarray, channels: int) -> onnx.ModelProto:
    """Features `(N, channels, H, W)` pooled by products with matrices, as the embedding graph does it."""
    (high, height), (wide, width) = rows.shape, columns.shape
    text = f"""(float[n,{channels},{height},{width}] x) => (float[n,{channels},{high},{wide}] y) {{
        tall = MatMul(rows, x)
        y = MatMul(tall, columns)
    }}"""
    return graph(text, rows=rows.astype(np.float32), columns=columns.T.astype(np.float32))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), st.sampled_from([3, 5, 7]))
@settings(max_examples=25, deadline=None)
def test_means_over_windows_and_blocks_are_pools(high: int, wide: int, down: int, across: int, side: int) -> None:
    rows, columns = (
        grids.mean_of(outputs, outputs * block) @ grids.mean_pool(outputs * block, side)
        for outputs, block in ((high, down), (wide, across))
    )
    model = moved(rows, columns, 16)
    written = assert_same(model, rewrites.pool_by_windows, x=weights(2, 16, high * down, wide * across))
    if min(high * down, wide * across) > side:  # on fewer cells, windows of several sides are the same
        assert written == 1
        assert kinds(model) == ["AveragePool"] * (1 if (down, across) == (1, 1) else 2)


@pytest.mark.parametrize(
    ("rows", "columns", "channels"),
    [
        (grids.mean_pool(8, 3), grids.mean_pool(8, 3), 20),  # onnxruntime's pools take 16 channels together
        (grids.mean_pool(8, 3), grids.mean_pool(8, 5), 16),
        (grids.nearest(8, 4) @ grids.mean_pool(4, 3), grids.nearest(8, 4) @ grids.mean_pool(4, 3), 16),
        (grids.bilinear(8, 4) @ grids.mean_pool(4, 3), grids.bilinear(8, 4) @ grids.mean_pool(4, 3), 16),
        (grids.mean_of(5, 9) @ grids.mean_pool(9, 3), grids.mean_of(5, 9) @ grids.mean_pool(9, 3), 16),
        (grids.mean_pool(4, 3) @ grids.mean_of(4, 8), grids.mean_pool(4, 3) @ grids.mean_of(4, 8), 16),
        (grids.gaussian(8, 1.0), grids.gaussian(8, 1.0), 16),
    ],
    ids=["channels", "uneven", "nearest", "bilinear", "overlapping", "behind", "gaussian"],
)
def test_other_products_are_no_pools(rows: np.ndarray, columns: np.ndarray, channels: int) -> None:
    model = moved(rows, columns, channels)
    assert rewrites.pool_by_windows(model) == 0
    assert kinds(model) == ["MatMul", "MatMul"]


def test_a_product_that_somebody_else_reads_stays() -> None:
    model = moved(grids.mean_pool(8, 3), grids.mean_pool(8, 3), 16)
    model.graph.output.append(helper.make_tensor_value_info("tall", TensorProto.FLOAT, ["n", 16, 8, 8]))
    assert rewrites.pool_by_windows(model) == 0
