"""A backbone and a reduction -> the embedding graph: uint8 pictures in, one vector a patch out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import nn

from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import grids, reduction
from padim_edge_export.backbones import Trunk

__all__ = ["IR_VERSION", "OPSET", "EmbeddingGraph", "build"]

OPSET = 18
"""The torch exporter's native level, and low enough for JetPack 6's and Triton's onnxruntime."""
IR_VERSION = 8
"""What onnxruntime 1.17 already reads; nothing newer is needed."""


@dataclass(frozen=True, eq=False)
class EmbeddingGraph:
    """Pixels to embedding, the very nodes that the shipped model will contain."""

    model: onnx.ModelProto
    """`image` uint8 (N, H, W, 3) -> `embedding` float32 (N, D, h, w)."""
    grid: tuple[int, int]
    """(h, w) patches: the grid of the finest stage."""
    dims: int
    reduction: Reduction


class _Embedding(nn.Module):
    """The torch module behind the graph."""

    def __init__(
        self,
        trunk: Trunk,
        stages: Sequence[reduction.StageReduction],
        sizes: list[tuple[int, int]],
        *,
        pooling: int,
        add: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk.module
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(trunk.std).view(3, 1, 1) * 255))
        self.stages = stages
        self.identity = pooling == 1
        self.add = add
        for i, (stage, size) in enumerate(zip(stages, sizes, strict=True)):
            for axis, (cells, finest) in enumerate(zip(size, sizes[0], strict=True)):
                lift = grids.mean_pool(finest, pooling) @ grids.nearest(finest, cells)
                self.register_buffer(f"lift{i}{axis}", torch.tensor(lift if axis == 0 else lift.T, dtype=torch.float32))
            pick = stage.channels if stage.projection is None else stage.projection[:, :, None, None]
            self.register_buffer(f"pick{i}", torch.tensor(pick))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, D, h, w)` float32."""
        # The cast comes first because TensorRT takes uint8 nowhere else (and refuses to transpose it).
        x = (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")
        parts = []
        for i, (stage, feature) in enumerate(zip(self.stages, self.trunk(x).values(), strict=True)):
            pick = self.get_buffer(f"pick{i}")
            if stage.projection is None:
                if len(pick) == 0:  # a small D may leave a stage out
                    continue
                part = torch.index_select(feature, 1, pick)
            else:
                part = nn.functional.conv2d(feature, pick)
            if i > 0 or not self.identity:
                part = torch.matmul(torch.matmul(self.get_buffer(f"lift{i}0"), part), self.get_buffer(f"lift{i}1"))
            parts.append(part)
        return sum(parts[1:], parts[0]) if self.add else torch.cat(parts, dim=1)


def build(
    trunk: Trunk,
    size: tuple[int, int],
    *,
    kind: str,
    dims: int,
    seed: int,
    pooling: int,
    shares: tuple[float, ...] | None = None,
) -> EmbeddingGraph:
    """Export the embedding graph.

    The reduction is applied at each stage's own resolution and the upsampling (nearest, PaDiM section III-A) and the
    mean pooling after it: all are linear, so the order does not change the result, and this one is the cheapest.

    Args:
        trunk: The backbone.
        size: (H, W) of the input in pixels.
        kind: One of `reduction.KINDS`.
        dims: D, 1 to the number of channels.
        seed: Of the reduction.
        pooling: Side of the mean pooling in patches of the finest stage, odd; 1 is none.
        shares: Share of the dimensions that each stage gets; `None` draws from all stages together.
    """
    recorded, stages = reduction.draw(kind, trunk.description.channels, dims, seed, shares)
    with torch.inference_mode():
        features = trunk.module(torch.zeros(1, 3, *size))
    sizes = [(int(f.shape[2]), int(f.shape[3])) for f in features.values()]
    add = kind == "semi-orthogonal" and shares is None
    module = _Embedding(trunk, stages, sizes, pooling=pooling, add=add).eval()
    return EmbeddingGraph(_export(module, size), sizes[0], dims, recorded)


def _export(module: nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
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
                output_names=[names.EMBEDDING],
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
