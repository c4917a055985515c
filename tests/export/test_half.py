"""An embedding graph in float16 computes its backbone in float16, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, numpy_helper

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_export.quantise.half import halve
from padim_edge_model import tensorrt_rules
from padim_edge_model.graph import EmbeddingGraph, joined
from padim_edge_runtime.devices.providers import open_session

ROUNDING = 2e-3
"""Error relative to a part's largest value. float16 has 11 binary digits, and onnxruntime on x86 computes in float32
between them; 6e-4 was found."""

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)

CASES = [(backbone, preset) for backbone in ("resnet18", "builtin") for preset in ("paper", "edge", "accurate")]


@pytest.fixture(params=CASES, ids="-".join)
def graph(request: pytest.FixtureRequest) -> EmbeddingGraph:
    backbone, preset = request.param
    return small_models.exported(small_models.small(preset, backbone))


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of all tensors."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {each.name: each.type.tensor_type.elem_type for each in (*inferred.value_info, *inferred.output)}
    found |= {each.name: each.type.tensor_type.elem_type for each in inferred.input}
    return found | {each.name: each.data_type for each in inferred.initializer}


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    return open_session(model.SerializeToString(), "cpu").session.run(None, {names.IMAGE: FRAMES})


def test_every_operator_of_the_backbone_is_typed_float16_and_the_borders_float32(graph: EmbeddingGraph) -> None:
    half = halve(graph)
    assert half.precision == "fp16"
    onnx.checker.check_model(half.model, full_check=True)
    found, nodes = types(half.model), list(half.model.graph.node)
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Conv")
    assert [node.op_type for node in nodes[: first + 1]] == ["Cast", "Transpose", "Sub", "Mul", "Cast", "Conv"]
    for node in nodes[: first - 1]:
        assert found[node.output[0]] == TensorProto.FLOAT
    inside = [node for node in nodes[first:] if node.op_type != "Cast"]
    assert len(inside) >= 10
    for node in inside:
        assert {found[name] for name in (*node.input, *node.output)} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert [found[part.name] for part in graph.parts] == [TensorProto.FLOAT] * len(graph.parts)


def test_no_weight_stays_in_float32_so_that_it_takes_half_the_bytes(graph: EmbeddingGraph) -> None:
    half = halve(graph)
    for each in half.model.graph.initializer:
        assert each.data_type != TensorProto.FLOAT or numpy_helper.to_array(each).size == 3  # mean and scale of pixels
    assert half.model.ByteSize() < 0.55 * graph.model.ByteSize()


def test_the_parts_are_those_of_float32_but_for_rounding(graph: EmbeddingGraph) -> None:
    before = graph.model.SerializeToString(deterministic=True)
    half, moved = halve(graph), False
    for found, expected in zip(run(half.model), run(graph.model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())
        moved |= bool((found != expected).any())
    # x86 computes in float32. So nothing is rounded if every constant is a float16 already, as in the built-in weights.
    stored = {each.name: numpy_helper.to_array(each) for each in half.model.graph.initializer}
    assert moved == any((numpy_helper.to_array(old) != stored[old.name]).any() for old in graph.model.graph.initializer)
    assert graph.model.SerializeToString(deterministic=True) == before


def test_tensorrt_has_nothing_against_it(graph: EmbeddingGraph) -> None:
    assert tensorrt_rules.check(halve(graph).model) == ()
    assert tensorrt_rules.check(joined(halve(graph))) == ()


@pytest.mark.parametrize(("value", "refused"), [(65504.0, False), (-65504.0, False), (65505.0, True), (-7e4, True)])
def test_a_weight_that_float16_cannot_hold_is_refused(value: float, refused: bool) -> None:
    graph = small_models.exported(small_models.small("edge", "builtin"))
    conv = [node for node in graph.model.graph.node if node.op_type == "Conv"][2]
    (tensor,) = (each for each in graph.model.graph.initializer if each.name == conv.input[1])
    weights = numpy_helper.to_array(tensor).copy()
    weights[3, 2, 1, 0] = value
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    if not refused:
        halve(graph)
        return
    with pytest.raises(PadimEdgeError, match=r"weights go up to .*e\+04, expected at most 65504 for float16; export"):
        halve(graph)
