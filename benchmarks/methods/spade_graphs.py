"""SPADE's two graphs: images to the pyramid, and pyramid against pyramid. Only fitting imports this module."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.methods.features import Network, stage_sizes
from benchmarks.networks import Normalise
from padim_edge_artifact import PadimEdgeError
from padim_edge_export.torch_export import export_graph
from padim_edge_model.graph import IR_VERSION, OPSET

__all__ = ["distances", "pyramid"]

_LAYERS = ("layer1", "layer2", "layer3")


class _Pyramid(nn.Module):
    """Features of all positions in nested order: coarse cell, middle cell in it, fine position in that."""

    def __init__(self, stages: nn.Module, sizes: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.stages = stages
        self.sizes = sizes

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute fine, middle, coarse, norm and pooled of `(N, H, W, 3)` uint8.

        With c cells of the coarsest grid: fine `(N, 16 c, C1 + 1)`, the last channel being one; middle `(N, 4 c, C2)`;
        coarse `(N, c, C3)`; norm `(N, 16 c)`, the squared norms of the concatenated vectors; pooled `(N, C)`.
        """
        features = list(self.stages(self.normalise(image)).values())
        _, h, w = self.sizes[2]
        fine, middle, coarse = features[:3]
        fine = fine.unflatten(3, (w, 2, 2)).unflatten(2, (h, 2, 2)).permute(0, 2, 5, 3, 6, 4, 7, 1).flatten(1, 6)
        middle = middle.unflatten(3, (w, 2)).unflatten(2, (h, 2)).permute(0, 2, 4, 3, 5, 1).flatten(1, 4)
        coarse = coarse.permute(0, 2, 3, 1).flatten(1, 2)
        squares = [each.square().sum(2) for each in (fine, middle, coarse)]
        above = squares[1].unflatten(1, (h * w, 4)) + squares[2].unsqueeze(2)
        norm = (squares[0].unflatten(1, (4 * h * w, 4)) + above.flatten(1, 2).unsqueeze(2)).flatten(1, 2)
        fine = torch.cat([fine, torch.ones_like(fine[:, :, :1])], dim=2)
        return fine, middle, coarse, norm, features[-1].mean((2, 3))


def pyramid(network: Network, size: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """Export the graph from images of `size` (H, W) to `spade.PYRAMID`; return it and the finest grid (h, w).

    Raises:
        PadimEdgeError: The stages' grids are not halves of each other.
    """
    layers = (*_LAYERS, network.layers[-1]) if network.layers[-1] not in _LAYERS else _LAYERS
    stages = network.stages(layers)
    sizes = stage_sizes(stages, size)
    _, h, w = sizes[2]
    if [each[1:] for each in sizes[:3]] != [(4 * h, 4 * w), (2 * h, 2 * w), (h, w)]:
        raise PadimEdgeError(f"frames are {size[0]}x{size[1]}, expected multiples of 16 pixels; choose another size")
    model = export_graph(_Pyramid(stages, sizes), size, ["fine", "middle", "coarse", "norm", "pooled"])
    return model.SerializeToString(), (4 * h, 4 * w)


def distances(middle_cells: int) -> bytes:
    """Write the graph that compares p coarse cells of an image with one good image of `middle_cells` = 4 c.

    Inputs: `fine` (16 p, C1 + 1), `middle` (4 p, C2), `coarse` (p, C3) of the image; `bank_fine` (C1 + 1, 16 c),
    `bank_middle` (C2, 4 c), `bank_coarse` (C3, c) as in `spade.fit`. Output: (p, 16), for each position the least
    squared distance less the squared norm of its own vector.

    On the finest grid, `Split` and `Min` take the minimum over slices, which is faster than `ReduceMin` over an axis.
    """
    cells = middle_cells // 4
    shapes = {"groups": [-1, 4, middle_cells], "halves": [-1, 4, cells], "blocks": [-1, 16, cells]}
    constants = {**shapes, "one": [1], "last": [-1]}
    node = helper.make_node
    nodes = [
        node("MatMul", ["fine", "bank_fine"], ["d1"]),  # (16 p, 16 c)
        node("Split", ["d1"], ["q0", "q1", "q2", "q3"], axis=1, num_outputs=4),
        node("Min", ["q0", "q1", "q2", "q3"], ["m1"]),  # (16 p, 4 c)
        node("MatMul", ["middle", "bank_middle"], ["d2"]),  # (4 p, 4 c)
        node("Unsqueeze", ["d2", "one"], ["d2_each"]),
        node("Reshape", ["m1", "groups"], ["m1_grouped"]),
        node("Add", ["m1_grouped", "d2_each"], ["d12"]),  # (4 p, 4, 4 c)
        node("Reshape", ["d12", "halves"], ["d12_by_cell"]),
        node("ReduceMin", ["d12_by_cell", "one"], ["m2"], keepdims=0),  # (16 p, c)
        node("MatMul", ["coarse", "bank_coarse"], ["d3"]),  # (p, c)
        node("Unsqueeze", ["d3", "one"], ["d3_each"]),
        node("Reshape", ["m2", "blocks"], ["m2_grouped"]),
        node("Add", ["m2_grouped", "d3_each"], ["d123"]),  # (p, 16, c)
        node("ReduceMin", ["d123", "last"], ["least"], keepdims=0),
    ]
    wanted: dict[str, list[str | int | None]] = {
        "fine": ["p16", "c1"],
        "middle": ["p4", "c2"],
        "coarse": ["p", "c3"],
        "bank_fine": ["c1", 4 * middle_cells],
        "bank_middle": ["c2", middle_cells],
        "bank_coarse": ["c3", cells],
    }
    graph = helper.make_graph(
        nodes,
        "spade",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in wanted.items()],
        [helper.make_tensor_value_info("least", TensorProto.FLOAT, ["p", 16])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
