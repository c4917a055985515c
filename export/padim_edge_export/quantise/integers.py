"""An embedding graph in int8: what ranges it needs (`probe`), and the graph with them (`quantise`).

Quantisation is written as QuantizeLinear and DequantizeLinear around the convolutions, pools and additions of the
backbone (static, one scale an activation, one scale a channel of the weights). The two targets cannot share a file:

* `cpu`, which onnxruntime runs in integers: uint8 activations with a zero point, int32 biases, pixels taken as they
  are, and weights of at most 63, since processors without VNNI add two products in 16 bits.
* `tensorrt`, which takes symmetric int8 only, and biases in float32. Its first convolution stays in float32: symmetric
  codes would round pixels to steps of 1.2 (screw lost .007 image AUROC by it; now see benchmarks/README.md).

Before that its channels are evened out (`equalise`) and its weights rounded for what they are multiplied with
(`rounding`); both cost nothing when it runs. The Gaussians are fitted on what this graph gives, so they know its
rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from padim_edge_export.quantise.rounding import Rounded
from padim_edge_export.rewrites import feature_maps, groups
from padim_edge_model.graph import Codes, EmbeddingGraph, Part
from padim_edge_model.nodes import drop_unused

__all__ = ["LARGEST_WEIGHT", "Range", "probe", "quantise"]

LARGEST_WEIGHT = {"cpu": 63, "tensorrt": 127}

_QUANTISED = ("Conv", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Operators that get their inputs as integers; Add where it adds two tensors `(N, C, h, w)`."""

_FUSED = ("Relu", "Clip")
"""Stay together with the operator before them."""

_MARGIN = 1.25
"""The codes of the embedding reach this much further than the good images did, since anomalies will."""

_LEAST = 0.02
"""A dimension that hardly moved on good images still gets codes for this share of what the widest one did."""

_MIDDLE = 128
"""Zero point that a part's convolution works with where its dimensions have different ones."""

_ONE_SCALE = ("Add", "Sigmoid", "LeakyRelu")
"""What may make a part, and what onnxruntime fuses with the rounding behind it and then refuses for having more than
one scale. (EfficientNet's and MobileNet's blocks end in an addition; ResNet's have a ReLU behind it.)"""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Range:
    """Smallest and largest value seen of each channel `(C,)`."""

    low: Array
    high: Array

    def union(self, other: Range) -> Range:
        """Of both."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def times(self, factor: Array) -> Range:
        """Of the channels multiplied by a positive factor each."""
        return Range(self.low * factor, self.high * factor)


def probe(graph: EmbeddingGraph) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """A model that tells the ranges of a batch: for each tensor, the names of the outputs with its low and high."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    outputs = {}
    parts = {part.name for part in graph.parts}
    for name in [*_activations(graph), *sorted(parts)]:
        outputs[name] = (f"{name}/low", f"{name}/high")
        for kind, output in zip(("ReduceMin", "ReduceMax"), outputs[name], strict=True):
            node = helper.make_node(kind, [name, "probe/axes"], [output], name=f"probe/{output}", keepdims=0)
            model.graph.node.append(node)
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3], np.int64), "probe/axes"))
    return model, outputs


def _activations(graph: EmbeddingGraph) -> list[str]:
    """Tensors that will be rounded, in the order in which they are made."""
    nodes = graph.model.graph.node
    producers = {name: node for node in nodes for name in node.output}
    images = feature_maps(graph.model)
    wanted: dict[str, None] = {}
    for node in nodes:
        # Networks also add constants to what they multiplied in float, and compute shapes by adding integers.
        if node.op_type not in _QUANTISED or (node.op_type == "Add" and not images.issuperset(node.input)):
            continue
        wanted |= dict.fromkeys(node.input[:1] if node.op_type == "Conv" else node.input)
        # What comes out, through the activation that belongs to it.
        output = node.output[0]
        after = [each for each in nodes if output in each.input]
        if len(after) == 1 and after[0].op_type in _FUSED:
            output = after[0].output[0]
        wanted[output] = None
    parts = {part.name for part in graph.parts}
    return [name for name in producers if name in wanted and name not in parts]


