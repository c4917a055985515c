"""Large matrices of which each row has one short run of numbers, kept as those runs.

The matrices of the anomaly map grow with the number of pixels. At 1024 x 1024 they would take 1 MB, a sixth of a small
model; their runs take 0.1 MB. onnxruntime and TensorRT build the matrix once, when they load the model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from padim_edge_model.graph_editing import GraphEditor

__all__ = ["append_matrix"]

_DENSE = 16_384
"""Number of entries up to which a matrix is kept as it is; 224 x 56, of the usual frame, has 12 544."""


def append_matrix(editor: GraphEditor, name: str, matrix: npt.NDArray[np.float64]) -> str:
    """Return the name of a tensor that holds the matrix in float32: a constant, or one that is built from its runs.

    Args:
        editor: Editor of the graph.
        name: Name of the constant.
        matrix: `(rows, columns)`.
    """
    runs = _runs(matrix)
    if matrix.size <= _DENSE or 2 * runs.shape[1] > matrix.shape[1]:
        return editor.constant(name, matrix)
    first = _first(matrix, runs.shape[1])
    shape = editor.constant(f"{name}_shape", matrix.shape, np.int64)
    nothing = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    empty = editor.node("ConstantOfShape", [shape], f"{name}_empty", value=nothing)
    steps = editor.constant(f"{name}_steps", np.arange(runs.shape[1])[None], np.int64)
    places = editor.node("Add", [editor.constant(f"{name}_first", first[:, None], np.int64), steps], f"{name}_places")
    return editor.node("ScatterElements", [empty, places, editor.constant(f"{name}_runs", runs)], name, axis=1)


def _first(matrix: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.int64]:
    """Return the column `(rows,)` at which each row's run of `width` numbers begins."""
    return np.asarray(np.minimum((matrix != 0).argmax(axis=1), matrix.shape[1] - width), np.int64)


def _runs(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `(rows, width)`: each row from its first number that is not 0, as far as the longest run goes."""
    filled = matrix != 0
    last = matrix.shape[1] - filled[:, ::-1].argmax(axis=1)
    width = max(1, int((last - filled.argmax(axis=1)).max()))
    columns = _first(matrix, width)[:, None] + np.arange(width)
    return np.take_along_axis(matrix, columns, axis=1)
