"""What TensorRT will refuse, told from the graph alone: no TensorRT and no GPU is needed, and no constant is loaded.

The rules hold for TensorRT 10.3, which JetPack 6 has and keeps, to 11: those of the older, narrower one win. They come
from the operator tables and change logs of the ONNX parser, and from trying TensorRT for RTX, which builds without a
GPU (tests/tensorrt/test_parser.py tries it again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from padim_edge_artifact import PadimEdgeError

__all__ = ["Finding", "check", "require"]

OPSETS = range(9, 21)
"""Of TensorRT 10.3."""
NEWEST_IR = 10
"""Of the onnx library in TensorRT 10.3."""
LARGEST_K = 3840
"""The most that TopK may pick."""

_CURES = {
    "quantise with QuantizeLinear and DequantizeLinear around the float operator": (
        "ConvInteger DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul"
    ),
    # TensorRT has NonZero, but only with a library of plugins that is not always there.
    "compute it outside the model, because the shape of its result depends on the data": "Compress NonZero Unique",
    "use plain tensors": (
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence"
    ),
    "write the window into the model as a constant": "BlackmanWindow HammingWindow HannWindow",  # 10.4 has them
    "write it with other operators or compute it outside the model": (
        "AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im DFT Det "
        "ImageDecoder MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss RegexFullMatch STFT "
        "SoftmaxCrossEntropyLoss StringConcat StringNormalizer StringSplit TfIdfVectorizer"
    ),
}
_REFUSED = {op: cure for cure, ops in _CURES.items() for op in ops.split()}

_RESIZE: dict[str, tuple[set[Any], str]] = {
    "antialias": ({0}, "shrink with a convolution or an AveragePool, or before the model"),
    "axes": ({()}, "give scales for all axes"),
    "coordinate_transformation_mode": (
        {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"},
        "use half_pixel",
    ),
    "keep_aspect_ratio_policy": ({"stretch"}, "give the scales"),
    "mode": ({"nearest", "linear"}, "use linear, or write the cubic weights as two MatMuls"),
}
"""Attributes of Resize: what they may be, and the cure."""

_QUANTISED = {TensorProto.INT8, TensorProto.FLOAT8E4M3FN}
"""Element types between QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class Finding:
    """One thing that TensorRT refuses."""

    node: str
    """Name of the node, or of its first output where it has none; `model` where the whole file is meant."""
    op: str
    """Operator of the node; blank where the whole file is meant."""
    refused: str
    cure: str

    def __str__(self) -> str:
        return f"{self.node}{f' ({self.op})' if self.op else ''}: {self.refused}; {self.cure}"


@dataclass(frozen=True, eq=False)
class _Graph:
    """What the rules look at, with the bodies of the control flow laid flat."""

    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]
    """Element types of the values, where they can be inferred."""
    outputs: frozenset[str]
    opset: int


_Rule = Callable[[_Graph, NodeProto], Iterator[tuple[str, str]]]
"""Gives pairs of what is refused and its cure."""


def check(model: ModelProto) -> tuple[Finding, ...]:
    """Everything that TensorRT refuses, in the order of the nodes.

    Args:
        model: Any model; constants in a data file are neither needed nor read.
    """
    graph = _read(model)
    findings = [Finding("model", "", *pair) for pair in _versions(model, graph)]
    for node in graph.nodes:
        name = node.name or next(iter(node.output), "")
        findings += [Finding(name, node.op_type, *pair) for rule in _RULES for pair in rule(graph, node)]
    return tuple(findings)


def require(model: ModelProto) -> None:
    """Refuse a model that TensorRT would refuse.

    Raises:
        PadimEdgeError: There are findings; the first one's node and cure are named, the others counted.
    """
    if findings := check(model):
        more = len(findings) - 1
        others = f" (and {more} more finding{'' if more == 1 else 's'})" if more else ""
        raise PadimEdgeError(f"TensorRT will refuse {findings[0]}{others}")


def _read(model: ModelProto) -> _Graph:
    inferred = onnx.shape_inference.infer_shapes(model)
    graphs = tuple(_graphs(inferred.graph))
    nodes = tuple(node for graph in graphs for node in graph.node)
    constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    constants |= {node.output[0]: tensor for node in nodes if (tensor := _constant(node)) is not None}
    types = {name: tensor.data_type for name, tensor in constants.items()}
    for graph in graphs:
        for value in (*graph.input, *graph.output, *graph.value_info):
            types[value.name] = value.type.tensor_type.elem_type
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    outputs = frozenset(value.name for value in inferred.graph.output)
    return _Graph(nodes, constants, types, outputs, opset)


def _constant(node: NodeProto) -> TensorProto | None:
    """What a Constant node holds, in whichever attribute."""
    if node.op_type != "Constant":
        return None
    for name, kind in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if (value := _attribute(node, name, None)) is not None:
            return numpy_helper.from_array(np.asarray(value, dtype=kind))
    value = _attribute(node, "value", None)
    return value if isinstance(value, TensorProto) else None


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for attribute in (each for node in graph.node for each in node.attribute):
        for body in (attribute.g, *attribute.graphs) if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            yield from _graphs(body)


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                return value.decode()
            return tuple(value) if isinstance(value, list) else value
    return default


