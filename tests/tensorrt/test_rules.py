"""The rule table knows what TensorRT refuses; test_parser.py asks TensorRT itself about the same graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from padim_edge_artifact import PadimEdgeError, read_metadata
from padim_edge_model import tensorrt_rules
from padim_edge_model.tensorrt_rules import Finding


def test_what_tensorrt_takes_has_no_findings(accepted) -> None:
    model = accepted.model()
    onnx.checker.check_model(model, full_check=True)
    assert tensorrt_rules.check(model) == ()
    tensorrt_rules.require(model)


def test_what_tensorrt_refuses_is_found(refused) -> None:
    assert tensorrt_rules.check(refused.model())[0].op == refused.op


def test_what_only_the_older_tensorrt_refuses_is_found(narrower) -> None:
    assert tensorrt_rules.check(narrower.model())[0].op == narrower.op


def test_an_emitted_model_has_no_findings_even_where_its_data_file_is_missing(emitted: Path) -> None:
    content = emitted.read_bytes()
    emitted_data = read_metadata(emitted).digests.data_file
    assert emitted_data is None or emitted_data.encode() in content
    assert tensorrt_rules.check(onnx.load_from_string(content)) == ()


def parse(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> agraph {graph}')


def test_a_finding_names_the_node_what_is_refused_and_the_cure() -> None:
    model = parse("(float[N] x) => (float[N] y) { y = HannWindow(x) }")
    (finding,) = tensorrt_rules.check(model)
    assert finding == Finding(
        "y",
        "HannWindow",
        "not every TensorRT since 10.3 has this operator",
        "write the window into the model as a constant",
    )
    model.graph.node[0].name = "head/window"
    assert str(tensorrt_rules.check(model)[0]).startswith("head/window (HannWindow): not every TensorRT")


def test_findings_come_in_the_order_of_the_nodes() -> None:
    model = parse("(float[N,4] x) => (float[N,4] y) { s = Det(x) h = Cast<to=10>(x) y = Add(x, h) t = Det(x) }")
    assert [each.node for each in tensorrt_rules.check(model)] == ["s", "y", "t"]


@pytest.mark.parametrize(("count", "others"), [(1, ""), (2, " (and 1 more finding)"), (4, " (and 3 more findings)")])
def test_require_names_the_first_finding_and_counts_the_others(count: int, others: str) -> None:
    model = parse("(float[3,3] x) => (float y) { y = Det(x) }")
    for i in range(1, count):
        model.graph.node.add(op_type="Det", input=["x"], output=[f"y{i}"])
    with pytest.raises(PadimEdgeError) as caught:
        tensorrt_rules.require(model)
    assert str(caught.value) == (
        "TensorRT will refuse y (Det): not every TensorRT since 10.3 has this operator; write it with other operators "
        f"or compute it outside the model{others}"
    )


def test_a_zero_point_in_a_data_file_is_not_taken_on_trust() -> None:
    model = parse(
        "(float[N,4] x) => (float[N,4] y) <float s = {0.1}, int8 z = {0}> "
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s) }"
    )
    assert tensorrt_rules.check(model) == ()
    (zero,) = (tensor for tensor in model.graph.initializer if tensor.name == "z")
    zero.data_location = onnx.TensorProto.EXTERNAL
    assert [each.refused for each in tensorrt_rules.check(model)] == ["its zero point z is not a constant 0"]
