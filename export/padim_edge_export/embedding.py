"""A backbone and a reduction -> the embedding graph: uint8 pictures in, one vector a patch out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import grids, reduction, rewrites
from padim_edge_export.backbones import Trunk
from padim_edge_export.nodes import Nodes

__all__ = ["IR_VERSION", "OPSET", "Codes", "EmbeddingGraph", "Part", "build", "joined"]

OPSET = 18
"""The torch exporter's native level, and low enough for JetPack 6's and Triton's onnxruntime."""
IR_VERSION = 8
"""What onnxruntime 1.17 already reads; nothing newer is needed."""


@dataclass(frozen=True, eq=False)
class Codes:
    """How a part was quantised: `part = (codes - zero_point) * scale`, by dimension."""

    name: str
    """Tensor of the codes, `(N, d, h, w)` uint8."""
    scale: npt.NDArray[np.float32]
    """`(d,)`, positive."""
    zero_point: npt.NDArray[np.uint8]
    """`(d,)`."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one stage gives to the embedding, at the stage's own resolution."""

    name: str
    """Tensor, `(N, d, h, w)` float32."""
    dims: int
    """d."""
    grid: tuple[int, int]
    """(h, w) cells."""
    codes: Codes | None = None
    """The same as integers; only in an int8 graph for onnxruntime's CPU provider."""


@dataclass(frozen=True, eq=False)
class EmbeddingGraph:
    """Pixels to embedding, the very nodes that the shipped model will contain."""

    model: onnx.ModelProto
    """`image` uint8 (N, H, W, 3) -> the parts."""
    parts: tuple[Part, ...]
    """What the embedding is put together from, in its order, finest first: each brought to the finest grid and then
    concatenated."""
    reduction: Reduction
    size: tuple[int, int]
    """(H, W) of the picture in pixels."""
    precision: str = "fp32"
    """In which the backbone computes: `fp32`, `fp16` or `int8`."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches: the grid of the finest stage."""
        return self.parts[0].grid

    @property
    def dims(self) -> int:
        """D."""
        return sum(part.dims for part in self.parts)


