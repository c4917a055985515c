"""The embedding graph of a backbone and a reduction: uint8 images in, one vector per patch out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Reduction
from padim_edge_artifact.method import Method
from padim_edge_export import reduction, rewrites
from padim_edge_export.backbones import Trunk
from padim_edge_export.torch_export import export_graph
from padim_edge_model import grids
from padim_edge_model.graph import EmbeddingGraph, Part

__all__ = ["Drawn", "build"]

Drawn = tuple[Reduction, tuple[reduction.StageReduction, ...]]
"""Reduction as it is recorded, and as each stage applies it."""

Move = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Matrices `rows` and `columns` of pooling and upsampling: `rows @ feature @ columns.T`."""


@dataclass(frozen=True, eq=False)
class _Head:
    """Way from the features to the parts of one embedding."""

    layers: tuple[int, ...]
    """Numbers of the trunk's layers that are read."""
    stages: tuple[reduction.StageReduction, ...]
    """Reduction of each of these layers."""
    moves: tuple[Move | None, ...]
    """Pooling and upsampling of each of these layers; `None` where a layer stays as it is."""
    add: bool
    """Whether the layers are added up to one part."""
    parts: tuple[Part, ...]
    """Parts that come out."""
    recorded: Reduction
    """Reduction as it is recorded."""


