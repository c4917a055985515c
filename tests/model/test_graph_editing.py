"""The laws of the one wrapper around ONNX graphs: look-ups follow every change, and a change touches nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from padim_edge_model.graph_editing import (
    GraphEditor,
    attribute,
    bodies,
    copied,
    keep_attributes,
    set_attribute,
    value_types,
)


def parse(text: str, **constants: np.ndarray) -> onnx.ModelProto:
    """A model written as onnx text; nodes are named after their first output."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> agraph {text}')
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


def branched() -> GraphEditor:
    """`x` -> `a` -> `b`, `c` -> `y`; `w` is read twice; `u` and `v` are needed by nobody."""
    model = parse(
        """(float[4] x) => (float[4] y) {
            a = Mul(x, w) b = Add(a, w) u = Neg(a) c = Relu(a) v = Mul(u, z) y = Add(b, c)
        }""",
        w=np.arange(4, dtype=np.float32),
        z=np.ones(4, np.float32),
    )
    return GraphEditor(model.graph, "new")


def names(nodes: tuple[onnx.NodeProto, ...] | list[onnx.NodeProto]) -> list[str]:
    return [node.output[0] for node in nodes]


def assert_consistent(editor: GraphEditor) -> None:
    """Compare all look-ups with those of an editor made afresh."""
    fresh = GraphEditor(editor.graph)
    assert all(ours is theirs for ours, theirs in zip(editor.nodes, editor.graph.node, strict=True))
    tensors = {name for node in fresh.nodes for name in (*node.input, *node.output)} | fresh.constants.keys()
    for name in tensors | editor.outputs:
        assert editor.maker(name) is fresh.maker(name)
        assert editor.uses(name) == fresh.uses(name)
        assert Counter(map(id, editor.readers(name))) == Counter(map(id, fresh.readers(name)))
    assert editor.constants.keys() == fresh.constants.keys()


def test_look_ups_tell_makers_readers_uses_and_constants() -> None:
    editor = branched()
    assert names(editor.readers("a")) == ["b", "u", "c"]
    assert editor.uses("a") == 3
    assert editor.uses("y") == 1, "an output of the graph is a use"
    assert editor.maker("a").op_type == "Mul"
    assert editor.maker("x") is editor.maker("w") is editor.maker("nothing") is None
    np.testing.assert_array_equal(editor.value("w"), np.arange(4))
    assert editor.value("a") is editor.value("nothing") is None
    assert editor.readers("nothing") == []
    assert editor.uses("nothing") == 0


def test_a_tensor_that_a_node_reads_twice_has_one_reader_and_two_uses() -> None:
    editor = GraphEditor(parse("(float[4] x) => (float[4] y) { y = Add(x, x) }").graph)
    assert len(editor.readers("x")) == 1
    assert editor.uses("x") == 2


def test_a_constant_asked_for_twice_is_there_once() -> None:
    editor = branched()
    assert editor.constant("axes", [1, 2], np.int64) == editor.constant("axes", [1, 2], np.int64) == "new/axes"
    assert [tensor.name for tensor in editor.graph.initializer].count("new/axes") == 1
    assert editor.value("new/axes").dtype == np.int64
    assert editor.constant("gap", np.nan) == editor.constant("gap", np.nan), "also where it is no number"
    assert_consistent(editor)


def test_two_values_under_one_name_are_refused() -> None:
    editor = branched()
    editor.constant("axes", [1, 2], np.int64)
    with pytest.raises(AssertionError, match="two values for new/axes"):
        editor.constant("axes", [2, 1], np.int64)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_a_constant_keeps_its_shape(shape: tuple[int, ...]) -> None:
    editor = branched()
    assert editor.value(editor.constant("c", np.zeros(shape))).shape == shape
    editor.change_constant("new/c", np.ones(shape, np.float16))
    assert editor.value("new/c").shape == shape
    assert editor.value("new/c").dtype == np.float16


def test_large_constants_stand_beside_the_graph() -> None:
    editor = branched()
    before = editor.graph.SerializeToString()
    values = np.ones((3, 3))
    assert editor.beside("factor", values) == "new/factor"
    assert editor.large["new/factor"] is values
    assert editor.graph.SerializeToString() == before


def test_a_constant_in_a_data_file_is_known_but_has_no_value() -> None:
    editor = branched()
    editor.external("far", np.ones((2, 3), np.float16), location="m.data", offset=4096)
    assert editor.value("far") is None
    tensor = editor.constants["far"]
    assert (tensor.data_type, list(tensor.dims)) == (TensorProto.FLOAT16, [2, 3])
    told = {each.key: each.value for each in tensor.external_data}
    assert told == {"location": "m.data", "offset": "4096", "length": "12"}


