"""A backbone and a reduction -> the embedding graph: uint8 images in, one vector a patch out."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import nn

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_artifact.metadata import Reduction
from padim_edge_artifact.method import Method
from padim_edge_export import reduction, rewrites
from padim_edge_export.backbones import Trunk
from padim_edge_model import grids
from padim_edge_model.graph import IR_VERSION, OPSET, EmbeddingGraph, Part

__all__ = ["build"]

Drawn = tuple[Reduction, tuple[reduction.StageReduction, ...]]


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
        self.trunk = _with_plain_means(trunk.module)
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


class _Mean(nn.Module):
    """The mean over an image's cells."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C, h, w)` -> `(N, C, 1, 1)`."""
        return x.mean((2, 3), keepdim=True)


def _with_plain_means(module: nn.Module) -> nn.Module:
    """The same network for the exporter, its parameters shared.

    It writes an adaptive pooling to one cell (squeeze and excitation has them) as a mean and seven nodes that compute
    indices into it from the number of images.
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

    The reduction is applied at each stage's own resolution and the upsampling (nearest, PaDiM section III-A) after it:
    both are linear, so the order does not change the result, and this one is the cheapest. Unless patches are pooled,
    those that lie in the same coarse cell share that cell's vector, which `whitening` makes use of.

    Args:
        trunk: Backbone with the layers of the method.
        method: Size, reduction and pooling of the embedding.
        drawn: Reduction that is used instead of drawing one; made with the same `dims` and `shares`.

    Raises:
        PadimEdgeError: The dimensions do not fit the backbone, or the frame is too small for it.
    """
    size, shares, pooling = method.preprocessing.size, method.shares, method.pooling
    recorded, stages = drawn or reduction.draw(
        method.reduction, trunk.description.channels, method.dims, method.seed, shares
    )
    try:
        with torch.inference_mode():
            features = trunk.module.forward(torch.zeros(1, 3, *size))  # called, fx prints a traceback of its own
    except RuntimeError as error:
        raise PadimEdgeError(
            f"{method.backbone} cannot take an image of {size[0]} x {size[1]} pixels; choose a larger --size"
        ) from error
    sizes = [(int(f.shape[2]), int(f.shape[3])) for f in features.values()]
    add = stages[0].projection is not None and shares is None
    pool_patches = method.pool_patches and pooling > 1
    kept = [len(pick) for each in stages for pick in (each.channels, each.projection) if pick is not None]
    # Where a small D leaves the finest stage out, no part would keep the finest grid by itself.
    lift = add or pool_patches or kept[0] == 0
    given = [(count, sizes[0] if lift else grid) for count, grid in zip(kept, sizes, strict=True) if count]
    if add:
        given = [(method.dims, sizes[0])]
    parts = tuple(Part(f"part{i}", count, grid) for i, (count, grid) in enumerate(given))
    module = _Embedding(trunk, stages, sizes, pooling=pooling, pool_patches=pool_patches, add=add, lift=lift).eval()
    model = _export(module, size, [part.name for part in parts])
    rewrites.narrow_last_stage(model)
    return EmbeddingGraph(model, parts, recorded, size)


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
