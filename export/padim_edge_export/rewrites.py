"""Exact rewrites of an exported graph: the same function of the pixels with less work.

Each takes a model and changes it in place. They know operators, not backbones, so every backbone gains from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from padim_edge_model.nodes import drop_unused

__all__ = ["Graph", "axis", "feature_maps", "fold_scale", "groups", "narrow_last_stage"]

_UNARY = frozenset(("Relu", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Clip", "Identity"))
"""Operators that treat each channel by itself; whatever inputs follow the first are scalars."""

Array = npt.NDArray[Any]


class Graph:
    """Look-up of a graph's tensors by name, as they are when it is made."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.initializers = {each.name: each for each in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(output.name for output in graph.output)

    def value(self, name: str) -> Array | None:
        """The constant of that name, if it is one."""
        return numpy_helper.to_array(self.initializers[name]) if name in self.initializers else None

    def set(self, node: onnx.NodeProto, position: int, value: Array) -> None:
        """Give `node` another constant; whoever else uses the old one keeps it."""
        name = node.input[position]
        if self.uses[name] > 1:
            self.uses[name] -= 1
            node.input[position] = name = f"{name}/{node.name}"
            self.uses[name] = 1
            self.initializers[name] = self.graph.initializer.add()
        self.initializers[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def fold_scale(model: onnx.ModelProto) -> int:
    """Fold `Mul(x, scale by channel) -> Conv` into the convolution's weights; returns how many were folded.

    Exact, because convolutions pad with zeros. The subtraction before it cannot be folded: padding comes after it.
    """
    look = Graph(model.graph)
    folded = 0
    for node in list(model.graph.node):
        scaled = look.producers.get(node.input[0]) if node.op_type == "Conv" else None
        if scaled is None or scaled.op_type != "Mul" or look.uses[scaled.output[0]] != 1 or groups(node) != 1:
            continue
        scale, weights = look.value(scaled.input[1]), look.value(node.input[1])
        if scale is None or weights is None or scale.shape[-3:] != (weights.shape[1], 1, 1):
            continue
        look.set(node, 1, weights * scale.reshape(1, -1, 1, 1))
        node.input[0] = scaled.input[0]
        model.graph.node.remove(scaled)
        folded += 1
    drop_unused(model.graph)
    return folded


def narrow_last_stage(model: onnx.ModelProto) -> int:
    """Compute only those channels of the last stage that a Gather keeps; returns how many convolutions were cut.

    The choice of channels is moved up through operators that treat each channel by itself, and into the convolution
    that makes them, as far as nobody else needs the other channels. A Gather that would cut none stays where it is.
    """
    cut = 0
    for gather in list(model.graph.node):
        if gather.op_type != "Gather" or axis(gather) != 1:
            continue
        look = Graph(model.graph)
        kept = look.value(gather.input[1])
        if kept is None or kept.ndim != 1 or not (count := sum(1 for _ in _convolutions(look, gather.input[0]))):
            continue
        narrowed = gather.input[0]
        _narrow(look, narrowed, gather.input[1], kept.astype(np.int64))
        look.producers[narrowed].output[0] = gather.output[0]
        model.graph.node.remove(gather)
        cut += count
    drop_unused(model.graph)
    return cut


def _convolutions(look: Graph, name: str) -> Iterator[onnx.NodeProto]:
    """The convolutions that could be cut if only some channels of `name` were needed."""
    node = look.producers.get(name)
    if node is None or look.uses[name] != 1:
        return
    if node.op_type == "Conv":
        weights = look.value(node.input[1])
        if weights is not None and groups(node) == 1:
            yield node
        elif weights is not None and weights.shape[:2] == (groups(node), 1):  # depthwise
            yield node
            yield from _convolutions(look, node.input[0])
    elif node.op_type in _UNARY:
        yield from _convolutions(look, node.input[0])
    elif node.op_type == "Add" and look.value(node.input[0]) is None and look.value(node.input[1]) is None:
        yield from _convolutions(look, node.input[0])
        yield from _convolutions(look, node.input[1])


def _narrow(look: Graph, name: str, kept_name: str, kept: npt.NDArray[np.int64]) -> None:
    """Make the producer of `name`, which nobody else uses, give the kept channels only."""
    node = look.producers[name]
    if node.op_type == "Conv":
        depthwise = groups(node) > 1
        for position in range(1, len(node.input)):
            value = look.value(node.input[position])
            assert value is not None
            look.set(node, position, value[kept])
        if not depthwise:
            return
        next(each for each in node.attribute if each.name == "group").i = len(kept)
    inputs = (0, 1) if node.op_type == "Add" else (0,)
    for position in inputs:
        if any(True for _ in _convolutions(look, node.input[position])):
            _narrow(look, node.input[position], kept_name, kept)
            continue
        whole = node.input[position]
        picked = f"{whole}/{kept_name}"  # by both names, since another choice may be made of the same tensor
        if picked not in look.producers:  # as early as can be, since several may read it
            gather = helper.make_node("Gather", [whole, kept_name], [picked], axis=1, name=f"keep/{picked}")
            nodes = list(look.graph.node)
            at = nodes.index(look.producers[whole]) + 1 if whole in look.producers else 0
            look.graph.node.insert(at, gather)
            look.producers[picked] = gather
        node.input[position] = picked


def groups(conv: onnx.NodeProto) -> int:
    """Of a convolution; 1 is an ordinary one."""
    return next((int(each.i) for each in conv.attribute if each.name == "group"), 1)


def axis(node: onnx.NodeProto) -> int:
    """That a node works along, as far as it says so; 0 is the default of Gather."""
    return next((int(each.i) for each in node.attribute if each.name == "axis"), 0)


def feature_maps(model: onnx.ModelProto) -> set[str]:
    """Computed tensors of four axes in float32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds = {each.name: each.type.tensor_type for each in (*graph.value_info, *graph.output)}
    return {name for name, kind in kinds.items() if kind.elem_type == TensorProto.FLOAT and len(kind.shape.dim) == 4}
