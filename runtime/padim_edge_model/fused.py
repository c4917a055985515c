"""The fused graph: an embedding graph and the constants of the distance; pixels in, score and anomaly map out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from padim_edge_artifact import names
from padim_edge_model import grids
from padim_edge_model.banded import append_matrix
from padim_edge_model.distance import append_distance
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import Array, GraphEditor, copied
from padim_edge_model.memory import Nearest
from padim_edge_model.nearest import append_nearest
from padim_edge_model.whitening import Form

__all__ = ["FusedGraph", "MapStage", "fuse", "map_matrices", "map_stage"]


@dataclass(frozen=True, eq=False)
class FusedGraph:
    """A model whose large constants stay beside it until the file is written, so that they exist only once."""

    model: onnx.ModelProto
    """Model from `image`, uint8 `(N, H, W, 3)`, to `score`, `anomaly_map` and `patch_distance`."""
    constants: dict[str, Array]
    """Constants that `model` refers to by name and does not hold."""


def map_matrices(
    size: tuple[int, int], grid: tuple[int, int], sigma: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return `rows` `(H, h)` and `columns` `(W, w)`: bicubic upsampling, then the Gaussian filter of `sigma` pixels.

    map = rows @ distance @ columns.T
    """
    rows, columns = (
        grids.gaussian(pixels, sigma) @ grids.bicubic(pixels, cells) for pixels, cells in zip(size, grid, strict=True)
    )
    return rows, columns


@dataclass(frozen=True, eq=False)
class MapStage:
    """Linear map from patch distances `(h, w)` to the anomaly map `(H, W)`.

    map = (rows @ (distance * patches) @ columns.T) * gain
    """

    rows: npt.NDArray[np.float64]
    """`(H, h)` upsampling and smoothing along the rows."""
    columns: npt.NDArray[np.float64]
    """`(W, w)` upsampling and smoothing along the columns."""
    patches: npt.NDArray[np.float64] | None
    """`(h, w)`, 1 for patches that touch the region of interest, 0 outside; `None` without a region."""
    gain: npt.NDArray[np.float64] | None
    """`(H, W)`, 0 outside the region. Inside, it makes up for the smoothing's weight on the patches left out."""

    def __call__(self, distance: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Compute anomaly maps `(..., H, W)` from distances `(..., h, w)`, in float64."""
        if self.patches is None or self.gain is None:
            return np.asarray(self.rows @ distance @ self.columns.T)
        return np.asarray((self.rows @ (distance * self.patches) @ self.columns.T) * self.gain)


def map_stage(
    size: tuple[int, int], grid: tuple[int, int], sigma: float, roi: npt.NDArray[np.bool_] | None = None
) -> MapStage:
    """Make the map stage, with an optional region of interest `(H, W)`.

    Nothing outside the region may count. So patches that do not touch it are set to 0 before the smoothing, which
    would carry them inside. The smoothing is normalised by the weight that is left.
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
    form: Form | Nearest,
    size: tuple[int, int],
    sigma: float,
    roi: npt.NDArray[np.bool_] | None = None,
) -> FusedGraph:
    """Append the distance, map and score stages to the embedding graph, in the graph's own precision.

    Args:
        embedding: The embedding graph.
        form: Constants of the distance.
        size: (H, W) of the anomaly map in pixels.
        sigma: Standard deviation of the map's Gaussian filter in pixels.
        roi: Region of interest `(H, W)`; `None` inspects everything.
    """
    (height, width), (h, w) = size, embedding.grid
    stage = map_stage(size, embedding.grid, sigma, roi)
    model = copied(embedding.model)
    editor = GraphEditor(model.graph, "head")
    node, constant = editor.node, editor.constant

    weight: str | None = None
    if isinstance(form, Nearest):
        appended = append_nearest(editor, embedding, form, stage.patches)
        distance, weight = appended.distance, appended.weight
    else:
        distance = append_distance(editor, embedding.parts, form, embedding.precision)
        distance = node("Transpose", [distance], "distance_rows", perm=[1, 0])  # (N, P)
    node("Reshape", [distance, constant("grid_shape", [-1, h, w], np.int64)], names.PATCH_DISTANCE)
    seen: str = names.PATCH_DISTANCE
    if stage.patches is not None:
        seen = node("Mul", [seen, constant("roi_patches", stage.patches)], "patch_distance_inside")
    rows = append_matrix(editor, "map_rows", stage.rows)
    if rows in editor.constants:
        columns = constant("map_columns", stage.columns.T)
    else:
        same = np.array_equal(stage.rows, stage.columns)
        columns = rows if same else append_matrix(editor, "map_columns_upright", stage.columns)
        columns = node("Transpose", [columns], "map_columns", perm=[1, 0])
    tall = node("MatMul", [rows, seen], "map_tall")
    factors = [] if stage.gain is None else [constant("roi_gain", stage.gain)]
    factors += [] if weight is None else [weight]
    steps = [*(f"map_{i}" for i in range(len(factors))), names.ANOMALY_MAP]
    node("MatMul", [tall, columns], steps[0])
    for factor, before, after in zip(factors, steps, steps[1:], strict=False):
        node("Mul", [before, factor], after)
    node("ReduceMax", [names.ANOMALY_MAP, constant("map_axes", [1, 2], np.int64)], names.SCORE, keepdims=0)

    shapes: dict[str, list[str | int]] = {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", height, width],
        names.PATCH_DISTANCE: ["N", h, w],
    }
    editor.set_outputs({name: shapes[name] for name in names.OUTPUTS})
    editor.drop_unused()
    return FusedGraph(model, editor.large)
