"""Activations that an int8 graph rounds, and a model that measures their ranges on good images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from padim_edge_export.rewrites import feature_maps
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["Range", "probe", "rounded_activations"]

_QUANTISED = ("Conv", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Operators that get their inputs as integers; Add only where it adds two tensors `(N, C, h, w)`."""

_FUSED = ("Relu", "Clip")
"""Operators that stay together with the operator before them."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Range:
    """Smallest and largest value of each channel on good images."""

    low: Array
    """`(C,)` smallest values."""
    high: Array
    """`(C,)` largest values."""

    def union(self, other: Range) -> Range:
        """Return the range that holds both."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def times(self, factor: Array) -> Range:
        """Return the range of the channels multiplied by positive factors `(C,)`."""
        return Range(self.low * factor, self.high * factor)


def probe(graph: EmbeddingGraph) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """Return a model that measures ranges, and its two outputs (low, high) by the measured tensor."""
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "probe")
    outputs = {name: (f"{name}/low", f"{name}/high") for name in _measured(graph)}
    axes = editor.constant("axes", [0, 2, 3], np.int64)
    for name, ends in outputs.items():
        for kind, end in zip(("ReduceMin", "ReduceMax"), ends, strict=True):
            editor.node(kind, [name, axes], end, name=f"probe/{end}", keepdims=0)
    editor.set_outputs(dict.fromkeys(end for ends in outputs.values() for end in ends))
    return model, outputs


def rounded_activations(graph: EmbeddingGraph) -> list[str]:
    """List the tensors that an int8 graph rounds, in the order in which they are made; parts are left out."""
    editor = GraphEditor(graph.model.graph)
    maps = feature_maps(graph.model)
    wanted: set[str] = set()
    for node in editor.nodes:
        # Networks also add constants in float, and add integers to compute shapes.
        if node.op_type not in _QUANTISED or (node.op_type == "Add" and not maps.issuperset(node.input)):
            continue
        wanted.update(node.input[:1] if node.op_type == "Conv" else node.input)
        # The result is rounded behind the activation function that belongs to the operator.
        output = node.output[0]
        after = editor.readers(output)
        if len(after) == 1 and after[0].op_type in _FUSED:
            output = after[0].output[0]
        wanted.add(output)
    parts = {part.name for part in graph.outputs}
    return [name for node in editor.nodes for name in node.output if name in wanted and name not in parts]


def _measured(graph: EmbeddingGraph) -> list[str]:
    return [*rounded_activations(graph), *sorted(part.name for part in graph.outputs)]