def test_nodes_are_added_at_the_end_before_and_behind_in_the_order_of_the_calls() -> None:
    editor = branched()
    whole = names(editor.nodes)
    editor.node("Neg", ["y"], "last")
    with editor.before(editor.maker("a")):
        editor.node("Neg", ["x"], "first")
        editor.node("Neg", ["first"], "second")
        with editor.behind(editor.maker("b")):
            editor.node("Neg", ["b"], "behind1")
            editor.node("Neg", ["b"], "behind2")
        editor.node("Neg", ["second"], "third")
    with editor.behind(None):
        editor.node("Neg", ["x"], "start")
    with editor.behind(editor.maker("last")):
        editor.node("Neg", ["last"], "end")
    with editor.before(None):
        editor.node("Neg", ["end"], "very_end")
    assert names(editor.nodes) == [
        *("start", "first", "second", "third", "a", "b", "behind1", "behind2"),
        *whole[2:],
        *("last", "end", "very_end"),
    ]
    assert_consistent(editor)


def test_new_nodes_are_named_after_prefix_operator_and_output_unless_told_otherwise() -> None:
    editor = branched()
    editor.node("Transpose", ["y"], "t", perm=[0])
    editor.node("Neg", ["t"], "n", name="own")
    assert editor.maker("t").name == "new/Transpose_t"
    assert attribute(editor.maker("t"), "perm", ()) == (0,)
    assert editor.maker("n").name == "own"


def test_an_error_between_leaves_the_end_as_the_place_for_new_nodes() -> None:
    editor = branched()
    with pytest.raises(KeyError), editor.before(editor.maker("a")):
        raise KeyError
    editor.node("Neg", ["y"], "last")
    assert names(editor.nodes)[-1] == "last"


def test_a_constant_replaced_for_one_reader_stays_for_the_other() -> None:
    editor = branched()
    mul, add = editor.readers("w")
    editor.replace_constant(add, 1, np.full(4, 9, np.float32))
    np.testing.assert_array_equal(editor.value(mul.input[1]), np.arange(4))
    np.testing.assert_array_equal(editor.value(add.input[1]), np.full(4, 9))
    assert add.input[1] == "w/make_b"
    editor.replace_constant(mul, 1, np.full(4, 7, np.float32))
    assert mul.input[1] == "w", "its only reader needs no copy"
    np.testing.assert_array_equal(editor.value("w"), np.full(4, 7))
    np.testing.assert_array_equal(editor.value("w/make_b"), np.full(4, 9))
    assert_consistent(editor)


def test_readers_are_redirected_and_nothing_else() -> None:
    editor = branched()
    editor.redirect("a", "x")
    assert editor.readers("a") == []
    assert [list(editor.maker(name).input) for name in ("a", "b", "u", "c")] == [["x", "w"], ["x", "w"], ["x"], ["x"]]
    editor.redirect("y", "x")
    assert editor.outputs == {"y"}, "an output of the graph keeps its name"
    assert_consistent(editor)


def test_inputs_and_outputs_are_renamed_one_by_one() -> None:
    editor = branched()
    node = editor.maker("y")
    editor.set_input(node, 1, "b")
    editor.set_output(node, "other")
    assert list(node.input) == ["b", "b"]
    assert editor.maker("y") is None
    assert editor.maker("other") is node
    assert editor.uses("b") == 2
    assert_consistent(editor)


def test_the_output_of_a_removed_node_can_be_given_to_another_one() -> None:
    editor = branched()
    removed, other = editor.maker("c"), editor.maker("u")
    editor.set_output(other, "c")  # for a moment there are two
    editor.remove(removed)
    assert editor.maker("c") is other
    assert removed.op_type == "Relu", "its own fields can still be read"
    assert names(editor.nodes) == ["a", "b", "c", "v", "y"]
    assert_consistent(editor)


def test_what_no_output_depends_on_is_dropped_and_nothing_else() -> None:
    editor = branched()
    editor.drop_unused()
    assert names(editor.nodes) == ["a", "b", "c", "y"]
    assert list(editor.constants) == ["w"]
    assert_consistent(editor)


