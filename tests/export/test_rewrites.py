"""Rewrites are exact: the rewritten graph gives the same outputs with less work, and cuts nothing that is needed."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from rewriting import assert_same, graph, kinds, shapes, weights

from padim_edge_artifact import names
from padim_edge_export import embedding, rewrites
from padim_edge_model.graph_editing import attribute

KEPT = np.array([4, 0, 5])
IMAGE = weights(2, 3, 6, 6, seed=9)


@pytest.mark.parametrize(("backbone", "cut"), [("resnet18", 1), ("builtin", 3)])
@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_a_backbones_last_stage_is_cut_to_the_kept_channels(
    preset: str, backbone: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ResNet's last block adds its input, which others read, to one convolution. Only parts read the built-in taps."""
    method = small_models.small(preset, backbone)
    with monkeypatch.context() as patch:
        patch.setattr(rewrites, "narrow_last_stage", lambda _: 0)
        exported = embedding.build(small_models.trunk_of(backbone), method)
    model = exported.model
    kept = sorted(part.dims for part in exported.parts[-cut:])
    whole = shapes(model)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    gathers = kinds(model).count("Gather")
    assert assert_same(model, rewrites.narrow_last_stage, image=frames) == cut
    narrowed = {name: shape for name, shape in shapes(model).items() if shape != whole[name]}
    assert len(narrowed) == cut
    assert sorted(shape[0] for shape in narrowed.values()) == kept
    assert all(shape[1:] == whole[name][1:] for name, shape in narrowed.items())
    assert kinds(model).count("Gather") == gathers - (cut if backbone == "builtin" else 0)  # that of ResNet only moves
    assert shapes(small_models.exported(method).model) == shapes(model)  # as `embedding.build` does it


@pytest.mark.parametrize("backbone", ["resnet18", "builtin"])
def test_the_scale_of_the_pixels_goes_into_the_first_convolution(backbone: str) -> None:
    model = small_models.exported(small_models.small("edge", backbone)).model
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert kinds(model)[:5] == ["Cast", "Transpose", "Sub", "Mul", "Conv"]
    assert assert_same(model, rewrites.fold_scale, image=frames) == 1
    assert kinds(model)[:4] == ["Cast", "Transpose", "Sub", "Conv"]
    assert rewrites.fold_scale(model) == 0


CHAIN = """(float[N,3,6,6] x) => (float[N,3,6,6] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w, b)
    c = {unary}
    y = Gather<axis=1>(c, kept)
}}"""


