"""Squeeze and excitation, SiLU and HardSwish bring gates: they multiply, so no rewrite may pass them unchanged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import rewrites
from padim_edge_export.quantise import integers
from padim_edge_export.quantise.equalise import equalise, factors
from padim_edge_export.quantise.integers import Range
from padim_edge_model.graph import EmbeddingGraph, Part
from padim_edge_runtime.devices.providers import open_session

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
ROUNDING = 1e-5
"""Error relative to the largest value: float32 in another order."""
KEPT = [4, 0, 5]

SILU = "s = Sigmoid(c) m = Mul(c, s)"
HARD = "m = HardSwish(c)"
GATE = """r = Relu(c) p = ReduceMean<keepdims=1>(r, axes) q = Conv(p, w3, b3) t = Relu(q) u = Conv(t, w4, b4)
    g = HardSigmoid<alpha=0.1667, beta=0.5>(u) m = Mul(g, r)"""
RESIDUAL = f"{SILU} n = Conv<group=6, pads=[1,1,1,1]>(m, w5, b3) o = Conv(n, w4, b4) m2 = Add(o, m)"


def network(middle: str, end: str, outputs: str = "part0") -> EmbeddingGraph:
    """`image` -> the exporter's first nodes -> a convolution to six channels `c` -> `middle` -> `end`."""
    text = f"""<ir_version: 8, opset_import: ["": 18]> embedding
        (uint8[N,8,8,3] {names.IMAGE}) => ({", ".join(f"float[N,k,h,w] {each}" for each in outputs.split())}) {{
            f = Cast<to=1>({names.IMAGE}) x = Transpose<perm=[0,3,1,2]>(f) y = Sub(x, mean)
            c = Conv<strides=[2,2], pads=[1,1,1,1]>(y, w1, b1) {middle} {end}
        }}"""
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0).standard_normal
    values = {
        "mean": np.array([123.7, 116.3, 103.5]).reshape(3, 1, 1),
        "w1": draw((6, 3, 3, 3)) / 58,
        "b1": draw(6),
        "w3": draw((6, 6, 1, 1)),
        "b3": draw(6),
        "w4": draw((6, 6, 1, 1)),
        "b4": draw(6),
        "w5": draw((6, 1, 3, 3)),
    }
    constants = {name: value.astype(np.float32) for name, value in values.items()}
    constants |= {"axes": np.array([2, 3]), "kept": np.array(KEPT)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{i}"
    parts = tuple(Part(each, 6, (4, 4)) for each in outputs.split())
    return EmbeddingGraph(model, parts, Reduction(None, None), (8, 8))


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    return open_session(model.SerializeToString(), "cpu").session.run(None, {names.IMAGE: FRAMES})


def ranges_of(graph: EmbeddingGraph) -> dict[str, Range]:
    model, outputs = integers.probe(graph)
    found = dict(zip([each.name for each in model.graph.output], run(model), strict=True))
    return {name: Range(*(found[each].astype(np.float64) for each in pair)) for name, pair in outputs.items()}


def shapes(graph: EmbeddingGraph) -> dict[str, int]:
    """Number of channels that each convolution gives, by its output."""
    dims = {each.name: each.dims for each in graph.model.graph.initializer}
    return {node.output[0]: dims[node.input[1]][0] for node in graph.model.graph.node if node.op_type == "Conv"}


@pytest.mark.parametrize(
    ("middle", "narrowed"),
    [
        (SILU, []),  # its convolution is read twice
        (HARD, ["c"]),
        (GATE, []),
        (f"{GATE} z = Conv(m, w4, b4)", ["z"]),  # the end of EfficientNet's and MobileNet's blocks
        (f"{GATE} o = Conv(m, w4, b4) z = Add(o, c)", ["o"]),
        (RESIDUAL.replace("m2", "z"), ["o"]),
    ],
)
def test_channels_are_cut_behind_gates_and_not_through_them(middle: str, narrowed: list[str]) -> None:
    graph = network(middle, f"part0 = Gather<axis=1>({'z' if 'z = ' in middle else 'm'}, kept)")
    (before,) = run(graph.model)
    assert rewrites.narrow_last_stage(graph.model) == len(narrowed)
    (after,) = run(graph.model)
    np.testing.assert_allclose(after, before, rtol=0, atol=ROUNDING * np.abs(before).max())
    found = shapes(graph)
    assert (
        sorted(name for name, channels in found.items() if channels == 3)
        == sorted("part0" if name in ("c", "z") else name for name in narrowed)
        or [name for name, channels in found.items() if channels == 3] == narrowed
    )


@pytest.mark.parametrize("middle", [SILU, HARD, GATE, RESIDUAL])
def test_evened_out_channels_are_as_before_where_a_gate_reads_them(middle: str) -> None:
    end = f"part0 = Conv({'m2' if 'm2' in middle else 'm'}, w3, b3)"
    graph = network(middle, end)
    largest = {name: np.maximum(-each.low, each.high) for name, each in ranges_of(graph).items()}
    factor = factors(graph, largest)
    assert {"c", "m"} & factor.keys() <= {"c"}, "a product of two tensors has no factor of its own"
    found = equalise(graph, factor)
    onnx.checker.check_model(found.model, full_check=True)
    (before,), (after,) = run(graph.model), run(found.model)
    np.testing.assert_allclose(after, before, rtol=0, atol=ROUNDING * np.abs(before).max())
    divisions = Counter(node.input[0] for node in found.model.graph.node if node.name.startswith("int8/share"))
    assert divisions
    assert set(divisions.values()) == {1}, "two readers share one division"


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("middle", [SILU, HARD, GATE, RESIDUAL])
def test_gates_compute_in_float_between_integers(middle: str, target: str) -> None:
    graph = network(middle, f"part0 = Conv({'m2' if 'm2' in middle else 'm'}, w3, b3)")
    found = integers.quantise(graph, ranges_of(graph), target)
    onnx.checker.check_model(found.model, full_check=True)
    (before,), (after,) = run(graph.model), run(found.model)
    assert np.abs(after - before).mean() < 0.05 * before.std()
    makers = {name: node.op_type for node in found.model.graph.node for name in node.output}
    for node in found.model.graph.node:
        if node.op_type == "Conv" and node.input[0] != "y":
            assert makers[node.input[0]] == "DequantizeLinear"


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize(
    "end", ["Add(m, c)", "Sigmoid(c)", "LeakyRelu(c)", "HardSwish(c)", "Clip(m, b3, b3)", "Mul(m, c)"]
)
def test_a_part_may_come_out_of_any_operator(end: str, target: str) -> None:
    """onnxruntime fuses some operators with the rounding behind them, and takes only one scale there."""
    graph = network(SILU, f"part0 = {end}".replace("b3, b3", "low"))
    graph.model.graph.initializer.append(numpy_helper.from_array(np.float32(-0.1), "low"))
    ranges = ranges_of(graph)
    found = integers.quantise(graph, ranges, target)
    onnx.checker.check_model(found.model, full_check=True)
    (before,), (after,) = run(graph.model), run(found.model)
    assert np.abs(after - before).mean() < 0.05 * before.std()
    codes = found.parts[0].codes
    assert (codes is None) == (target == "tensorrt")
    if codes is not None:
        found.model.graph.output.append(helper.make_tensor_value_info(codes.name, TensorProto.UINT8, None))
        part, told = run(found.model)
        spread = [each.astype(np.float32).reshape(-1, 1, 1) for each in (codes.zero_point, codes.scale)]
        np.testing.assert_allclose(part, (told - spread[0]) * spread[1], rtol=1e-6)


def test_only_additions_of_two_computed_maps_are_rounded() -> None:
    """Networks also add constants in float, and add integers to compute shapes."""
    end = """k = Shape<start=0, end=1>(c) j = Add(k, k) shape = Concat<axis=0>(k, rest) d = Add(c, b6) a = Add(d, c)
        v = Reshape(a, shape) part0 = Relu(v)"""
    graph = network("", end)
    graph.model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "b6"))
    graph.model.graph.initializer.append(numpy_helper.from_array(np.array([6, 4, 4]), "rest"))
    probed = integers.probe(graph)[1].keys()
    assert {"c", "d", "a"} <= probed
    assert not {"b6", "k", "j", "v"} & probed