def test_outputs_are_replaced() -> None:
    editor = branched()
    editor.set_outputs({"b": ["N", 4], "c": None})
    assert [output.name for output in editor.graph.output] == ["b", "c"]
    shape = editor.graph.output[0].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in shape] == ["N", 4]
    assert not editor.graph.output[1].type.tensor_type.HasField("shape")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Additions and negations of whatever came before, some of which no output needs."""
    tensors, nodes = ["x", "k0", "k1"], []
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["Neg", "Add"]))
        inputs = [draw(st.sampled_from(tensors)) for _ in range(1 + (kind == "Add"))]
        nodes.append(helper.make_node(kind, inputs, [f"t{i}"], name=f"n{i}"))
        tensors.append(f"t{i}")
    outputs = draw(st.lists(st.sampled_from(tensors[3:]), min_size=1, max_size=2, unique=True))
    constants = [numpy_helper.from_array(np.full(2, i, np.float32), f"k{i}") for i in range(2)]
    given, *made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ["x", *outputs])
    body = helper.make_graph(nodes, "g", [given], made, constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    return ReferenceEvaluator(model).run(None, {"x": np.array([3.0, -5.0], np.float32)})


@settings(deadline=None)
@given(graphs())
def test_dropping_the_unused_twice_is_dropping_it_once_and_changes_no_output(model: onnx.ModelProto) -> None:
    once = copied(model)
    GraphEditor(once.graph).drop_unused()
    twice = copied(once)
    GraphEditor(twice.graph).drop_unused()
    assert once.SerializeToString(deterministic=True) == twice.SerializeToString(deterministic=True)
    for before, after in zip(run(model), run(once), strict=True):
        np.testing.assert_array_equal(before, after)
    used = {name for node in once.graph.node for name in node.input} | {each.name for each in once.graph.output}
    assert all(not used.isdisjoint(node.output) for node in once.graph.node)
    assert {tensor.name for tensor in once.graph.initializer} <= used


@settings(deadline=None)
@given(model=graphs(), data=st.data())
def test_after_any_changes_the_look_ups_are_those_of_the_graph(model: onnx.ModelProto, data: st.DataObject) -> None:
    editor = GraphEditor(model.graph, "new")
    for i in range(data.draw(st.integers(1, 6), label="changes")):
        tensors = ["x", *editor.constants, *names(editor.nodes)]
        some = data.draw(st.sampled_from(tensors), label="tensor")
        node = data.draw(st.sampled_from(editor.nodes), label="node") if editor.nodes else None
        change = data.draw(st.integers(0, 6), label="change")
        if node is None or change == 0:
            editor.node("Neg", [some], f"added{i}")
        elif change == 1:
            with editor.before(node):
                editor.node("Add", [some, some], f"added{i}")
        elif change == 2:
            editor.redirect(some, "x")
        elif change == 3:
            editor.set_input(node, 0, some)
        elif change == 4:
            editor.remove(node)
        elif change == 5:
            editor.drop_unused()
        else:
            editor.set_output(node, f"renamed{i}")
        assert_consistent(editor)


def test_a_copy_shares_nothing() -> None:
    model = parse("(float[4] x) => (float[4] y) { y = Mul(x, w) }", w=np.ones(4, np.float32))
    before = model.SerializeToString(deterministic=True)
    editor = GraphEditor(copied(model).graph)
    editor.change_constant("w", np.zeros(4, np.float32))
    editor.node("Neg", ["y"], "z")
    assert model.SerializeToString(deterministic=True) == before


def test_attributes_are_read_with_a_default_and_as_plain_values() -> None:
    node = helper.make_node("Resize", ["x"], ["y"], mode="nearest", axes=[2, 3], antialias=1, cubic_coeff_a=-0.5)
    assert attribute(node, "mode", "") == "nearest"
    assert attribute(node, "axes", ()) == (2, 3)
    assert attribute(node, "antialias", 0) == 1
    assert attribute(node, "cubic_coeff_a", 0.0) == -0.5
    assert attribute(node, "nothing", "default") == "default"


def test_attributes_are_set_in_place_added_and_removed() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6, pads=[1, 1, 1, 1], strides=[2, 2])
    set_attribute(node, "pads", [0, 0, 0, 0])
    set_attribute(node, "dilations", [1, 1])
    assert [each.name for each in node.attribute] == ["group", "pads", "strides", "dilations"]
    assert attribute(node, "pads", ()) == (0, 0, 0, 0)
    keep_attributes(node, ("group", "nothing"))
    assert [each.name for each in node.attribute] == ["group"]
    assert attribute(node, "group", 1) == 6


def test_bodies_of_control_flow_are_found_and_their_types_too() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> agraph (float[N,4] x, bool c) => (float[N,4] y) { '
        "y = If(c)<then_branch = t () => (float[N,4] a) { h = Cast<to=10>(x) a = Cast<to=1>(h) }, "
        "else_branch = e () => (float[N,4] b) { b = Neg(x) }> }"
    )
    assert [body.name for body in bodies(model.graph)][1:] == ["t", "e"]
    kinds = value_types(model)
    assert (kinds["x"].elem_type, kinds["h"].elem_type) == (TensorProto.FLOAT, TensorProto.FLOAT16)
    assert len(kinds["y"].shape.dim) == 2
