"""Matrices that are kept as runs: the graph builds them again to the bit, and their bytes stay few."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from padim_edge_model import banded
from padim_edge_model.banded import append_matrix
from padim_edge_model.fused import map_matrices
from padim_edge_model.graph_editing import GraphEditor


def built(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """The matrix as onnxruntime builds it, and the bytes of the graph."""
    graph = onnx.GraphProto(name="matrix")
    editor = GraphEditor(graph, "head")
    editor.node("Identity", [append_matrix(editor, "matrix", matrix)], "out")
    editor.set_outputs({"out": matrix.shape})
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {})[0], len(content)


@pytest.mark.parametrize("size", [224, 448, 1024, 2048])
@pytest.mark.parametrize("cells", [4, 8, 16])
def test_maps_are_built_to_the_bit_in_few_bytes(size: int, cells: int) -> None:
    rows, _ = map_matrices((size, 64), (size // cells, 8), 4 * size / 224)
    found, count = built(rows)
    assert np.array_equal(found, rows.astype(np.float32))
    assert count < max(4 * 16_384, 0.6 * 4 * rows.size) + 1000


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), width=st.integers(0, 12), seed=st.integers(0, 999))
def test_any_matrix_comes_back(rows: int, columns: int, width: int, seed: int) -> None:
    """Rows may be empty, and runs may touch either end."""
    random = np.random.default_rng(seed)
    matrix = np.zeros((rows, columns))
    for row in matrix:
        first = random.integers(0, columns)
        row[first : first + width] = random.standard_normal(len(row[first : first + width]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "_DENSE", 0)
        found, _ = built(matrix)
    assert np.array_equal(found, matrix.astype(np.float32))