def quantise(
    graph: EmbeddingGraph, ranges: Mapping[str, Range], target: str, rounded: Mapping[str, Rounded] | None = None
) -> EmbeddingGraph:
    """The graph in int8.

    Args:
        graph: In float32, its pixels' scale folded into the first convolution.
        ranges: Of each tensor that `probe` names, over good images.
        target: `cpu` or `tensorrt`.
        rounded: The weights of convolutions in integers of at most `LARGEST_WEIGHT`, by name; those of the others are
            rounded to the nearest ones.
    """
    writer = _Writer(graph, ranges, target)
    writer.activations()
    writer.take_rounded(rounded or {})
    if target == "cpu":
        writer.take_pixels()
        for part in graph.parts:
            writer.take_scales(part)
    writer.weights()
    parts = tuple(writer.codes(part) for part in graph.parts) if target == "cpu" else graph.parts
    drop_unused(writer.model.graph)
    return dataclasses.replace(graph, model=writer.model, parts=parts, precision="int8")


class _Writer:
    """The graph while it is being changed."""

    def __init__(self, graph: EmbeddingGraph, ranges: Mapping[str, Range], target: str) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(graph.model)
        self.source, self.ranges, self.target = graph, ranges, target
        self.constants = {each.name: numpy_helper.to_array(each) for each in graph.model.graph.initializer}
        self.scales: dict[str, float] = {}
        """Of the rounded version of a tensor, by its name."""
        self.steps: dict[str, Array] = {}
        """Scale of the weights that are multiples of it already, by the convolution's name."""
        self.taken: set[str] = set()
        """Parts that come out of their convolution in units of their codes."""
        del self.model.graph.node[:]

    def activations(self) -> None:
        """Copy the nodes; behind each tensor that is rounded comes the rounding, and its readers read that."""
        rounded: dict[str, str] = {}
        wanted = set(_activations(self.source))
        if self.target == "tensorrt":
            wanted.discard(next(node.input[0] for node in self.source.model.graph.node if node.op_type == "Conv"))
        for node in self.source.model.graph.node:
            copy = self.model.graph.node.add()
            copy.CopyFrom(node)
            for i, name in enumerate(copy.input):
                copy.input[i] = rounded.get(name, name)
            for name in node.output:
                if name in wanted:
                    rounded[name] = self._round(name)

    def take_rounded(self, rounded: Mapping[str, Rounded]) -> None:
        """Put weights in place that are rounded already, and what their rounding needs added to the bias."""
        for conv in self.model.graph.node:
            if conv.name not in rounded or conv.input[0] not in self.scales:
                continue
            found = rounded[conv.name]
            self.steps[conv.name] = found.scale
            weights, bias = f"{conv.name}/rounded", f"{conv.name}/shifted"
            self.constants[weights] = found.codes * found.scale[:, None, None, None]
            shifted = found.shift + (self.constants[conv.input[2]] if len(conv.input) > 2 else 0)
            self.constants[bias] = shifted.astype(np.float32)
            conv.input[1] = weights  # `weights` replaces it by the codes
            del conv.input[2:]
            conv.input.append(self._constant(bias, self.constants[bias]))

    def take_pixels(self) -> None:
        """`image -> Cast -> Transpose -> Sub -> rounding` becomes `image -> Transpose`, read as codes of scale 1.

        Pixels are uint8 already. One zero point serves the three channels; what their means differ from it goes into
        the first convolution's bias. Only what lies beyond the image's edge is another grey than in float32. A
        network that does more to its pixels first gets them rounded after that.
        """
        graph = self.model.graph
        nodes = list(graph.node)
        makers = {name: node for node in nodes for name in node.output}
        dequantise = next(node for node in nodes if node.op_type == "DequantizeLinear")
        chain = [makers[dequantise.input[0]]]
        while chain[-1].input and chain[-1].input[0] in makers:
            chain.append(makers[chain[-1].input[0]])
        if [node.op_type for node in chain] != ["QuantizeLinear", "Sub", "Transpose", "Cast"]:
            return
        _, subtract, transpose, cast = chain
        mean = self.constants[subtract.input[1]].reshape(-1).astype(np.float64)
        zero = round(float(mean.mean()))
        transpose.input[0], transpose.output[0] = cast.input[0], "pixels"
        dequantise.input[0] = "pixels"
        dequantise.input[1] = self._constant("pixels/scale", np.float32(1))
        dequantise.input[2] = self._constant("pixels/zero", np.uint8(zero))
        self.scales[dequantise.output[0]] = 1.0
        for node in (cast, subtract):
            graph.node.remove(node)
        readers = [node for node in graph.node if dequantise.output[0] in node.input]
        for conv in readers:
            if conv.op_type == "Conv":
                weights = self.constants[conv.input[1]].astype(np.float64)
                shift = (weights.sum(axis=(2, 3)) * (zero - mean)).sum(axis=1)
                bias = self.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(weights), np.float32)
                name = self._constant(f"{conv.name}/bias", (bias + shift).astype(np.float32))
                self.constants[name] = (bias + shift).astype(np.float32)
                del conv.input[2:]
                conv.input.append(name)
        if len(readers) == 1:
            self._take_blocks(readers[0], transpose)

    def _take_blocks(self, conv: onnx.NodeProto, transpose: onnx.NodeProto) -> None:
        """A first convolution of stride 2 reads blocks of 2 x 2 pixels as 12 channels, at stride 1. Exact.

        onnxruntime's integer convolutions copy each tap's channels by themselves, 49 times 3 bytes for ResNet's 7 x 7;
        so it is 16 times 12 (measured: 400 us -> 220, and 40 for the blocks). The kernel grows by a row and a column
        of zeros where its size or padding are odd.
        """
        attributes = {each.name: list(each.ints) for each in conv.attribute if each.ints}
        weights = self.constants[conv.input[1]]
        count, channels, *taps = weights.shape
        pads = attributes.get("pads", [0, 0, 0, 0])
        size = self.source.size
        plain = attributes.get("dilations", [1, 1]) == [1, 1] and groups(conv) == 1 and channels == 3
        if attributes.get("strides") != [2, 2] or not plain or any(side % 2 for side in size):
            return
        odd = [near % 2 for near in pads[:2]]
        blocks = [-(-(extra + many) // 2) for extra, many in zip(odd, taps, strict=True)]
        near = [(pad + extra) // 2 for pad, extra in zip(pads[:2], odd, strict=True)]
        outputs = [(side + pads[i] + pads[i + 2] - taps[i]) // 2 + 1 for i, side in enumerate(size)]
        far = [outputs[i] - 1 + blocks[i] - near[i] - side // 2 for i, side in enumerate(size)]
        if min(far) < 0:  # the last pixels are not read at all
            return
        grown = np.zeros((count, 3, 2 * blocks[0], 2 * blocks[1]), weights.dtype)
        grown[:, :, odd[0] : odd[0] + taps[0], odd[1] : odd[1] + taps[1]] = weights
        packed = grown.reshape(count, 3, blocks[0], 2, blocks[1], 2).transpose(0, 3, 5, 1, 2, 4)
        name = f"{conv.name}/blocks"
        self.constants[name] = np.ascontiguousarray(packed.reshape(count, 12, *blocks))
        conv.input[1] = self._constant(name, self.constants[name])
        for attribute in [each for each in conv.attribute if each.name != "group"]:
            conv.attribute.remove(attribute)
        for key, value in (("pads", [*near, *far]), ("kernel_shape", blocks), ("strides", [1, 1])):
            conv.attribute.append(helper.make_attribute(key, value))

        def bound(value: int) -> str:
            return self._constant(f"pixels/{value}", np.array([value], np.int64))

        pairs = self._constant("pixels/pairs", np.array([0, size[0], size[1] // 2, 6], np.int64))
        ends, step = bound(size[0]), bound(2)
        starts = [bound(0), bound(1)]
        nodes = [helper.make_node("Reshape", [transpose.input[0], pairs], ["pixel_pairs"], name="int8/pairs")]
        for i, start in enumerate(starts):
            inputs = ["pixel_pairs", start, ends, starts[1], step]
            nodes.append(helper.make_node("Slice", inputs, [f"pixel_rows{i}"], name=f"int8/rows{i}"))
        rows = ["pixel_rows0", "pixel_rows1"]
        nodes.append(helper.make_node("Concat", rows, ["pixel_blocks"], name="int8/pixel_blocks", axis=3))
        transpose.input[0] = "pixel_blocks"
        for node in reversed(nodes):
            self.model.graph.node.insert(0, node)

    def take_scales(self, part: Part) -> None:
        """Where a convolution makes a part, let it do so in units of the part's codes, for one scale and zero point.

        Of `_ONE_SCALE`, what comes out is brought to these units. onnxruntime computes the rounding together with the
        convolution, and takes only one of each there. The part's codes stay the same: scales a channel go into the
        weights' own, and the differences of the zero points into the bias. With a ReLU between, all zero points are 0.
        """
        makers = {name: node for node in self.model.graph.node for name in node.output}
        conv = makers[part.name]
        if conv.op_type in _ONE_SCALE and part.dims > 1:
            self._bring_to_codes(part, conv)
            return
        if conv.op_type == "Relu" and sum(conv.input[0] in node.input for node in self.model.graph.node) == 1:
            conv = makers[conv.input[0]]
        if part.dims == 1 or conv.op_type != "Conv" or conv.input[0] not in self.scales:
            return
        scale, zero = self._codes(part)
        if conv.output[0] != part.name and zero.any():
            return
        values = self.constants[conv.input[1]].astype(np.float64)
        largest = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-12)
        steps = self.steps.get(conv.name, largest / LARGEST_WEIGHT[self.target])
        shift = zero.astype(np.float64) - (_MIDDLE if zero.any() else 0)
        bias = self.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(values))
        weights, biases = f"{conv.name}/in_codes", f"{conv.name}/bias_in_codes"
        self.constants[weights] = values / scale[:, None, None, None]
        self.constants[biases] = (bias / scale + shift).astype(np.float32)
        self.steps[conv.name] = steps / scale
        conv.input[1] = weights
        del conv.input[2:]
        conv.input.append(self._constant(biases, self.constants[biases]))
        self.taken.add(part.name)

    def _bring_to_codes(self, part: Part, maker: onnx.NodeProto) -> None:
        scale, zero = self._codes(part)
        shift = zero.astype(np.float32) - (_MIDDLE if zero.any() else 0)
        whole, scaled = f"{part.name}_unscaled", f"{part.name}_scaled"
        maker.output[0] = whole
        for kind, source, output, values in (("Mul", whole, scaled, 1 / scale), ("Add", scaled, part.name, shift)):
            constant = self._constant(f"{output}/{kind}", values.astype(np.float32).reshape(-1, 1, 1))
            name = f"int8/{kind}_{part.name}"
            self.model.graph.node.append(helper.make_node(kind, [source, constant], [output], name=name))
        self.taken.add(part.name)

    def weights(self) -> None:
        """Round the weights of each convolution whose input is rounded."""
        largest = LARGEST_WEIGHT[self.target]
        nodes = list(self.model.graph.node)
        for conv in nodes:
            if conv.op_type != "Conv" or conv.input[0] not in self.scales:
                continue
            values = self.constants[conv.input[1]].astype(np.float64)
            scale = self.steps.get(conv.name, np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-12) / largest)
            codes = np.rint(values / scale[:, None, None, None]).astype(np.int8)
            added = [self._dequantised(f"{conv.name}/weights", codes, scale, np.zeros(len(scale), np.int8))]
            conv.input[1] = added[0].output[0]
            if self.target == "cpu" and len(conv.input) > 2:
                unit = scale * self.scales[conv.input[0]]
                limit = 2.0**31 - 1
                bias = np.rint(self.constants[conv.input[2]] / unit).clip(-limit, limit).astype(np.int32)
                added.append(self._dequantised(f"{conv.name}/bias", bias, unit, np.zeros(len(unit), np.int32)))
                conv.input[2] = added[1].output[0]
            at = list(self.model.graph.node).index(conv)
            for node in reversed(added):
                self.model.graph.node.insert(at, node)

    def codes(self, part: Part) -> Part:
        """Behind a part comes its rounding, by dimension; the part is what its codes say."""
        scale, zero = self._codes(part)
        graph, before, name = self.model.graph, f"{part.name}_unrounded", f"{part.name}_codes"
        for node in graph.node:
            for names in (node.input, node.output):
                for i, each in enumerate(names):
                    if each == part.name:
                        names[i] = before
        # onnxruntime takes one scale in a vector for a scalar, and then refuses the addition that it fused with it.
        written = (scale, zero) if part.dims > 1 else (scale[0], zero[0])
        how = [self._constant(f"{name}/{key}", each) for key, each in zip(("scale", "zero"), written, strict=True)]
        first = how
        if part.name in self.taken:
            middle = np.uint8(_MIDDLE if zero.any() else 0)
            first = [self._constant(f"{name}/one", np.float32(1)), self._constant(f"{name}/middle", middle)]
        for kind, source, output, numbers in (
            ("Quantize", before, name, first),
            ("Dequantize", name, part.name, how),
        ):
            graph.node.append(
                helper.make_node(f"{kind}Linear", [source, *numbers], [output], name=f"int8/{kind}_{name}", axis=1)
            )
        return dataclasses.replace(part, codes=Codes(name, scale, zero))

    def _codes(self, part: Part) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Scale and zero point of each dimension."""
        seen = self.ranges[part.name]
        low, high = np.minimum(seen.low, 0) * _MARGIN, np.maximum(seen.high, 0) * _MARGIN
        least = _LEAST * float((high - low).max()) or 1.0
        scale = (np.maximum(high - low, least) / 255).astype(np.float32)
        return scale, np.rint(-low / scale).clip(0, 255).astype(np.uint8)

    def _round(self, tensor: str) -> str:
        """Append the rounding of one activation; returns the name of the result."""
        seen = self.ranges[tensor]
        low, high = min(float(seen.low.min()), 0.0), max(float(seen.high.max()), 0.0)
        zero: np.generic
        if self.target == "cpu":
            scale = max(high - low, 1e-12) / 255
            zero = np.uint8(round(-low / scale))
        else:
            scale, zero = max(high, -low, 1e-12) / 127, np.int8(0)
        how = [self._constant(f"{tensor}/scale", np.float32(scale)), self._constant(f"{tensor}/zero", zero)]
        codes, result = f"{tensor}_codes", f"{tensor}_rounded"
        for kind, source, output in (("Quantize", tensor, codes), ("Dequantize", codes, result)):
            self.model.graph.node.append(
                helper.make_node(f"{kind}Linear", [source, *how], [output], name=f"int8/{kind}_{tensor}")
            )
        self.scales[result] = float(np.float32(scale))
        return result

    def _dequantised(self, name: str, codes: npt.NDArray[np.generic], scale: Array, zero: Array) -> onnx.NodeProto:
        inputs = [
            self._constant(f"{name}/codes", codes),
            self._constant(f"{name}/scale", scale.astype(np.float32)),
            self._constant(f"{name}/zero", zero),
        ]
        return helper.make_node("DequantizeLinear", inputs, [f"{name}/values"], name=f"int8/{name}", axis=0)

    def _constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
