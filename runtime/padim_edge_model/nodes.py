"""Appending nodes and constants to an ONNX graph, and taking away what nothing needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

__all__ = ["Array", "Nodes", "drop_unused"]

Array = npt.NDArray[Any]


class Nodes:
    """Writes to the end of a graph.

    Tensors keep the names that the caller gives them; constants get the prefix, so that they cannot meet those of the
    graph that was there.
    """

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix
        self.large: dict[str, Array] = {}
        """Constants that the graph refers to by name and does not hold."""

    def constant(self, name: str, values: npt.ArrayLike, kind: Any = np.float32) -> str:
        """A small constant, kept in the graph; returns its full name. Asked for twice, it is there once."""
        name = f"{self.prefix}/{name}"
        if all(each.name != name for each in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=kind, order="C"), name))
        return name

    def beside(self, name: str, values: Array) -> str:
        """A large constant, kept beside the graph until the file is written, so that it exists only once."""
        name = f"{self.prefix}/{name}"
        self.large[name] = values
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        self.graph.node.append(
            helper.make_node(kind, inputs, [output], name=f"{self.prefix}/{kind}_{output}", **attributes)
        )
        return output


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that no output depends on."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for initializer in [each for each in graph.initializer if each.name not in needed]:
        graph.initializer.remove(initializer)
