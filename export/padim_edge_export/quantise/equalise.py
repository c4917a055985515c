"""Widen narrow channels of an activation, so that they use more of the codes that all its channels share.

An int8 activation has one scale for all its channels, so a channel that moves a tenth as far as the widest one gets a
tenth of the codes. A positive factor per channel passes through convolutions, ReLU, pooling and additions. So each
channel is widened where it is made and narrowed where it is read, and the graph computes the same. Weights have one
scale per channel, so widening costs them nothing.

Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.1, do this for
pairs of layers. Here all tensors that additions tie together get one factor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, attribute, copied

__all__ = ["equalise", "factors"]

_POWER = 0.5
"""Exponent of a channel's distance from the widest one. 1 would leave no codes for anomalies in a quiet channel."""

_LARGEST = 8.0
"""Largest factor of a channel."""

_HOMOGENEOUS = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add")
"""Operators that give f times the output for f times the input, channel by channel."""

Array = npt.NDArray[np.float64]


def factors(graph: EmbeddingGraph, largest: Mapping[str, Array]) -> dict[str, Array]:
    """Choose a factor `(C,)`, at least 1, for each tensor that can have one.

    Args:
        graph: Graph in float32.
        largest: Largest absolute value `(C,)` of each channel, by tensor; tensors that are missing have no say.
    """
    editor = GraphEditor(graph.model.graph)
    found: dict[str, Array] = {}
    for tensors in _tied(editor):
        seen = [largest[name] for name in tensors if name in largest]
        if not seen or not editor.outputs.isdisjoint(tensors) or not _can_scale(editor, tensors):
            continue
        if len({len(each) for each in seen}) > 1:  # an addition spreads one channel over all
            continue
        width = np.max(seen, axis=0)
        widest = float(width.max())
        if widest <= 0:
            continue
        factor = np.minimum((widest / np.maximum(width, 1e-30)) ** _POWER, _LARGEST)
        found |= dict.fromkeys(tensors, factor)
    return found


def equalise(graph: EmbeddingGraph, factor: Mapping[str, Array]) -> EmbeddingGraph:
    """Return the same function of the pixels with each tensor inside multiplied by its `factor`.

    A convolution takes the factors into its weights, and operators that let factors through pass them on. All other
    readers of such a tensor read it divided by its factor.
    """
    model = copied(graph.model)
    editor = GraphEditor(model.graph)
    divided: set[str] = set()
    for node in editor.nodes:
        before, after = factor.get(node.input[0]) if node.input else None, factor.get(node.output[0])
        if node.op_type == "Conv":
            _scale(editor, node, before, after)
        elif after is None and before is not None and _keeps_channels(editor, node):
            kept = editor.value(node.input[1])
            assert kept is not None
            whole = node.output[0]
            editor.set_output(node, f"{whole}/equalised")
            with editor.behind(node):
                _divide(editor, f"{whole}/equalised", whole, before[kept])
        elif after is None:
            for name in dict.fromkeys(name for name in node.input if name in factor):
                if name not in divided:  # several nodes may read the same quotient
                    divided.add(name)
                    with editor.before(node):
                        _divide(editor, name, f"{name}/as_before", factor[name])
                inputs = [f"{name}/as_before" if each == name else each for each in node.input]
                editor.set_inputs(node, inputs)
    return dataclasses.replace(graph, model=model)


def _tied(editor: GraphEditor) -> list[set[str]]:
    """Group the tensors that must have the same factor, because operators of `_HOMOGENEOUS` connect them."""
    owner: dict[str, str] = {}

    def root(name: str) -> str:
        while owner.setdefault(name, name) != name:
            name = owner[name]
        return name

    for node in editor.nodes:
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


def _can_scale(editor: GraphEditor, tensors: set[str]) -> bool:
    """Tell whether all these tensors come from operators that can make them larger."""
    makers = [editor.maker(name) for name in tensors]
    return all(
        maker is not None
        and (
            maker.op_type in _HOMOGENEOUS
            or (maker.op_type == "Conv" and all(name in editor.constants for name in maker.input[1:]))
        )
        for maker in makers
    )


def _keeps_channels(editor: GraphEditor, node: NodeProto) -> bool:
    """Tell whether a node chooses channels by constant numbers."""
    return node.op_type == "Gather" and attribute(node, "axis", 0) == 1 and node.input[1] in editor.constants


def _scale(editor: GraphEditor, conv: NodeProto, before: Array | None, after: Array | None) -> None:
    """Let the convolution read a tensor `before` times as large and make one `after` times as large."""
    if before is None and after is None:
        return
    weights = editor.value(conv.input[1])
    assert weights is not None
    changed = weights.astype(np.float64)
    if before is not None:  # each group of outputs reads its own inputs
        count = attribute(conv, "group", 1)
        by_group = changed.reshape(count, len(weights) // count, *weights.shape[1:])
        changed = (by_group / before.reshape(count, 1, -1, 1, 1)).reshape(weights.shape)
    if after is not None:
        changed = changed * after[:, None, None, None]
        if len(conv.input) > 2:
            bias = editor.value(conv.input[2])
            assert bias is not None
            editor.replace_constant(conv, 2, (bias * after).astype(np.float32))
    editor.replace_constant(conv, 1, changed.astype(np.float32))


def _divide(editor: GraphEditor, source: str, output: str, factor: Array) -> None:
    share = editor.constant(f"{output}/share", (1 / factor).astype(np.float32).reshape(-1, 1, 1))
    editor.node("Mul", [source, share], output, name=f"int8/share_{output}")