def test_pixels_that_are_normalised_anew_are_rounded_after_that() -> None:
    """GoogLeNet does so. Then the image cannot be read as the convolution's codes."""
    graph = network("", "part0 = Relu(c)")
    nodes = graph.model.graph.node
    conv = next(node for node in nodes if node.op_type == "Conv")
    again = helper.make_node("Mul", ["y", "half"], ["z"], name="again")
    nodes.insert(list(nodes).index(conv), again)
    conv.input[0] = "z"
    graph.model.graph.initializer.append(
        numpy_helper.from_array(np.array([0.4, 0.5, 0.6], np.float32).reshape(3, 1, 1), "half")
    )
    found = integers.quantise(graph, ranges_of(graph), "cpu")
    (before,), (after,) = run(graph.model), run(found.model)
    assert np.abs(after - before).mean() < 0.05 * before.std()
    assert [node.op_type for node in found.model.graph.node][:4] == ["Cast", "Transpose", "Sub", "Mul"]


@pytest.mark.parametrize(("backbone", "gates"), [("mobilenet_v3_large", 5)])
def test_squeezing_is_one_mean_in_the_exported_graph(backbone: str, gates: int) -> None:
    """The exporter would write an adaptive pooling as a mean and seven nodes that compute indices from the batch."""
    graph = small_models.exported(small_models.small("edge", backbone))
    kinds = Counter(node.op_type for node in graph.model.graph.node)
    assert kinds["ReduceMean"] == gates
    assert not {"Shape", "Range", "Reshape", "Unsqueeze", "Squeeze"} & kinds.keys()
    integral = [each.name for each in graph.model.graph.initializer if each.data_type == TensorProto.INT64]
    used = {
        name for node in graph.model.graph.node if node.op_type not in ("Gather", "ReduceMean") for name in node.input
    }
    assert not used & set(integral)