@pytest.mark.parametrize("unary", ["Relu(a)", "Clip(a, low, high)", "HardSwish(a)", "LeakyRelu<alpha=0.1>(a)"])
def test_channels_are_chosen_through_operators_that_treat_each_by_itself(unary: str) -> None:
    model = graph(
        CHAIN.format(unary=unary),
        w=weights(6, 3, 3, 3),
        b=weights(6),
        kept=KEPT,
        low=np.float32(-0.5),
        high=np.float32(0.5),
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 1
    assert shapes(model) == {"Conv0": (3, 3, 3, 3)}
    assert kinds(model) == ["Conv", re.match(r"\w+", unary)[0]]


@pytest.mark.parametrize("unary", ["Softmax<axis=1>(a)", "Transpose<perm=[0,1,3,2]>(a)", "Sqrt(a)"])
def test_channels_are_not_chosen_through_other_operators(unary: str) -> None:
    model = graph(CHAIN.format(unary=unary), w=np.abs(weights(6, 3, 3, 3)), b=weights(6), kept=KEPT)
    assert assert_same(model, rewrites.narrow_last_stage, x=np.abs(IMAGE) + 9) == 0
    assert shapes(model) == {"Conv0": (6, 3, 3, 3)}


def test_a_depthwise_convolution_is_cut_together_with_the_one_before_it() -> None:
    model = graph(
        """(float[N,3,6,6] x) => (float[N,3,6,6] y) {
            a = Conv(x, w, b) r = Relu(a) d = Conv<group=6, pads=[1,1,1,1]>(r, v, c) s = Relu(d)
            y = Gather<axis=1>(s, kept)
        }""",
        w=weights(6, 3, 1, 1),
        b=weights(6),
        v=weights(6, 1, 3, 3),
        c=weights(6, seed=1),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 2
    assert shapes(model) == {"Conv0": (3, 3, 1, 1), "Conv2": (3, 1, 3, 3)}
    assert {node.name: attribute(node, "group", 1) for node in model.graph.node if node.op_type == "Conv"} == {
        "Conv0": 1,
        "Conv2": 3,
    }
    assert kinds(model) == ["Conv", "Relu", "Conv", "Relu"]


def test_a_depthwise_convolution_of_the_input_gets_the_chosen_channels() -> None:
    model = graph(
        """(float[N,6,6,6] x) => (float[N,3,6,6] y) {
            d = Conv<group=6, pads=[1,1,1,1]>(x, v) y = Gather<axis=1>(d, kept)
        }""",
        v=weights(6, 1, 3, 3),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=weights(2, 6, 6, 6)) == 1
    assert kinds(model) == ["Gather", "Conv"]


def test_a_grouped_convolution_is_left_alone() -> None:
    model = graph(
        "(float[N,4,6,6] x) => (float[N,3,6,6] y) { d = Conv<group=2>(x, v) y = Gather<axis=1>(d, kept) }",
        v=weights(6, 2, 1, 1),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=weights(2, 4, 6, 6)) == 0
    assert shapes(model) == {"Conv0": (6, 2, 1, 1)}


def test_constants_that_others_share_stay_whole_for_them() -> None:
    """One weight and one bias for two convolutions, one of which is cut."""
    model = graph(
        """(float[N,3,6,6] x) => (float[N,3,6,6] y, float[N,6,6,6] z) {
            a = Conv(x, w, b) y = Gather<axis=1>(a, kept) n = Neg(x) z = Conv(n, w, b)
        }""",
        w=weights(6, 3, 1, 1),
        b=weights(6),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 1
    assert shapes(model) == {"Conv0": (3, 3, 1, 1), "Conv3": (6, 3, 1, 1)}


@pytest.mark.parametrize("reader", ["z = Neg(a)", "z = Gather<axis=1>(a, other)", "z = Gather<axis=1>(a, kept)"])
def test_channels_that_somebody_else_needs_are_not_cut(reader: str) -> None:
    model = graph(
        f"(float[N,3,6,6] x) => (float[N,3,6,6] y, float[N,k,6,6] z) "
        f"{{ a = Conv(x, w) y = Gather<axis=1>(a, kept) {reader} }}",
        w=weights(6, 3, 1, 1),
        kept=KEPT,
        other=np.array([1]),
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 0
    assert shapes(model) == {"Conv0": (6, 3, 1, 1)}


def test_channels_that_are_an_output_are_not_cut() -> None:
    model = graph(
        "(float[N,3,6,6] x) => (float[N,3,6,6] y, float[N,6,6,6] a) { a = Conv(x, w) y = Gather<axis=1>(a, kept) }",
        w=weights(6, 3, 1, 1),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 0


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("Gather<axis=2>(a, kept)", KEPT),
        ("Gather(a, kept)", np.array([1, 0])),
        ("Gather<axis=1>(a, kept)", KEPT[:2, None]),
    ],
)
def test_what_is_no_choice_of_channels_is_left_alone(last: str, kept: np.ndarray) -> None:
    model = graph(f"(float[N,3,6,6] x) => (float y) {{ a = Conv(x, w) y = {last} }}", w=weights(6, 3, 1, 1), kept=kept)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0]
    model.graph.output[0].CopyFrom(inferred)
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == 0


RESIDUAL = """(float[N,3,6,6] x) => (float[N,3,6,6] y) {{
    s = Conv(x, w) t = Relu(s) a = Conv<pads=[1,1,1,1]>(t, v) {rest}
}}"""


@pytest.mark.parametrize(
    ("rest", "cut", "gathers"),
    [
        ("u = Add(a, t) y = Gather<axis=1>(u, kept)", 1, 1),
        ("u = Add(t, a) r = Relu(u) y = Gather<axis=1>(r, kept)", 1, 1),
        # The same tensor reaches the choice by two paths.
        ("u = Add(a, t) r = Relu(u) o = Add(r, t) y = Gather<axis=1>(o, kept)", 1, 1),
        ("u = Add(a, t) r = Relu(u) o = Add(t, r) y = Gather<axis=1>(o, kept)", 1, 1),
        ("u = Add(t, t) o = Add(a, u) y = Gather<axis=1>(o, kept)", 1, 1),
        ("u = Add(t, t) y = Gather<axis=1>(u, kept)", 0, 1),
        ("b = Conv(t, q) u = Add(a, b) y = Gather<axis=1>(u, kept)", 2, 0),
        ("u = Add(a, k) y = Gather<axis=1>(u, kept)", 0, 1),
    ],
)
def test_sums_are_cut_on_each_side_as_far_as_nobody_else_needs_it(rest: str, cut: int, gathers: int) -> None:
    model = graph(
        RESIDUAL.format(rest=rest),
        w=weights(6, 3, 1, 1),
        v=weights(6, 6, 3, 3),
        q=weights(6, 6, 1, 1, seed=3),
        k=weights(6, 1, 1),
        kept=KEPT,
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=IMAGE) == cut
    assert kinds(model).count("Gather") == gathers


def test_two_choices_of_channels_of_one_tensor_stay_two() -> None:
    model = graph(
        """(float[N,3,6,6] x) => (float[N,3,6,6] y, float[N,2,6,6] z) {
            a = Conv(x, w)
            p = Conv(x, v)
            b = Add(a, p)
            q = Conv(x, u)
            c = Add(a, q)
            y = Gather<axis=1>(b, kept)
            z = Gather<axis=1>(c, others)
        }""",
        w=weights(6, 3, 1, 1),
        v=weights(6, 3, 1, 1, seed=1),
        u=weights(6, 3, 1, 1, seed=2),
        kept=KEPT,
        others=np.array([1, 2]),
    )
    assert assert_same(model, rewrites.narrow_last_stage, x=weights(2, 3, 6, 6)) == 2


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """A few operators on six channels, each reading earlier tensors, and one or two choices of channels at the end."""
    nodes, tensors, constants = [], ["x"], {}
    for i in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["Conv", "depthwise", "Relu", "Add"]))
        inputs, attributes = [draw(st.sampled_from(tensors))], {}
        if kind in ("Conv", "depthwise"):
            name = draw(st.sampled_from([f"w{i}", "shared"]))
            name += kind
            constants[name] = weights(6, 6 if kind == "Conv" else 1, 1, 1, seed=len(constants))
            inputs.append(name)
            attributes = {"group": 1 if kind == "Conv" else 6}
        elif kind == "Add":
            inputs.append(draw(st.sampled_from(tensors)))
        operator = "Conv" if kind == "depthwise" else kind
        nodes.append(helper.make_node(operator, inputs, [f"t{i}"], name=f"n{i}", **attributes))
        tensors.append(f"t{i}")
    outputs = []
    for j in range(draw(st.integers(1, 2))):
        kept = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
        constants[f"kept{j}"] = np.array(kept)
        source = draw(st.sampled_from(tensors[-2:]))
        nodes.append(helper.make_node("Gather", [source, f"kept{j}"], [f"y{j}"], name=f"g{j}", axis=1))
        outputs.append(helper.make_tensor_value_info(f"y{j}", TensorProto.FLOAT, ["N", len(kept), 2, 2]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, 2, 2])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@settings(max_examples=80, deadline=None)
