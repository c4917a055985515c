"""Embedding graph + whitening constants -> the fused graph: pixels in; score, anomaly map, patch distances out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import names
from padim_edge_export import grids
from padim_edge_export.embedding import EmbeddingGraph
from padim_edge_export.whitening import Whitening

__all__ = ["FusedGraph", "fuse", "map_matrices"]


@dataclass(frozen=True, eq=False)
class FusedGraph:
    """A graph whose large constants stand beside it until the file is written, so that they exist only once."""

    model: onnx.ModelProto
    constants: dict[str, npt.NDArray[np.float32]]
    """Initializers that `model` refers to by name and does not hold."""


def map_matrices(
    size: tuple[int, int], grid: tuple[int, int], sigma: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`(H, h)` and `(W, w)`: bicubic upsampling and then the Gaussian filter; `map = rows @ d @ columns.T`."""
    rows, columns = (
        grids.gaussian(pixels, sigma) @ grids.bicubic(pixels, cells) for pixels, cells in zip(size, grid, strict=True)
    )
    return rows, columns


def fuse(embedding: EmbeddingGraph, whitening: Whitening, size: tuple[int, int], sigma: float) -> FusedGraph:
    """Append the distance, map and score stages to the embedding graph.

    The batched MatMul takes the picture's vectors on the left (measured: 1.2 times faster on the CPU than the factor
    on the left, at batch 1), and the bias is subtracted after it.
    """
    (height, width), (h, w), dims = size, embedding.grid, embedding.dims
    rows, columns = map_matrices(size, embedding.grid, sigma)
    model = onnx.ModelProto()
    model.CopyFrom(embedding.model)
    graph = model.graph

    def constant(name: str, values: npt.ArrayLike, kind: type[np.generic] = np.float32) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=kind), name))
        return name

    def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], name=f"head/{kind}_{output}", **attributes))
        return output

    flat = node("Reshape", [names.EMBEDDING, constant("flat_shape", [0, dims, h * w], np.int64)], "embedding_flat")
    vectors = node("Transpose", [flat], "embedding_vectors", perm=[2, 0, 1])  # (P, N, D)
    whitened = node("MatMul", [vectors, "whitening_factor"], "whitened_raw")
    whitened = node("Sub", [whitened, constant("whitening_bias", whitening.bias[:, None, :])], "whitened")
    distance = node("ReduceL2", [whitened, constant("last_axis", [2], np.int64)], "distance", keepdims=0)  # (P, N)
    distance = node("Transpose", [distance], "distance_rows", perm=[1, 0])
    node("Reshape", [distance, constant("grid_shape", [-1, h, w], np.int64)], names.PATCH_DISTANCE)
    tall = node("MatMul", [constant("map_rows", rows), names.PATCH_DISTANCE], "map_tall")
    node("MatMul", [tall, constant("map_columns", columns.T)], names.ANOMALY_MAP)
    node("ReduceMax", [names.ANOMALY_MAP, constant("map_axes", [1, 2], np.int64)], names.SCORE, keepdims=0)

    shapes: dict[str, list[str | int]] = {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", height, width],
        names.PATCH_DISTANCE: ["N", h, w],
    }
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names.OUTPUTS)
    return FusedGraph(model, {"whitening_factor": whitening.factor})
