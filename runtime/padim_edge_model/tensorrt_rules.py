"""Rules that tell from a graph alone what TensorRT will refuse, without TensorRT, a GPU or the constants.

The rules hold for TensorRT 10.3, which JetPack 6 has and keeps, up to version 11; where versions differ, the narrower
one counts. They come from the operator tables and change logs of the ONNX parser, and from trials with TensorRT for
RTX, which builds without a GPU; `tests/tensorrt/test_parser.py` repeats them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from padim_edge_artifact import PadimEdgeError
from padim_edge_model.graph_editing import GraphEditor, attribute, bodies, value_types

__all__ = ["Finding", "check", "require"]

OPSETS = range(9, 21)
"""Operator sets that TensorRT 10.3 reads."""
NEWEST_IR = 10
"""Newest version of the file format that TensorRT 10.3 reads."""
LARGEST_K = 3840
"""Largest number of values that TopK may pick."""

_CURES = {
    "quantise with QuantizeLinear and DequantizeLinear around the float operator": (
        "ConvInteger DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul"
    ),
    # TensorRT has NonZero only with a library of plugins, which is not always there.
    "compute it outside the model, because the shape of its result depends on the data": "Compress NonZero Unique",
    "use plain tensors": (
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence"
    ),
    "write the window into the model as a constant": "BlackmanWindow HammingWindow HannWindow",  # from 10.4
    "write it with other operators or compute it outside the model": (
        "AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im DFT Det "
        "ImageDecoder MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss RegexFullMatch STFT "
        "SoftmaxCrossEntropyLoss StringConcat StringNormalizer StringSplit TfIdfVectorizer"
    ),
}
"""Operators that TensorRT lacks, by what to do instead."""

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
"""Attributes of Resize: allowed values, and the cure for others."""

_QUANTISED = {TensorProto.INT8, TensorProto.FLOAT8E4M3FN}
"""Element types that TensorRT takes between QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class Finding:
    """One reason for which TensorRT refuses a model."""

    node: str
    """Name of the node, or of its first output where it has none; `model` stands for the whole file."""
    op: str
    """Operator of the node; blank for the whole file."""
    refused: str
    """Cause, in words that follow the node's name."""
    cure: str
    """Change that makes TensorRT accept it."""

    def __str__(self) -> str:
        return f"{self.node}{f' ({self.op})' if self.op else ''}: {self.refused}; {self.cure}"


@dataclass(frozen=True, eq=False)
class _Model:
    """Model as the rules look at it."""

    graph: GraphEditor
    """Graph with the bodies of its control flow laid flat, and what `Constant` nodes hold as constants."""
    types: Mapping[str, int]
    """Element types of the tensors, as far as they can be inferred."""
    opset: int
    """Version of the standard operators."""


_Rule = Callable[[_Model, NodeProto], Iterator[tuple[str, str]]]
"""Function that yields what is refused about a node, and its cure."""


def check(model: ModelProto) -> tuple[Finding, ...]:
    """List everything that TensorRT refuses, in the order of the nodes.

    Args:
        model: Any model; constants in a data file are neither needed nor read.
    """
    read = _read(model)
    findings = [Finding("model", "", *pair) for pair in _versions(model, read)]
    for node in read.graph.nodes:
        name = node.name or next(iter(node.output), "")
        findings += [Finding(name, node.op_type, *pair) for rule in _RULES for pair in rule(read, node)]
    return tuple(findings)


def require(model: ModelProto) -> None:
    """Refuse a model that TensorRT would refuse.

    Raises:
        PadimEdgeError: There are findings. The sentence names the first one and counts the others.
    """
    if findings := check(model):
        more = len(findings) - 1
        others = f" (and {more} more finding{'' if more == 1 else 's'})" if more else ""
        raise PadimEdgeError(f"TensorRT will refuse {findings[0]}{others}")


def _read(model: ModelProto) -> _Model:
    flat = GraphProto(output=model.graph.output)
    for body in bodies(model.graph):
        flat.node.extend(body.node)
        flat.initializer.extend(body.initializer)
    for node in flat.node:
        if (held := _held(node)) is not None:
            flat.initializer.append(held)
    types = {tensor.name: tensor.data_type for tensor in flat.initializer}
    types |= {name: kind.elem_type for name, kind in value_types(model).items()}
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    return _Model(GraphEditor(flat), types, opset)


