"""The fused graph: an embedding graph and the constants of the distance; pixels in, score and anomaly map out."""

from __future__ import annotations

import itertools
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
from padim_edge_model.whitening import Form, cells_of

__all__ = ["FusedGraph", "MapStage", "Pair", "combined", "fuse", "map_matrices", "map_stage"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Constants of both kinds of distance, which are added up.

    distance = factors[0] * distance to the Gaussian of the place + factors[1] * distance to the nearest prototype
    """

    gaussians: Form
    """Constants of the Gaussians."""
    memory: Nearest
    """Constants of the memory, without re-weighting."""
    factors: tuple[float, float]
    """Factor of each distance, positive."""


def combined(position: npt.NDArray[Any], memory: npt.NDArray[Any], factors: tuple[float, float]) -> Float64:
    """Add up both distances: `(..., h, w)` of the Gaussians' patches, `(..., h', w')` of the memory's.

    Each patch takes the distance of the memory's cell that it lies in. So nothing from outside a region of interest
    comes inside.
    """
    grid = (int(position.shape[-2]), int(position.shape[-1]))
    cells = cells_of((int(memory.shape[-2]), int(memory.shape[-1])), grid)
    spread = memory.reshape(*memory.shape[:-2], -1)[..., cells].reshape(position.shape)
    return np.asarray(factors[0] * position.astype(np.float64) + factors[1] * spread.astype(np.float64))


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
    patches = _patches_inside(size, grid, roi)
    assert patches is not None
    weight = rows @ patches @ columns.T
    # Deep inside the weight is 1; at the rim of a region of one patch it is still about 0.1.
    return MapStage(rows, columns, patches, np.where(roi, 1 / np.maximum(weight, 0.05), 0.0))


def _patches_inside(size: tuple[int, int], grid: tuple[int, int], roi: npt.NDArray[np.bool_] | None) -> Float64 | None:
    """Return `(h, w)`, 1 for the patches that touch a region of interest `(H, W)` and 0 for others; `None` for none."""
    if roi is None:
        return None
    edges = [np.arange(cells) * pixels // cells for cells, pixels in zip(grid, size, strict=True)]
    return np.maximum.reduceat(np.maximum.reduceat(roi, edges[0], axis=0), edges[1], axis=1).astype(np.float64)


def fuse(
    embedding: EmbeddingGraph,
    form: Form | Nearest | Pair,
    size: tuple[int, int],
    sigma: float,
    roi: npt.NDArray[np.bool_] | None = None,
    grid: tuple[int, int] | None = None,
) -> FusedGraph:
    """Append the distance, map and score stages to the embedding graph, in the graph's own precision.

    Args:
        embedding: The embedding graph.
        form: Constants of the distance.
        size: (H, W) of the anomaly map in pixels.
        sigma: Standard deviation of the map's Gaussian filter in pixels.
        roi: Region of interest `(H, W)`; `None` inspects everything.
        grid: (h, w) that the distances of a memory alone are spread to; `None` for its own.
    """
    (height, width), (h, w) = size, grid or embedding.grid
    stage = map_stage(size, (h, w), sigma, roi)
    model = copied(embedding.model)
    beside = _append_beside(model, embedding.heads[1], form.memory, (size, roi)) if isinstance(form, Pair) else {}
    editor = GraphEditor(model.graph, "head")
    editor.large |= beside
    node, constant = editor.node, editor.constant

    shapes: dict[str, list[str | int]] = {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", height, width],
        names.PATCH_DISTANCE: ["N", h, w],
    }
    weight: str | None = None
    if isinstance(form, Nearest):
        own = names.PATCH_DISTANCE if grid is None else "memory_distance"
        inside = stage.patches if grid is None else _patches_inside(size, embedding.grid, roi)
        weight = _append_memory(editor, embedding, form, inside, own)
        if grid is not None:
            _append_spread(editor, own, (embedding.grid, grid), names.PATCH_DISTANCE)
    elif isinstance(form, Pair):
        shapes |= _append_sum(editor, embedding, form)
    else:
        _append_gaussians(editor, embedding, form, names.PATCH_DISTANCE)
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

    editor.set_outputs(shapes)
    editor.drop_unused()
    return FusedGraph(model, editor.large)


def _append_gaussians(editor: GraphEditor, embedding: EmbeddingGraph, form: Form, output: str) -> None:
    """Append the distance `(N, h, w)` of each patch to the Gaussian of its place."""
    distance = append_distance(editor, embedding.parts, form, embedding.precision)
    rows = editor.node("Transpose", [distance], "distance_rows", perm=[1, 0])  # (N, P)
    editor.node("Reshape", [rows, editor.constant("grid_shape", [-1, *embedding.grid], np.int64)], output)


def _append_memory(
    editor: GraphEditor, embedding: EmbeddingGraph, form: Nearest, inspected: Float64 | None, output: str
) -> str | None:
    """Append the distance `(N, h, w)` of each patch to the nearest prototype; return the name of the map's weight."""
    appended = append_nearest(editor, embedding, form, inspected)
    shape = editor.constant("memory_shape", [-1, *embedding.grid], np.int64)
    editor.node("Reshape", [appended.distance, shape], output)
    return appended.weight


def _append_beside(
    model: onnx.ModelProto,
    embedding: EmbeddingGraph,
    form: Nearest,
    inspected: tuple[tuple[int, int], npt.NDArray[np.bool_] | None],
) -> dict[str, Array]:
    """Append the distance of a memory to a graph that gains that of Gaussians next; return its large constants.

    Both stages name some tensors alike, so those of the memory get a prefix.
    """
    editor = GraphEditor(model.graph, "memory")
    there = len(editor.nodes)
    size, roi = inspected
    inside = _patches_inside(size, embedding.grid, roi)
    weight = _append_memory(editor, embedding, form, inside, names.DISTANCE_OF_MEMORY)
    assert weight is None, "Method refuses re-weighting beside Gaussians"
    added = editor.nodes[there:]
    own = {name for node in added for name in node.output} - {names.DISTANCE_OF_MEMORY}
    for node in added:
        node.input[:] = [f"memory/{name}" if name in own else name for name in node.input]
        node.output[:] = [f"memory/{name}" if name in own else name for name in node.output]
    return editor.large


def _append_sum(editor: GraphEditor, embedding: EmbeddingGraph, form: Pair) -> dict[str, list[str | int]]:
    """Append the distance to the Gaussians and the weighted sum of both; return the shapes of both as outputs."""
    position, memory = embedding.heads
    _append_gaussians(editor, position, form.gaussians, names.DISTANCE_OF_POSITION)
    shares = []
    for name, factor in zip(names.FURTHER_OUTPUTS, form.factors, strict=True):
        shares.append(editor.node("Mul", [name, editor.constant(f"{name}_factor", factor)], f"{name}_share"))
    own, other = shares
    spread = _append_spread(editor, other, (memory.grid, position.grid), "memory_spread")
    editor.node("Add", [own, spread], names.PATCH_DISTANCE)
    return {names.DISTANCE_OF_POSITION: ["N", *position.grid], names.DISTANCE_OF_MEMORY: ["N", *memory.grid]}


def _append_spread(
    editor: GraphEditor, distances: str, grids: tuple[tuple[int, int], tuple[int, int]], output: str
) -> str:
    """Append distances on a coarse grid, given to each patch of a fine one that lies in the cell: `combined`."""
    coarse, fine = grids
    steps = [distances, f"{output}_rows", output]  # along the rows, then along the columns
    for axis, (before, after) in enumerate(itertools.pairwise(steps)):
        cells = np.arange(fine[axis]) * coarse[axis] // fine[axis]
        index = editor.constant(f"memory_cells{axis}", cells, np.int64)
        editor.node("Gather", [before, index], after, axis=axis + 1)
    return output