class _Reduced(nn.Module):
    """Torch module of one head.

    Args:
        head: What it computes.
    """

    def __init__(self, head: _Head) -> None:
        super().__init__()
        self.head = head
        for i, (stage, move) in enumerate(zip(head.stages, head.moves, strict=True)):
            if move is not None:
                self.register_buffer(f"move{i}0", torch.tensor(move[0], dtype=torch.float32))
                self.register_buffer(f"move{i}1", torch.tensor(move[1].T, dtype=torch.float32))
            pick = stage.channels if stage.projection is None else stage.projection[:, :, None, None]
            self.register_buffer(f"pick{i}", torch.tensor(pick))

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Compute `(N, d, h, w)` float32 of each used layer, or of their sum, from the features of all layers."""
        parts = []
        for i, (stage, layer) in enumerate(zip(self.head.stages, self.head.layers, strict=True)):
            feature, pick = features[layer], self.get_buffer(f"pick{i}")
            if len(pick) == 0:  # a small D may leave a layer out
                continue
            if stage.projection is None and len(pick) == feature.shape[1]:
                part = feature
            elif stage.projection is None:
                part = torch.index_select(feature, 1, pick)
            else:
                part = nn.functional.conv2d(feature, pick)
            if self.head.moves[i] is not None:
                part = torch.matmul(torch.matmul(self.get_buffer(f"move{i}0"), part), self.get_buffer(f"move{i}1"))
            parts.append(part)
        return (sum(parts[1:], parts[0]),) if self.head.add else tuple(parts)


class _Embedding(nn.Module):
    """Torch module behind the graph.

    Args:
        trunk: The backbone.
        heads: Ways from its features to the embeddings.
    """

    def __init__(self, trunk: Trunk, heads: Sequence[_Head]) -> None:
        super().__init__()
        self.trunk = _with_plain_means(trunk.module)
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(trunk.std).view(3, 1, 1) * 255))
        self.heads = nn.ModuleList(_Reduced(head) for head in heads)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the parts of all heads from `(N, H, W, 3)` uint8."""
        # The cast comes first, because TensorRT takes uint8 nowhere else (it refuses to transpose it).
        x = (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")
        features = list(self.trunk(x).values())
        return tuple(part for head in self.heads for part in head(features))


class _Mean(nn.Module):
    """Mean over the cells of a feature map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute `(N, C, 1, 1)` from `(N, C, h, w)`."""
        return x.mean((2, 3), keepdim=True)


def _with_plain_means(module: nn.Module) -> nn.Module:
    """Return the same network, its parameters shared, with plain means for adaptive poolings to one cell.

    Squeeze and excitation has such poolings. The exporter would write each as a mean and seven nodes that compute
    indices from the number of images.
    """
    pools = [
        name
        for name, each in module.named_modules()
        if isinstance(each, nn.AdaptiveAvgPool2d) and each.output_size in (1, (1, 1))
    ]
    if not pools:
        return module
    shared = {id(each): each for each in (*module.parameters(), *module.buffers())}
    plain = copy.deepcopy(module, shared)
    for name in pools:
        plain.set_submodule(name, _Mean())
    return plain


def build(trunk: Trunk, method: Method, drawn: Drawn | None = None) -> EmbeddingGraph:
    """Export the embedding graph in float32, for frames that the host has brought to `Preprocessing.size`.

    Each stage is reduced at its own resolution and then upsampled (nearest, PaDiM section III-A). Both are linear, so
    the order does not change the result, and this one is the cheapest. Unless patches are pooled, patches in the same
    coarse cell share that cell's vector, which `whitening` makes use of.

    Args:
        trunk: Backbone with the layers of the method.
        method: Size, reduction and pooling of the embedding.
        drawn: Reduction that is used instead of drawing one; made with the same `dims` and `shares`.

    Raises:
        PadimEdgeError: The dimensions do not fit the backbone, or the frame is too small for it.
    """
    size = method.preprocessing.size
    grids_of_layers = _grids(trunk, method.backbone, size)
    heads = [
        _head(trunk, each, grids_of_layers, name, drawn if name == "part" else None)
        for each, name in zip(method.heads, ("part", "beside"), strict=False)
    ]
    names = [part.name for head in heads for part in head.parts]
    model = export_graph(_Embedding(trunk, heads), size, names)
    rewrites.narrow_last_stage(model)
    beside = heads[1].parts if len(heads) > 1 else ()
    return EmbeddingGraph(model, heads[0].parts, heads[0].recorded, size, beside=beside)


def _head(
    trunk: Trunk, method: Method, grids_of_layers: dict[str, tuple[int, int]], name: str, drawn: Drawn | None
) -> _Head:
    """Plan one embedding.

    Args:
        trunk: Backbone with the layers of the method, and perhaps others.
        method: Method with one kind of distance.
        grids_of_layers: (h, w) of each layer of the trunk.
        name: Beginning of the names of its parts.
        drawn: Reduction that is used instead of drawing one.
    """
    order, shares = list(grids_of_layers), method.shares
    layers = tuple(order.index(layer) for layer in method.layers)
    channels = tuple(trunk.description.channels[layer] for layer in layers)
    recorded, stages = drawn or reduction.draw(method.reduction, channels, method.dims, method.seed, shares)
    grid_of_stage = [grids_of_layers[layer] for layer in method.layers]
    target = grid_of_stage[method.grid_layer]
    kept = [len(pick) for each in stages for pick in (each.channels, each.projection) if pick is not None]
    add = stages[0].projection is not None and shares is None
    pool_patches = method.pool_patches and method.pooling > 1
    # If a small D leaves the finest stage out, no part would keep the target grid by itself.
    # A memory compares any patch with any other, so all parts come on one grid.
    lift = add or pool_patches or kept[0] == 0 or method.grid_layer > 0 or method.bank is not None
    given = [(count, target if lift else grid) for count, grid in zip(kept, grid_of_stage, strict=True) if count]
    if add:
        given = [(method.dims, target)]
    moves = tuple(
        _move(grid, target if lift else grid, method) if method.pooling > 1 or (lift and grid != target) else None
        for grid in grid_of_stage
    )
    parts = tuple(Part(f"{name}{i}", count, grid) for i, (count, grid) in enumerate(given))
    return _Head(layers, tuple(stages), moves, add, parts, recorded)


def _grids(trunk: Trunk, name: str, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return (h, w) of each layer's feature map for images of `size`, by the layer's name."""
    try:
        with torch.inference_mode():
            features = trunk.module.forward(torch.zeros(1, 3, *size))  # `__call__` of fx prints a traceback of its own
    except RuntimeError as error:
        raise PadimEdgeError(
            f"{name} cannot take an image of {size[0]} x {size[1]} pixels; choose a larger --size"
        ) from error
    return {layer: (int(feature.shape[2]), int(feature.shape[3])) for layer, feature in features.items()}


def _move(grid: tuple[int, int], target: tuple[int, int], method: Method) -> Move:
    """Make the matrices that pool a stage's grid and bring it to `target`; patches are pooled behind that."""
    rows, columns = (
        grids.mean_pool(wanted, method.pooling) @ grids.resampled(wanted, cells, method.upsampling)
        if method.pool_patches
        else grids.resampled(wanted, cells, method.upsampling) @ grids.mean_pool(cells, method.pooling)
        for cells, wanted in zip(grid, target, strict=True)
    )
    return rows, columns
