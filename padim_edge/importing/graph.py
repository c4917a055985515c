"""An imported PaDiM as our graph: the same features, the inverse covariances as triangular factors, the same map.

anomalib keeps the inverse P of each covariance and computes d = sqrt(c' P c) for the centred vector c of a patch. Here
P = F F' with the factors F that `padim_edge_model.whitening` makes of the covariance P^-1, in float64, and d = |F' c|.
The map is bilinear upsampling and a Gaussian filter that mirrors at the border without repeating the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from padim_edge.importing.source import RIDGE, Padim, refuse
from padim_edge_artifact import PadimEdgeError, Preprocessing, Statistics, names
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.metadata import Backbone, Reduction
from padim_edge_artifact.method import Method
from padim_edge_artifact.recipe import Recipe
from padim_edge_artifact.reference import Seen
from padim_edge_model import grids
from padim_edge_model.banded import append_matrix
from padim_edge_model.distance import append_distance
from padim_edge_model.fused import FusedGraph, MapStage
from padim_edge_model.graph import EmbeddingGraph, records
from padim_edge_model.graph_editing import GraphEditor, copied
from padim_edge_model.whitening import Exact, whiten

if TYPE_CHECKING:
    from padim_edge_export.backbones import Trunk

__all__ = ["Built", "build", "fused", "map_stage", "method_of"]

Float64 = npt.NDArray[np.float64]

_CHUNK = 64
"""Number of covariances inverted at a time."""
_LEAST = 1e-7
"""Smallest eigenvalue of an inverse covariance in units of its largest one; below it, rounding made the matrix up."""
_LOOKED_AT = 64
"""Number of covariances whose directions are counted."""
_DIRECTIONS = 0.05
"""Share of the ridge by which a variance must exceed it to count as seen in the images, not as rounding."""


@dataclass(frozen=True, eq=False)
class Built:
    """An imported PaDiM, ready to be written."""

    kept: Kept
    """Its statistics, with the embedding graph. The number of images is the smallest that they can come from."""
    embedding: EmbeddingGraph
    """Embedding graph."""
    form: Exact
    """Constants of the distance."""
    to_map: MapStage
    """Map stage."""
    lifted: int
    """Number of inverse covariances that were not positive definite and were lifted to it."""


def method_of(source: Padim) -> Method:
    """Return the method with which the model is made."""
    frame = source.frame
    return Method(
        preset="anomalib",
        preprocessing=Preprocessing(frame.resize, frame.crop, frame.interpolation),
        backbone=source.backbone,
        layers=source.layers,
        reduction="random",
        dims=len(source.chosen),
        seed=0,
        shares=None,
        pooling=1,
        pool_patches=False,
        ridge=RIDGE,
        sigma=source.sigma,
    )


def build(source: Padim, class_name: str) -> Built:
    """Turn the values into an embedding graph, statistics, and constants of the distance.

    Raises:
        PadimEdgeError: The weights do not fit the backbone, or the Gaussians do not fit the frame.
    """
    from padim_edge_export import embedding, strips
    from padim_edge_export.reduction import StageReduction

    method = method_of(source)
    trunk = _trunk(source)
    order = np.argsort(source.chosen)
    chosen = source.chosen[order]
    ends = np.cumsum((0, *trunk.description.channels))
    if chosen[0] < 0 or chosen[-1] >= ends[-1]:
        raise PadimEdgeError(
            f"{source.name} keeps channels {chosen[0]} to {chosen[-1]} of {ends[-1]}, expected ones that "
            f"{source.backbone} has; take an undamaged file"
        )
    stages = tuple(
        StageReduction(chosen[(chosen >= low) & (chosen < high)] - low, None) for low, high in pairwise(ends)
    )
    graph = embedding.build(trunk, method, (Reduction(tuple(chosen.tolist()), None), stages))
    graph = strips.cut(graph, strips.LARGEST)
    _check_grid(source, graph)
    statistics, lifted = _statistics(source, order, graph.grid)
    recipe = Recipe(
        class_name=class_name,
        created_by=f"padim-edge {version('padim-edge')}, imported from anomalib",
        method=method,
        backbone=trunk.description,
        reduction=graph.reduction,
        parts=records(graph.parts),
    )
    content = graph.model.SerializeToString(deterministic=True)
    kept = Kept(recipe, content, statistics, Seen.nothing(graph.grid), Evidence.nothing())
    form = whiten(statistics, RIDGE, graph.parts)
    return Built(kept, graph, form, map_stage(source, graph.grid), lifted)


def _trunk(source: Padim) -> Trunk:
    """Return the network with the weights of the file, cut behind its last used layer."""
    import torch

    from padim_edge_export.backbones import Trunk, row_of
    from padim_edge_export.layer_cut import cut
    from padim_edge_export.weight_files import load_state, state_digest

    row = row_of(source.backbone, source.layers, source.name)
    with torch.random.fork_rng(devices=[]):  # the network draws random weights
        network = row.build().eval()
    module, channels = cut(source.backbone, network, source.layers)
    origin = f"anomalib, {source.name}"
    load_state(module, network, source.state, origin)
    description = Backbone(
        channels=tuple(channels.values()),
        weights=origin,
        weights_digest=state_digest(module.state_dict()),
        licence="as stated by the source of anomalib's weights",
    )
    return Trunk(module, source.frame.normalise.mean, source.frame.normalise.std, tuple(channels), description)


def _check_grid(source: Padim, graph: EmbeddingGraph) -> None:
    """Refuse Gaussians of another grid, and sizes at which PyTorch upsamples to other cells than here."""
    import torch

    patches = source.mean.shape[1]
    if patches != graph.grid[0] * graph.grid[1]:
        raise PadimEdgeError(
            f"{source.name} holds {patches} Gaussians, and {source.layers[0]} of {source.backbone} has "
            f"{graph.grid[0]} x {graph.grid[1]} cells at {source.size[0]} x {source.size[1]} pixels; give the file "
            "with the preprocessing that it was fitted with"
        )
    for part in graph.parts:
        for few, many in zip(part.grid, graph.grid, strict=True):
            cells = torch.arange(few, dtype=torch.float32)[None, None]
            theirs = torch.nn.functional.interpolate(cells, size=many, mode="nearest")[0, 0].numpy()
            if not np.array_equal(theirs, np.arange(many) * few // many):
                raise refuse(
                    f"a frame of {source.size[0]} x {source.size[1]} pixels",
                    "PyTorch rounds the cells of its upsampling otherwise",
                    "fit with sides that are multiples of 32",
                )


def _statistics(source: Padim, order: npt.NDArray[np.intp], grid: tuple[int, int]) -> tuple[Statistics, int]:
    """Return statistics whose covariances are the inverses of the given ones, and the number that had to be lifted.

    The number of images is not in the file. A covariance of n images has n - 1 directions besides the ridge, so the
    directions tell it up to D; beyond that, it is at least as large.
    """
    dims, patches = source.mean.shape
    scatter = np.empty((patches, dims, dims))
    lifted = 0
    for start in range(0, patches, _CHUNK):
        part = slice(start, start + _CHUNK)
        scatter[part], more = _inverted(source.precision[part][:, order[:, None], order])
        lifted += more
    some = scatter[:: max(1, patches // _LOOKED_AT)]
    count = max(2, int((np.linalg.eigvalsh(some) > (1 + _DIRECTIONS) * RIDGE).sum(axis=1).max()) + 1)
    scatter -= RIDGE * np.eye(dims)
    scatter *= count - 1
    mean = np.ascontiguousarray(source.mean[order].T, dtype=np.float64)
    return Statistics(count, mean, scatter, grid), lifted


def _inverted(given: npt.NDArray[np.float32]) -> tuple[Float64, int]:
    """Invert `(p, D, D)` inverse covariances, and count those that are lifted to positive definite ones first."""
    wide = given.astype(np.float64)
    wide = (wide + wide.transpose(0, 2, 1)) / 2  # c' P c depends on this part alone
    try:
        np.linalg.cholesky(wide)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(wide)
        least = _LEAST * values[:, -1:]
        variances = 1 / np.maximum(values, least)
        return (vectors * variances[:, None, :]) @ vectors.transpose(0, 2, 1), int((values < least).any(axis=1).sum())
    return np.asarray(np.linalg.inv(wide)), 0


def map_stage(source: Padim, grid: tuple[int, int]) -> MapStage:
    """Make anomalib's map stage: bilinear upsampling, then the filter, the signal mirrored without its edge."""
    rows, columns = (
        _filter(pixels, side.astype(np.float64)) @ grids.bilinear(pixels, cells)
        for pixels, cells, side in zip(source.size, grid, source.sides, strict=True)
    )
    return MapStage(rows, columns, None, None)


