"""Weights are rounded so that outputs, not weights, stay near."""

from __future__ import annotations

import numpy as np
import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact.metadata import Reduction
from padim_edge_export import rewrites
from padim_edge_export.quantise.rounding import Moments, Rounded, round_weights, tap
from padim_edge_model.graph import EmbeddingGraph, Part
from padim_edge_runtime.devices.providers import open_session

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


def one_convolution(weights: np.ndarray, **attributes: object) -> EmbeddingGraph:
    """`x` -> `part0`."""
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["part0"], name="conv", **attributes)],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("part0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return EmbeddingGraph(model, (Part("part0", len(weights), (1, 1)),), Reduction(None, None), (1, 1))


def rounded(graph: EmbeddingGraph, inputs: np.ndarray, largest: int = 63) -> tuple[Rounded, Moments]:
    moments = Moments(graph)
    for each in inputs:
        moments.add({"x": each[None].astype(np.float32)})
    return round_weights(graph, moments, largest)["conv"], moments


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    grouped=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_the_moments_are_those_of_the_outputs(
    seed: int,
    grouped: int,
    kernel: tuple[int, int],
    pads: tuple[int, ...],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> None:
    """They predict mean and variance of onnxruntime's convolution, for any attributes, over several batches."""
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((8, 4 // grouped, *kernel))
    attributes = {"pads": pads, "strides": strides, "dilations": dilations, "group": grouped}
    graph = one_convolution(weights, kernel_shape=kernel, **attributes)
    inputs = generator.standard_normal((3, 4, 7, 6)).astype(np.float32)
    _, moments = rounded(graph, inputs)
    mean, covariance = moments.of("conv")
    outputs = open_session(graph.model.SerializeToString(), "cpu").session.run(None, {"x": inputs})[0]
    rows = weights.reshape(grouped, 8 // grouped, -1)
    np.testing.assert_allclose(
        np.einsum("god,gd->go", rows, mean).ravel(), outputs.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        np.einsum("god,gde,goe->go", rows, covariance, rows).ravel(),
        outputs.var(axis=(0, 2, 3)),
        rtol=1e-3,
        atol=1e-3,
    )


def test_inputs_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 4, 1, 1))
    # Each of 64 positions moves one channel alone, by as much and as often.
    inputs = np.concatenate([np.eye(4), -np.eye(4)] * 8).T.reshape(1, 4, 8, 8)
    found, _ = rounded(one_convolution(weights), inputs)
    np.testing.assert_allclose(found.scale, np.abs(weights).max(axis=(1, 2, 3)) / 63, rtol=1e-6)
    np.testing.assert_array_equal(found.codes, np.rint(weights / found.scale[:, None, None, None]))
    np.testing.assert_allclose(found.shift, 0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), largest=st.sampled_from([7, 63, 127]))
def test_outputs_move_less_than_by_nearest_rounding_and_their_mean_not_at_all(seed: int, largest: int) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((8, 16, 1, 1))
    mixing = generator.standard_normal((16, 3))  # 16 channels that 3 causes move together, and a little noise
    causes = generator.standard_normal((4, 3, 14 * 14))
    inputs = np.abs(mixing @ causes + 0.05 * generator.standard_normal((4, 16, 14 * 14))).reshape(4, 16, 14, 14)
    found, moments = rounded(one_convolution(weights), inputs, largest)
    assert found.codes.dtype == np.int8
    assert np.abs(found.codes.astype(int)).max() <= largest
    mean, covariance = moments.of("conv")
    exact = weights.reshape(8, 16)
    unit = found.scale[:, None]

    def moved(codes: np.ndarray) -> float:
        away = codes.reshape(8, 16) * unit - exact
        return float(np.einsum("od,de,oe->", away, covariance[0], away))

    assert moved(found.codes) < 0.7 * moved(np.rint(exact / unit))
    shifted = (found.codes.reshape(8, 16) * unit) @ mean[0] + found.shift
    np.testing.assert_allclose(shifted, exact @ mean[0], rtol=1e-5, atol=1e-5)


def test_whole_numbers_stay_what_they_are() -> None:
    weights = np.random.default_rng(0).integers(-63, 64, (4, 6, 3, 3)).astype(float)
    weights[:, 0, 0, 0] = 63
    inputs = np.random.default_rng(1).standard_normal((2, 6, 9, 9))
    found, _ = rounded(one_convolution(weights, kernel_shape=[3, 3]), inputs)
    np.testing.assert_array_equal(found.codes, weights)
    np.testing.assert_allclose(found.shift, 0, atol=1e-9)


@pytest.mark.parametrize("weights", [np.zeros((2, 3, 1, 1)), np.ones((2, 3, 1, 1))])
def test_inputs_that_never_move_are_no_trouble(weights: np.ndarray) -> None:
    found, _ = rounded(one_convolution(weights), np.zeros((2, 3, 4, 4)))
    np.testing.assert_allclose(found.codes * found.scale[:, None, None, None], weights, rtol=1e-9)
    assert np.isfinite(found.shift).all()


@pytest.mark.parametrize("backbone", ["resnet18", "builtin"])
def test_every_convolution_of_a_backbone_is_rounded(backbone: str) -> None:
    graph = small_models.exported(small_models.small("edge", backbone))
    rewrites.fold_scale(graph.model)
    model = tap(graph)
    outputs = [output.name for output in model.graph.output]
    session = open_session(model.SerializeToString(), "cpu").session
    moments = Moments(graph)
    moments.add(dict(zip(outputs, session.run(outputs, {"image": FRAMES}), strict=True)))
    convolutions = {node.name: node for node in graph.model.graph.node if node.op_type == "Conv"}
    found = round_weights(graph, moments, 63)
    assert found.keys() == convolutions.keys()
    values = {each.name: numpy_helper.to_array(each) for each in graph.model.graph.initializer}
    for name, each in found.items():
        exact = values[convolutions[name].input[1]]
        assert each.codes.shape == exact.shape
        away = each.codes * each.scale[:, None, None, None] - exact
        assert np.abs(away).max() > 0
        assert np.sqrt((away**2).mean()) < 4 * each.scale.max(), "they still are those weights"
