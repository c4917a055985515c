"""Reading and changing ONNX graphs: the only wrapper around `onnx.GraphProto` in this project."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

__all__ = ["Array", "GraphEditor", "attribute", "bodies", "copied", "keep_attributes", "set_attribute", "value_types"]

Array = npt.NDArray[Any]


class GraphEditor:
    """Look-ups and changes of one graph, which is changed in place.

    Every change goes through a method, so the look-ups by name are always up to date. Bodies of control flow are not
    looked into.

    Args:
        graph: The graph.
        prefix: Text put before the names of new constants and nodes, so that they differ from those already there.
    """

    def __init__(self, graph: GraphProto, prefix: str = "") -> None:
        self.graph = graph
        self.prefix = f"{prefix}/" if prefix else ""
        self.large: dict[str, Array] = {}
        """Constants that the graph refers to by name and does not hold."""
        self._nodes = list(graph.node)
        self._anchor: NodeProto | None = None
        self._index()

    # Look-ups

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """All nodes, in order, as they are now; the graph may be changed while this is walked through."""
        return tuple(self._nodes)

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(output.name for output in self.graph.output)

    @property
    def constants(self) -> Mapping[str, TensorProto]:
        """Constants that the graph holds, or whose data file it names, by name."""
        return self._constants

    def value(self, name: str) -> Array | None:
        """Return the constant of that name; `None` if there is none, or if a data file holds it."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that makes a tensor; `None` for inputs of the graph and for constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a tensor, each once."""
        return list({id(node): node for node in self._readers.get(name, ())}.values())

    def uses(self, name: str) -> int:
        """Count the places that need a tensor: inputs of nodes, and outputs of the graph."""
        return len(self._readers.get(name, ())) + [output.name for output in self.graph.output].count(name)

    # Adding

    def constant(self, name: str, values: npt.ArrayLike, kind: npt.DTypeLike = np.float32) -> str:
        """Add a constant to the graph and return its full name; asked for twice, it is there once."""
        name = f"{self.prefix}{name}"
        array = np.asarray(values, dtype=kind, order="C")
        if name in self._constants:
            there = numpy_helper.to_array(self._constants[name])
            assert np.array_equal(there, array, equal_nan=array.dtype.kind == "f"), f"two values for {name}"
            return name
        self._add(numpy_helper.from_array(array, name))
        return name

    def beside(self, name: str, values: Array) -> str:
        """Keep a large constant in `large` until the file is written, so that it exists once; return its full name."""
        name = f"{self.prefix}{name}"
        self.large[name] = values
        return name

    def external(self, name: str, values: Array, *, location: str, offset: int) -> None:
        """Refer to a constant in a data file.

        Args:
            name: Full name of the constant.
            values: The constant; only its type, shape and size are used.
            location: File name of the data file, which lies beside the model.
            offset: Bytes before the constant in that file.
        """
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", offset), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._add(tensor)

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        *,
        name: str | None = None,
        more: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Add a node, at the end of the graph or where `before` or `behind` says.

        Args:
            kind: ONNX operator.
            inputs: Names of the tensors that it reads.
            output: Name of the tensor that it makes.
            name: Full name of the node; by default made of the prefix, the operator and the output.
            more: Names of further tensors that it makes.
            attributes: Attributes of the operator.

        Returns:
            `output`.
        """
        made = helper.make_node(
            kind, inputs, [output, *more], name=name or f"{self.prefix}{kind}_{output}", **attributes
        )
        at = len(self._nodes) if self._anchor is None else self._position(self._anchor)
        self.graph.node.insert(at, made)
        self._nodes.insert(at, self.graph.node[at])  # protobuf inserts a copy
        self._enter(self._nodes[at])
        return output

    @contextmanager
    def before(self, node: NodeProto | None) -> Iterator[None]:
        """Let `node` add before this node, in the order of the calls; `None` stands for the end of the graph."""
        previous, self._anchor = self._anchor, node
        try:
            yield
        finally:
            self._anchor = previous

    @contextmanager
    def behind(self, node: NodeProto | None) -> Iterator[None]:
        """Let `node` add behind this node, in the order of the calls; `None` stands for the start of the graph."""
        at = 0 if node is None else self._position(node) + 1
        with self.before(self._nodes[at] if at < len(self._nodes) else None):
            yield

    # Changing

    def change_constant(self, name: str, value: Array) -> None:
        """Give a constant another value, for all who read it."""
        self._constants[name].CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))

    def replace_constant(self, node: NodeProto, position: int, value: Array) -> None:
        """Give one node another constant at an input; other readers of the old one keep it."""
        name = node.input[position]
        if self.uses(name) > 1:
            own = f"{name}/{node.name}"
            self._add(TensorProto(name=own))
            self.set_input(node, position, own)
            name = own
        self.change_constant(name, value)

    def set_input(self, node: NodeProto, position: int, name: str) -> None:
        """Let a node read another tensor at one input."""
        self.set_inputs(node, [*node.input[:position], name, *node.input[position + 1 :]])

    def set_inputs(self, node: NodeProto, inputs: Sequence[str]) -> None:
        """Let a node read these tensors and no others."""
        self._leave(node)
        node.input[:] = inputs
        self._enter(node)

    def set_output(self, node: NodeProto, name: str) -> None:
        """Rename the first output of a node; readers of the old name are left as they are."""
        self._leave(node)
        node.output[0] = name
        self._enter(node)

    def redirect(self, old: str, new: str) -> None:
        """Let all nodes that read `old` read `new`; outputs of the graph are left as they are."""
        for node in self.readers(old):
            self.set_inputs(node, [new if name == old else name for name in node.input])

    def set_outputs(self, shapes: Mapping[str, Sequence[str | int | None] | None]) -> None:
        """Give the graph these outputs instead of its own: shapes of float32 tensors by name, `None` if unknown."""
        del self.graph.output[:]
        for name, shape in shapes.items():
            self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def remove(self, node: NodeProto) -> None:
        """Take a node out of the graph; its attributes and names can still be read."""
        at = self._position(node)
        self._leave(node)
        del self._nodes[at], self.graph.node[at]

    def drop_unused(self) -> None:
        """Remove nodes and constants that no output of the graph depends on."""
        needed = set(self.outputs)
        for at in reversed(range(len(self._nodes))):
            node = self._nodes[at]
            if needed.isdisjoint(node.output):
                del self._nodes[at], self.graph.node[at]
            else:
                needed.update(node.input)
        for at in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[at].name not in needed:
                del self.graph.initializer[at]
        self._index()

    # Book-keeping

    def _index(self) -> None:
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._makers: dict[str, NodeProto] = {}
        self._readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in self._nodes:
            self._enter(node)

    def _enter(self, node: NodeProto) -> None:
        self._makers.update(dict.fromkeys(node.output, node))
        for name in node.input:
            self._readers[name].append(node)

    def _leave(self, node: NodeProto) -> None:
        for name in node.output:
            if self._makers.get(name) is node:
                del self._makers[name]
        for name in set(node.input):
            self._readers[name] = [reader for reader in self._readers[name] if reader is not node]

    def _position(self, node: NodeProto) -> int:
        return next(at for at, each in enumerate(self._nodes) if each is node)  # `index` compares whole messages

    def _add(self, tensor: TensorProto) -> None:
        self.graph.initializer.append(tensor)
        self._constants[tensor.name] = self.graph.initializer[-1]


def copied(model: ModelProto) -> ModelProto:
    """Return a copy of a model, which shares nothing with it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or `default` if the node does not say it.

    Texts are `str` and lists are tuples.
    """
    for each in node.attribute:
        if each.name == name:
            value = helper.get_attribute_value(each)
            if isinstance(value, bytes):
                return value.decode()
            return tuple(value) if isinstance(value, list) else value
    return default


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give an attribute a value, in place of the one that it had."""
    made = helper.make_attribute(name, value)
    for each in node.attribute:
        if each.name == name:
            each.CopyFrom(made)
            return
    node.attribute.append(made)


def keep_attributes(node: NodeProto, names: Sequence[str]) -> None:
    """Remove all attributes of a node but these."""
    for at in reversed(range(len(node.attribute))):
        if node.attribute[at].name not in names:
            del node.attribute[at]


def bodies(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield the graph, and the bodies of all control flow in it."""
    yield graph
    for each in (each for node in graph.node for each in node.attribute):
        for body in (each.g, *each.graphs) if each.type == AttributeProto.GRAPH else each.graphs:
            yield from bodies(body)


def value_types(model: ModelProto) -> dict[str, TypeProto.Tensor]:
    """Return the element type and shape of each tensor that can be inferred, by name; constants are left out."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return {
        value.name: value.type.tensor_type
        for graph in bodies(inferred.graph)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