class _Embedding(nn.Module):
    """The torch module behind the graph."""

    def __init__(
        self,
        trunk: Trunk,
        stages: Sequence[reduction.StageReduction],
        sizes: list[tuple[int, int]],
        *,
        pooling: int,
        pool_patches: bool,
        add: bool,
        lift: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk.module
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(trunk.std).view(3, 1, 1) * 255))
        self.stages = stages
        self.add = add
        self.moved = [pooling > 1 or (lift and i > 0) for i in range(len(stages))]
        for i, (stage, size) in enumerate(zip(stages, sizes, strict=True)):
            for axis, (cells, finest) in enumerate(zip(size, sizes[0], strict=True)):
                if pool_patches:
                    move = grids.mean_pool(finest, pooling) @ grids.nearest(finest, cells)
                else:
                    move = grids.nearest(finest if lift else cells, cells) @ grids.mean_pool(cells, pooling)
                self.register_buffer(f"move{i}{axis}", torch.tensor(move if axis == 0 else move.T, dtype=torch.float32))
            pick = stage.channels if stage.projection is None else stage.projection[:, :, None, None]
            self.register_buffer(f"pick{i}", torch.tensor(pick))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(N, H, W, 3)` uint8 -> `(N, d, h, w)` float32 for each stage that is used, or all of them added up."""
        # The cast comes first because TensorRT takes uint8 nowhere else (and refuses to transpose it).
        x = (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")
        parts = []
        for i, (stage, feature) in enumerate(zip(self.stages, self.trunk(x).values(), strict=True)):
            pick = self.get_buffer(f"pick{i}")
            if len(pick) == 0:  # a small D may leave a stage out
                continue
            if stage.projection is None:
                part = torch.index_select(feature, 1, pick)
            else:
                part = nn.functional.conv2d(feature, pick)
            if self.moved[i]:
                part = torch.matmul(torch.matmul(self.get_buffer(f"move{i}0"), part), self.get_buffer(f"move{i}1"))
            parts.append(part)
        return (sum(parts[1:], parts[0]),) if self.add else tuple(parts)


def build(
    trunk: Trunk,
    size: tuple[int, int],
    *,
    kind: str,
    dims: int,
    seed: int,
    pooling: int,
    pool_patches: bool = False,
    shares: tuple[float, ...] | None = None,
) -> EmbeddingGraph:
    """Export the embedding graph.

    The reduction is applied at each stage's own resolution and the upsampling (nearest, PaDiM section III-A) after it:
    both are linear, so the order does not change the result, and this one is the cheapest. Unless patches are pooled,
    those that lie in the same coarse cell share that cell's vector, which `whitening` makes use of.

    Args:
        trunk: The backbone.
        size: (H, W) of the input in pixels.
        kind: One of `reduction.KINDS`.
        dims: D, 1 to the number of channels.
        seed: Of the reduction.
        pooling: Side of the mean pooling, odd; 1 is none.
        pool_patches: Pool over patches of the finest grid, after the upsampling, instead of over each stage's cells.
        shares: Share of the dimensions that each stage gets; `None` draws from all stages together.
    """
    recorded, stages = reduction.draw(kind, trunk.description.channels, dims, seed, shares)
    with torch.inference_mode():
        features = trunk.module(torch.zeros(1, 3, *size))
    sizes = [(int(f.shape[2]), int(f.shape[3])) for f in features.values()]
    add = kind == "semi-orthogonal" and shares is None
    pool_patches = pool_patches and pooling > 1
    kept = [len(pick) for each in stages for pick in (each.channels, each.projection) if pick is not None]
    # Where a small D leaves the finest stage out, no part would keep the finest grid by itself.
    lift = add or pool_patches or kept[0] == 0
    given = [(count, sizes[0] if lift else grid) for count, grid in zip(kept, sizes, strict=True) if count]
    if add:
        given = [(dims, sizes[0])]
    parts = tuple(Part(f"part{i}", count, grid) for i, (count, grid) in enumerate(given))
    module = _Embedding(trunk, stages, sizes, pooling=pooling, pool_patches=pool_patches, add=add, lift=lift).eval()
    model = _export(module, size, [part.name for part in parts])
    rewrites.narrow_last_stage(model)
    return EmbeddingGraph(model, parts, recorded, size)


def joined(graph: EmbeddingGraph) -> onnx.ModelProto:
    """The graph that gives one `embedding` `(N, D, h, w)`: nearest upsampling to the finest grid, concatenation."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = Nodes(model.graph, "join")
    lifted = []
    for part in graph.parts:
        tensor = part.name
        if part.grid != graph.grid:
            rows, columns = (grids.nearest(finest, cells) for finest, cells in zip(graph.grid, part.grid, strict=True))
            tensor = nodes.node("MatMul", [nodes.constant(f"{part.name}_rows", rows), tensor], f"{part.name}_tall")
            tensor = nodes.node(
                "MatMul", [tensor, nodes.constant(f"{part.name}_columns", columns.T)], f"{part.name}_lifted"
            )
        lifted.append(tensor)
    nodes.node("Concat", lifted, names.EMBEDDING, axis=1)
    del model.graph.output[:]
    shape: list[str | int | None] = ["N", graph.dims, *graph.grid]
    model.graph.output.append(helper.make_tensor_value_info(names.EMBEDDING, TensorProto.FLOAT, shape))
    return model


def _export(module: nn.Module, size: tuple[int, int], outputs: list[str]) -> onnx.ModelProto:
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[names.IMAGE],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return _clean(program.model_proto)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces, documentation and paths of the machine that exported it; in the shipped IR version."""
    del model.metadata_props[:]
    model.ir_version = IR_VERSION
    model.doc_string = model.producer_name = model.producer_version = ""
    graph = model.graph
    del graph.metadata_props[:], graph.value_info[:]
    graph.name, graph.doc_string = "padim_edge", ""
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.doc_string = ""
    for i, node in enumerate(graph.node):
        node.name = f"embedding/{i}_{node.op_type}"
    return model
