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

__all__ = ["FusedGraph", "MapStage", "fuse", "map_matrices", "map_stage"]


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


@dataclass(frozen=True, eq=False)
class MapStage:
    """From patch distances `(h, w)` to the map: `(rows @ (distance * patches) @ columns.T) * gain`."""

    rows: npt.NDArray[np.float64]
    """`(H, h)`."""
    columns: npt.NDArray[np.float64]
    """`(W, w)`."""
    patches: npt.NDArray[np.float64] | None
    """`(h, w)`, 1 for patches that touch the region of interest, 0 outside; `None` without one."""
    gain: npt.NDArray[np.float64] | None
    """`(H, W)`, 0 outside the region; inside, it makes up for the smoothing's weight that fell on the patches left
    out."""

    def __call__(self, distance: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """`(..., h, w)` -> `(..., H, W)`, in float64."""
        if self.patches is None or self.gain is None:
            return np.asarray(self.rows @ distance @ self.columns.T)
        return np.asarray((self.rows @ (distance * self.patches) @ self.columns.T) * self.gain)


def map_stage(
    size: tuple[int, int], grid: tuple[int, int], sigma: float, roi: npt.NDArray[np.bool_] | None = None
) -> MapStage:
    """The map stage, with an optional region of interest `(H, W)`.

    Nothing outside the region may count, so the patches that do not touch it are silenced before the smoothing, which
    would carry them inside; the smoothing is normalised by the weight that is left.
    """
    rows, columns = map_matrices(size, grid, sigma)
    if roi is None:
        return MapStage(rows, columns, None, None)
    edges = [np.arange(cells) * pixels // cells for cells, pixels in zip(grid, size, strict=True)]
    patches = np.maximum.reduceat(np.maximum.reduceat(roi, edges[0], axis=0), edges[1], axis=1).astype(np.float64)
    weight = rows @ patches @ columns.T
    # Deep inside the weight is 1; at the rim of a region of one patch it is still about 0.1.
    return MapStage(rows, columns, patches, np.where(roi, 1 / np.maximum(weight, 0.05), 0.0))


def fuse(
    embedding: EmbeddingGraph,
    whitening: Whitening,
    size: tuple[int, int],
    sigma: float,
    roi: npt.NDArray[np.bool_] | None = None,
) -> FusedGraph:
    """Append the distance, map and score stages to the embedding graph.

    The batched MatMul takes the picture's vectors on the left (measured: 1.2 times faster on the CPU than the factor
    on the left, at batch 1), and the bias is subtracted after it.
    """
    (height, width), (h, w), dims = size, embedding.grid, embedding.dims
    stage = map_stage(size, embedding.grid, sigma, roi)
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
    seen: str = names.PATCH_DISTANCE
    if stage.patches is not None:
        seen = node("Mul", [seen, constant("roi_patches", stage.patches)], "patch_distance_inside")
    tall = node("MatMul", [constant("map_rows", stage.rows), seen], "map_tall")
    smooth = names.ANOMALY_MAP if stage.gain is None else "map_smooth"
    node("MatMul", [tall, constant("map_columns", stage.columns.T)], smooth)
    if stage.gain is not None:
        node("Mul", [smooth, constant("roi_gain", stage.gain)], names.ANOMALY_MAP)
    node("ReduceMax", [names.ANOMALY_MAP, constant("map_axes", [1, 2], np.int64)], names.SCORE, keepdims=0)

    shapes: dict[str, list[str | int]] = {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", height, width],
        names.PATCH_DISTANCE: ["N", h, w],
    }
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names.OUTPUTS)
    return FusedGraph(model, {"whitening_factor": whitening.factor})