def _input(node: NodeProto, index: int) -> str:
    """Name of an input; blank where it is left out."""
    return node.input[index] if index < len(node.input) else ""


def _value(graph: _Graph, name: str) -> npt.NDArray[Any] | None:
    """A constant that stands in the model itself."""
    tensor = graph.constants.get(name)
    if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
        return None
    return np.asarray(numpy_helper.to_array(tensor))


def _type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _versions(model: ModelProto, graph: _Graph) -> Iterator[tuple[str, str]]:
    if graph.opset not in OPSETS:
        yield f"opset {graph.opset} is not {OPSETS[0]} to {OPSETS[-1]}", "export with opset 18"
    if model.ir_version > NEWEST_IR:
        yield f"IR version {model.ir_version} is newer than {NEWEST_IR}", "write the file with IR version 8"


def _operators(_: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.domain not in ("", "ai.onnx"):
        yield (
            f"the operator is of the domain {node.domain}",
            "use the standard operators; models that onnxruntime has optimised or quantised for itself have others",
        )
    elif node.op_type in _REFUSED:
        yield "not every TensorRT since 10.3 has this operator", _REFUSED[node.op_type]


def _resize(_: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type != "Resize":
        return
    for name, (allowed, cure) in _RESIZE.items():
        value = _attribute(node, name, None)
        if value is not None and value not in allowed:
            yield f"it has {name}={value}", cure


def _unsigned(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    """TensorRT has uint8 at the model's borders only; what is quantised has a rule of its own."""
    if node.op_type not in ("Cast", "DequantizeLinear", "QuantizeLinear"):
        for name in node.input:
            if graph.types.get(name) == TensorProto.UINT8:
                yield f"it reads {name}, which is uint8", "put a Cast to float before it"
    if node.op_type not in ("Constant", "QuantizeLinear"):
        for name in node.output:
            if graph.types.get(name) == TensorProto.UINT8 and name not in graph.outputs:
                yield f"it makes {name}, which is uint8 and not an output of the model", "use float or int32 inside"


def _quantised_constants(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        return
    for name in node.input:
        if name in graph.constants and graph.types.get(name) == TensorProto.INT8:
            yield f"it reads the int8 constant {name}", "put a DequantizeLinear directly behind the constant"


def _quantisation(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
        return
    zero = _input(node, 2)
    if block := _attribute(node, "block_size", 0):
        yield f"it has a scale for each block of {block}", "give one scale, or one for each index of an axis"
    if node.op_type == "DequantizeLinear":
        kind = graph.types.get(node.input[0], 0)
    else:
        kind = graph.types.get(zero, 0) if zero else _attribute(node, "output_dtype", TensorProto.UINT8)
    if kind == TensorProto.INT32:
        yield f"it dequantises {node.input[0]}, which is int32", "leave biases in float (QuantizeBias=False)"
    elif kind and kind not in _QUANTISED:
        yield f"its quantised type is {_type_name(kind)}", "quantise to int8, with an int8 zero point of 0"
    if zero and ((value := _value(graph, zero)) is None or value.astype(np.float32).any()):
        yield f"its zero point {zero} is not a constant 0", "quantise symmetrically"


def _axes(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type == "Pad" and _input(node, 3):
        yield "it has axes", "give pads for all axes"  # TensorRT 10.4 takes them
    elif node.op_type.startswith("Reduce") or node.op_type in ("CumSum", "Squeeze", "Unsqueeze"):
        axes = _input(node, 1)
        if axes and axes not in graph.constants:
            yield f"its axes {axes} are computed", "make them a constant"


def _top_k(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type != "TopK":
        return
    k = _value(graph, _input(node, 1))
    if k is not None and k.max() > LARGEST_K:
        yield f"it picks {k.max()}", f"pick at most {LARGEST_K}, or use ReduceMax"
    if not _attribute(node, "sorted", 1):
        yield "it asks for unsorted results", "leave out sorted=0"


def _mixed_types(graph: _Graph, node: NodeProto) -> Iterator[tuple[str, str]]:
    """TensorRT converts no type by itself, least of all between float and float16."""
    try:
        formal = onnx.defs.get_schema(node.op_type, graph.opset, node.domain).inputs
    except onnx.defs.SchemaError:
        return
    kinds: dict[str, dict[int, str]] = {}
    for i, name in enumerate(node.input):
        parameter = formal[min(i, len(formal) - 1)]  # the last one may be variadic
        if parameter.is_homogeneous and (kind := graph.types.get(name, 0)):
            kinds.setdefault(parameter.type_str, {})[kind] = name
    for found in (each for each in kinds.values() if len(each) > 1):
        names = " and ".join(f"{name} ({_type_name(kind)})" for kind, name in found.items())
        yield f"it mixes {names}", "put a Cast before it"


_RULES: tuple[_Rule, ...] = (
    _operators,
    _resize,
    _unsigned,
    _quantised_constants,
    _quantisation,
    _axes,
    _top_k,
    _mixed_types,
)