def _filter(pixels: int, side: Float64) -> Float64:
    """Return `(pixels, pixels)`: the filter `side` along one axis, with PyTorch's padding `reflect`."""
    radius = len(side) // 2
    if pixels <= radius:
        raise PadimEdgeError(
            f"the frame has a side of {pixels} pixels, expected more than {radius}, as the filter needs"
        )
    matrix = np.zeros((pixels, pixels))
    for offset, weight in zip(range(-radius, radius + 1), side, strict=True):
        index = np.abs(np.arange(pixels) + offset)
        np.add.at(matrix, (np.arange(pixels), np.minimum(index, 2 * (pixels - 1) - index)), weight)
    return matrix


def fused(built: Built, size: tuple[int, int]) -> FusedGraph:
    """Append distance, map and score to the embedding graph: pixels in, score and anomaly map out."""
    graph, (h, w) = built.embedding, built.embedding.grid
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "head")
    distance = append_distance(editor, graph.parts, built.form, "fp32")
    rows = editor.node("Transpose", [distance], "distance_rows", perm=[1, 0])  # (N, P)
    editor.node("Reshape", [rows, editor.constant("grid_shape", [-1, h, w], np.int64)], names.PATCH_DISTANCE)
    down = append_matrix(editor, "map_rows", built.to_map.rows)
    across = append_matrix(editor, "map_columns_upright", built.to_map.columns)
    across = editor.node("Transpose", [across], "map_columns", perm=[1, 0])
    tall = editor.node("MatMul", [down, names.PATCH_DISTANCE], "map_tall")
    editor.node("MatMul", [tall, across], names.ANOMALY_MAP)
    axes = editor.constant("map_axes", [1, 2], np.int64)
    editor.node("ReduceMax", [names.ANOMALY_MAP, axes], names.SCORE, keepdims=0)
    editor.set_outputs({names.SCORE: ["N"], names.ANOMALY_MAP: ["N", *size], names.PATCH_DISTANCE: ["N", h, w]})
    editor.drop_unused()
    return FusedGraph(model, editor.large)