def _held(node: NodeProto) -> TensorProto | None:
    """Return what a `Constant` node holds, under the name of its output; `None` for other nodes."""
    if node.op_type != "Constant":
        return None
    for name, kind in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if (value := attribute(node, name, None)) is not None:
            return numpy_helper.from_array(np.asarray(value, dtype=kind), node.output[0])
    value = attribute(node, "value", None)
    if not isinstance(value, TensorProto):
        return None
    held = TensorProto()
    held.CopyFrom(value)
    held.name = node.output[0]
    return held


def _input(node: NodeProto, index: int) -> str:
    """Return the name of an input; blank where it is left out."""
    return node.input[index] if index < len(node.input) else ""


def _type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _versions(model: ModelProto, read: _Model) -> Iterator[tuple[str, str]]:
    if read.opset not in OPSETS:
        yield f"opset {read.opset} is not {OPSETS[0]} to {OPSETS[-1]}", "export with opset 18"
    if model.ir_version > NEWEST_IR:
        yield f"IR version {model.ir_version} is newer than {NEWEST_IR}", "write the file with IR version 8"


def _operators(_: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.domain not in ("", "ai.onnx"):
        yield (
            f"the operator is of the domain {node.domain}",
            "use the standard operators; models that onnxruntime has optimised or quantised for itself have others",
        )
    elif node.op_type in _REFUSED:
        yield "not every TensorRT since 10.3 has this operator", _REFUSED[node.op_type]


def _resize(_: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type != "Resize":
        return
    for name, (allowed, cure) in _RESIZE.items():
        value = attribute(node, name, None)
        if value is not None and value not in allowed:
            yield f"it has {name}={value}", cure


def _unsigned(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    """Refuse uint8 inside the model: TensorRT has it at the borders only, or quantised, which has its own rule."""
    if node.op_type not in ("Cast", "DequantizeLinear", "QuantizeLinear"):
        for name in node.input:
            if model.types.get(name) == TensorProto.UINT8:
                yield f"it reads {name}, which is uint8", "put a Cast to float before it"
    if node.op_type not in ("Constant", "QuantizeLinear"):
        for name in node.output:
            if model.types.get(name) == TensorProto.UINT8 and name not in model.graph.outputs:
                yield f"it makes {name}, which is uint8 and not an output of the model", "use float or int32 inside"


def _quantised_constants(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        return
    for name in node.input:
        if name in model.graph.constants and model.types.get(name) == TensorProto.INT8:
            yield f"it reads the int8 constant {name}", "put a DequantizeLinear directly behind the constant"


def _quantisation(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
        return
    zero = _input(node, 2)
    if block := attribute(node, "block_size", 0):
        yield f"it has a scale for each block of {block}", "give one scale, or one for each index of an axis"
    if node.op_type == "DequantizeLinear":
        kind = model.types.get(node.input[0], 0)
    else:
        kind = model.types.get(zero, 0) if zero else attribute(node, "output_dtype", TensorProto.UINT8)
    if kind == TensorProto.INT32:
        yield f"it dequantises {node.input[0]}, which is int32", "leave biases in float (QuantizeBias=False)"
    elif kind and kind not in _QUANTISED:
        yield f"its quantised type is {_type_name(kind)}", "quantise to int8, with an int8 zero point of 0"
    if zero and ((value := model.graph.value(zero)) is None or value.astype(np.float32).any()):
        yield f"its zero point {zero} is not a constant 0", "quantise symmetrically"


def _axes(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type == "Pad" and _input(node, 3):
        yield "it has axes", "give pads for all axes"  # TensorRT takes them from 10.4 on
    elif node.op_type.startswith("Reduce") or node.op_type in ("CumSum", "Squeeze", "Unsqueeze"):
        axes = _input(node, 1)
        if axes and axes not in model.graph.constants:
            yield f"its axes {axes} are computed", "make them a constant"


def _top_k(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type != "TopK":
        return
    k = model.graph.value(_input(node, 1))
    if k is not None and k.max() > LARGEST_K:
        yield f"it picks {k.max()}", f"pick at most {LARGEST_K}, or use ReduceMax"
    if not attribute(node, "sorted", 1):
        yield "it asks for unsorted results", "leave out sorted=0"


def _mixed_types(model: _Model, node: NodeProto) -> Iterator[tuple[str, str]]:
    """Refuse inputs of several types; TensorRT converts none by itself, not even float to float16."""
    try:
        formal = onnx.defs.get_schema(node.op_type, model.opset, node.domain).inputs
    except onnx.defs.SchemaError:
        return
    kinds: dict[str, dict[int, str]] = {}
    for i, name in enumerate(node.input):
        parameter = formal[min(i, len(formal) - 1)]  # the last parameter may be variadic
        if parameter.is_homogeneous and (kind := model.types.get(name, 0)):
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
