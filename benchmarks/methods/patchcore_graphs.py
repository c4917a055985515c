"""PatchCore's graphs: images to patches, and then on to score and map. Only fitting imports this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.methods.features import Network, bilinear, map_matrices, stage_sizes
from benchmarks.networks import Normalise
from padim_edge_artifact import names
from padim_edge_export.torch_export import export_graph

__all__ = ["PATCHES", "Judging", "judge", "patches"]

PATCHES = "patches"

_LAYERS = ("layer2", "layer3")


@dataclass(frozen=True)
class Judging:
    """Shapes and settings of the graph behind the patches."""

    size: tuple[int, int]
    """(H, W) of the image."""
    grid: tuple[int, int]
    """(h, w) of the patches."""
    block_rows: int
    """Number of vectors of the bank that are compared at a time."""
    smoothed: bool
    """Whether the score is the largest value of the smoothed map, re-weighted, instead of equation 7's."""


class _Patches(nn.Module):
    """Locally aware patch features (section 3.1 of the paper)."""

    def __init__(self, stages: nn.Module, sizes: list[tuple[int, int, int]], dims: int) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.stages = stages
        for i, (_, *cells) in enumerate(sizes):
            for axis, (own, finest) in enumerate(zip(cells, sizes[0][1:], strict=True)):
                # Pooling and interpolation are linear and work by axis, so that one matrix an axis does both.
                lift = bilinear(finest, own) @ _pool(own)
                self.register_buffer(f"lift{i}{axis}", torch.tensor(lift if axis == 0 else lift.T, dtype=torch.float32))
        self.taps = _taps(sum(each[0] for each in sizes), dims)
        for i, (index, weight) in enumerate(self.taps):
            self.register_buffer(f"index{i}", torch.tensor(index))
            self.register_buffer(f"weight{i}", torch.tensor(weight, dtype=torch.float32)[:, None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute `(N, D + 1, P)` of `(N, H, W, 3)` uint8: patches in columns, ones in the last row."""
        features = self.stages(self.normalise(image)).values()
        lifted = [
            torch.matmul(torch.matmul(self.get_buffer(f"lift{i}0"), each), self.get_buffer(f"lift{i}1"))
            for i, each in enumerate(features)
        ]
        x = torch.cat(lifted, dim=1).flatten(2)
        if self.taps:
            parts = [
                torch.index_select(x, 1, self.get_buffer(f"index{i}")) * self.get_buffer(f"weight{i}")
                for i in range(len(self.taps))
            ]
            x = sum(parts[1:], parts[0])
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def _pool(cells: int) -> npt.NDArray[np.float64]:
    """Return `(cells, cells)`: the mean over three cells, those beyond the border being zero."""
    return np.asarray((np.abs(np.subtract.outer(np.arange(cells), np.arange(cells))) <= 1) / 3)


def _taps(channels: int, dims: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Write adaptive average pooling of the channels as a sum of selections: (indices, weights), `(dims,)` each.

    Output i is the mean of the inputs from floor(i c / d) to ceil((i + 1) c / d), which is PyTorch's definition.
    The list is empty where there are at most `dims` channels: repeating some would add time and no information.
    """
    if channels <= dims:
        return []
    i = np.arange(dims)
    start, end = i * channels // dims, -(-(i + 1) * channels // dims)
    steps = int((end - start).max())
    return [(np.minimum(start + k, end - 1), (start + k < end) / (end - start)) for k in range(steps)]


def patches(network: Network, size: tuple[int, int], dims: int) -> tuple[onnx.ModelProto, tuple[int, int]]:
    """Export the graph from images of `size` (H, W) to `patches`; return it and the patches' grid (h, w)."""
    stages = network.stages(_LAYERS)
    sizes = stage_sizes(stages, size)
    return export_graph(_Patches(stages, sizes, dims), size, [PATCHES]), sizes[0][1:]


def judge(
    model: onnx.ModelProto,
    bank: npt.NDArray[np.float32],
    neighbours: npt.NDArray[np.int64],
    how: Judging,
) -> bytes:
    """Continue the graph of `patches` to score, map and patch distances.

    With x a patch, m a vector of the bank and p the patches of an image:

        |m|^2 - 2 m'x               one product of [-2 m, |m|^2] with [x, 1], block by block of the bank
        d(x)^2 = |x|^2 + min over m of it
        s = (1 - exp(d*) / sum over m in N_b(m*) of exp |x* - m|) d*        (equation 7)

    where x* is the patch with the largest d, d* that distance, m* its nearest vector, N_b(m*) the vectors nearest to
    m*. The smoothed score has the largest value of the smoothed map in the place of the last d*.

    Args:
        model: Graph of `patches`.
        bank: `(M, D)` float32.
        neighbours: `(M, b)` indices of `coreset.neighbours`.
        how: Shapes and settings.
    """
    size, grid = how.size, how.grid
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    del graph.output[:]

    def constant(name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def integers(name: str, *values: int) -> str:
        return constant(name, np.array(values, np.int64))

    vectors, dims = bank.shape
    none, one, two = (integers(f"int{value}", value) for value in range(3))
    blocks = [constant(f"bank{i}", block) for i, block in enumerate(_blocks(bank, how.block_rows))]

    # Distances of all patches: the minimum is taken block against block, and over the rows of the last one only.
    least = node("MatMul", [blocks[0], PATCHES], "d0")  # (N, rows, P)
    for i, block in enumerate(blocks[1:], 1):
        least = node("Min", [least, node("MatMul", [block, PATCHES], f"d{i}")], f"least{i}")
    least = node("ReduceMin", [least, one], "nearest", keepdims=0)  # (N, P)
    node("Slice", [PATCHES, none, integers("dims", dims), one], "x")  # without the ones
    squares = node("ReduceSumSquare", ["x", one], "squares", keepdims=0)  # (N, P)
    zero = constant("zero", np.zeros((), np.float32))

    def root(squared: str, norm: str, output: str) -> str:
        total = node("Add", [squared, norm], f"{output}_squared")
        return node("Sqrt", [node("Max", [total, zero], f"{output}_at_least_0")], output)

    distance = root(least, squares, "distance")
    node("Reshape", [distance, integers("grid", -1, *grid)], names.PATCH_DISTANCE)
    rows, columns = map_matrices(size, grid)
    node("MatMul", [constant("rows", rows), names.PATCH_DISTANCE], "tall")
    node("MatMul", ["tall", constant("columns", np.ascontiguousarray(columns.T))], names.ANOMALY_MAP)

    # Equation 7. The farthest patch is compared with the bank once more, which is one row of many.
    node("ArgMax", [distance], "where", axis=1, keepdims=1)  # (N, 1)
    node("GatherElements", [squares, "where"], "norm", axis=1)  # (N, 1)
    node("Unsqueeze", ["where", one], "where3")  # (N, 1, 1)
    node("Expand", ["where3", integers("column_shape", 1, dims + 1, 1)], "everywhere")
    node("GatherElements", [PATCHES, "everywhere"], "farthest", axis=2)  # (N, D + 1, 1)
    again = [node("MatMul", [block, "farthest"], f"e{i}") for i, block in enumerate(blocks)]
    node("Concat", again, "column", axis=1)
    node("Slice", ["column", none, integers("vectors", vectors), one], "unpadded")
    node("Squeeze", ["unpadded", two], "row")  # (N, M)
    node("ArgMin", ["row"], "mate", axis=1, keepdims=0)  # (N,)
    node("Gather", [constant("neighbours", neighbours), "mate"], "mates", axis=0)  # (N, b)
    node("GatherElements", ["row", "mates"], "around_less", axis=1)
    around = root("around_less", "norm", "around")
    node("ReduceMin", [around, one], "peak", keepdims=1)  # the vector m* itself is among them
    node("Exp", [node("Sub", [around, "peak"], "beyond")], "odds")
    share = node("Reciprocal", [node("ReduceSum", ["odds", one], "sum", keepdims=1)], "share")
    node("Sub", [constant("unit", np.ones((), np.float32)), share], "weight")
    peak = "peak"
    if how.smoothed:
        highest = node("ReduceMax", [names.ANOMALY_MAP, integers("map_axes", 1, 2)], "map_peak", keepdims=0)
        peak = node("Unsqueeze", [highest, one], "map_peak1")
    node("Squeeze", [node("Mul", ["weight", peak], "score1"), one], names.SCORE)

    shapes: dict[str, list[str | int | None]] = {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", *size],
        names.PATCH_DISTANCE: ["N", *grid],
    }
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())


def _blocks(bank: npt.NDArray[np.float32], most: int) -> list[npt.NDArray[np.float32]]:
    """Return [-2 m, |m|^2] in blocks of equal height, at most `most`; copies of the last vector fill the last block."""
    whole = np.hstack([-2 * bank, np.einsum("md,md->m", bank, bank)[:, None]])
    count = -(-len(bank) // most)
    rows = -(-len(bank) // count)
    padded = np.vstack([whole, np.repeat(whole[-1:], count * rows - len(bank), axis=0)])
    return [np.ascontiguousarray(block) for block in np.split(padded, count)]
