"""Give the channels of an activation more of the codes that they share, without changing what the graph computes.

An int8 activation has one scale for all its channels, so a channel that moves a tenth as far as the widest one gets a
tenth of the codes. Convolutions, ReLU, mean and maximum pooling and additions let a positive factor a channel through,
so each channel is widened where it is made and narrowed where it is read (as Nagel et al., "Data-free quantization
through weight equalization and bias correction", 2019, section 4.1, do for pairs of layers; here all tensors that
additions tie together get one factor). Weights have a scale a channel, so widening costs them nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from padim_edge_export.rewrites import Graph, axis, groups
from padim_edge_model.graph import EmbeddingGraph

__all__ = ["equalise", "factors"]

_POWER = 0.5
"""Of the ratio to the widest channel. 1 would leave no codes for what anomalies do to a channel that hardly moves."""

_LARGEST = 8.0

_HOMOGENEOUS = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add")
"""Operators that give f times as much for f times the input, channel by channel."""

Array = npt.NDArray[np.float64]


def factors(graph: EmbeddingGraph, largest: Mapping[str, Array]) -> dict[str, Array]:
    """`(C,)` factor of each tensor that can have one, at least 1.

    Args:
        graph: In float32.
        largest: Largest absolute value `(C,)` of each channel, by tensor; those that are missing have no say.
    """
    look = Graph(graph.model.graph)
    tied = _tied(look)
    outputs = {output.name for output in graph.model.graph.output}
    found: dict[str, Array] = {}
    for tensors in tied:
        seen = [largest[name] for name in tensors if name in largest]
        makers = [look.producers.get(name) for name in tensors]
        made = all(maker is not None and maker.op_type in ("Conv", *_HOMOGENEOUS) for maker in makers)
        if not seen or not made or not outputs.isdisjoint(tensors) or not _has_weights(look, makers):
            continue
        if len({len(each) for each in seen}) > 1:  # an addition that spreads one channel over all
            continue
        width = np.max(seen, axis=0)
        widest = float(width.max())
        if widest <= 0:
            continue
        factor = np.minimum((widest / np.maximum(width, 1e-30)) ** _POWER, _LARGEST)
        found |= dict.fromkeys(tensors, factor)
    return found


def equalise(graph: EmbeddingGraph, factor: Mapping[str, Array]) -> EmbeddingGraph:
    """The same function of the pixels, each tensor `factor` times as large inside.

    Whatever reads such a tensor and is not a convolution, nor lets factors through, reads it divided by them again.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    look = Graph(model.graph)
    nodes = list(model.graph.node)
    shared: dict[str, str] = {}
    del model.graph.node[:]
    for node in nodes:
        before, after = factor.get(node.input[0]) if node.input else None, factor.get(node.output[0])
        if node.op_type == "Conv":
            _scale(look, node, before, after)
        elif after is None and before is not None and _keeps_channels(look, node):
            kept = look.value(node.input[1])
            assert kept is not None
            whole = node.output[0]
            node.output[0] = f"{whole}/equalised"
            model.graph.node.append(node)
            model.graph.node.append(_divided(model.graph, node.output[0], whole, before[kept]))
            continue
        elif after is None:
            for position, name in enumerate(node.input):
                if name in factor:
                    if name not in shared:  # x * sigmoid(x) reads x twice
                        shared[name] = f"{name}/as_before"
                        model.graph.node.append(_divided(model.graph, name, shared[name], factor[name]))
                    node.input[position] = shared[name]
        model.graph.node.append(node)
    return dataclasses.replace(graph, model=model)


def _tied(look: Graph) -> list[set[str]]:
    """Tensors that must have the same factor, because operators of `_HOMOGENEOUS` lead from one to the other."""
    owner: dict[str, str] = {}

    def root(name: str) -> str:
        while owner.setdefault(name, name) != name:
            name = owner[name]
        return name

    for node in look.graph.node:
        if node.op_type == "Conv":
            root(node.input[0])
            root(node.output[0])
        elif node.op_type in _HOMOGENEOUS:
            for name in node.input:
                owner[root(name)] = root(node.output[0])
    sets: dict[str, set[str]] = {}
    for name in owner:
        sets.setdefault(root(name), set()).add(name)
    return list(sets.values())


def _keeps_channels(look: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type == "Gather" and axis(node) == 1 and look.value(node.input[1]) is not None


def _has_weights(look: Graph, makers: list[onnx.NodeProto | None]) -> bool:
    """Whether every convolution among them can be changed."""
    convolutions = [maker for maker in makers if maker is not None and maker.op_type == "Conv"]
    return all(look.value(name) is not None for conv in convolutions for name in conv.input[1:])


def _scale(look: Graph, conv: onnx.NodeProto, before: Array | None, after: Array | None) -> None:
    """Let the convolution read a tensor `before` times as large and make one `after` times as large."""
    if before is None and after is None:
        return
    weights = look.value(conv.input[1])
    assert weights is not None
    changed = weights.astype(np.float64)
    if before is not None:  # each group of outputs reads its own inputs
        count = groups(conv)
        by_group = changed.reshape(count, len(weights) // count, *weights.shape[1:])
        changed = (by_group / before.reshape(count, 1, -1, 1, 1)).reshape(weights.shape)
    if after is not None:
        changed = changed * after[:, None, None, None]
        if len(conv.input) > 2:
            bias = look.value(conv.input[2])
            assert bias is not None
            look.set(conv, 2, (bias * after).astype(np.float32))
    look.set(conv, 1, changed.astype(np.float32))


def _divided(graph: onnx.GraphProto, source: str, output: str, factor: Array) -> onnx.NodeProto:
    name = f"{output}/share"
    graph.initializer.append(numpy_helper.from_array((1 / factor).astype(np.float32).reshape(-1, 1, 1), name))
    return helper.make_node("Mul", [source, name], [output], name=f"int8/share_{output}")