@given(networks())
def test_whatever_the_graph_narrowing_is_exact(model: onnx.ModelProto) -> None:
    assert_same(model, rewrites.narrow_last_stage, x=weights(2, 6, 2, 2))


SCALED = (
    "(float[N,3,6,6] x) => (float[N,6,6,6] y{outputs}) {{ m = {scaling} y = Conv<pads=[1,1,1,1]{group}>(m, w) {rest} }}"
)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
def test_a_scale_by_channel_is_folded_also_where_the_convolution_pads(shape: tuple[int, ...]) -> None:
    model = graph(
        SCALED.format(outputs="", scaling="Mul(x, s)", group="", rest=""), w=weights(6, 3, 3, 3), s=weights(*shape)
    )
    assert assert_same(model, rewrites.fold_scale, x=IMAGE) == 1
    assert kinds(model) == ["Conv"]
    assert {each.name for each in model.graph.initializer} == {"w"}


def test_a_scale_is_folded_into_a_copy_where_the_weights_are_shared() -> None:
    model = graph(
        SCALED.format(
            outputs=", float[N,6,6,6] z", scaling="Mul(x, s)", group="", rest="z = Conv<pads=[1,1,1,1]>(x, w)"
        ),
        w=weights(6, 3, 3, 3),
        s=weights(3, 1, 1),
    )
    assert assert_same(model, rewrites.fold_scale, x=IMAGE) == 1
    assert kinds(model) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({"outputs": ", float[N,3,6,6] m"}, (3, 1, 1)),
        ({"outputs": ", float[N,3,6,6] z", "rest": "z = Neg(m)"}, (3, 1, 1)),
        ({"group": ", group=3"}, (3, 1, 1)),
        ({"scaling": "Add(x, s)"}, (3, 1, 1)),
        ({"scaling": "Mul(x, x)"}, (3, 1, 1)),
        ({}, (3, 6, 6)),
        ({}, (1, 1, 6)),
    ],
)
def test_another_scale_is_not_folded(change: dict[str, str], shape: tuple[int, ...]) -> None:
    form = {"outputs": "", "scaling": "Mul(x, s)", "group": "", "rest": ""} | change
    model = graph(SCALED.format(**form), w=weights(6, 1 if form["group"] else 3, 3, 3), s=weights(*shape))
    before = len(model.graph.node)
    assert assert_same(model, rewrites.fold_scale, x=IMAGE) == 0
    assert len(model.graph.node) == before


def test_the_embedding_graph_keeps_its_names() -> None:
    """Names of inputs and outputs are the contract; no rewrite changes them."""
    for backbone in ("resnet18", "builtin"):
        exported = small_models.exported(small_models.small("edge", backbone))
        rewrites.fold_scale(exported.model)
        assert [each.name for each in exported.model.graph.input] == [names.IMAGE]
        assert [each.name for each in exported.model.graph.output] == [part.name for part in exported.parts]
