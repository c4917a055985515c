"""TensorRT takes four backbones in three presets and three precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import small_models
import trt_rtx

from padim_edge_artifact.method import Precision
from padim_edge_model import tensorrt_rules

pytestmark = pytest.mark.slow

BACKBONES = ("resnet18", "mobilenet_v3_large", "efficientnet_b5", "wide_resnet50_2")
PRESETS = ("paper", "edge", "free")
PRECISIONS = ("fp32", "fp16", "int8")

FACTORS = {
    "fp32": {onnx.TensorProto.FLOAT},
    "fp16": {onnx.TensorProto.FLOAT16},
    "int8": {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT},
}
"""Element types of the convolutions' weights; in int8 the first convolution stays in float32."""


@pytest.fixture(scope="module", params=[(name, preset) for name in BACKBONES for preset in PRESETS], ids="-".join)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models with drawn weights, by precision."""
    backbone, name = request.param
    folder = tmp_path_factory.mktemp("flavours")
    images = small_models.dataset(small_models.weave(24))
    made = {}
    with small_models.rounded_to_nearest():
        for precision in PRECISIONS:
            made[precision] = folder / f"{backbone}-{name}-{precision}.onnx"
            method = small_models.small(name, backbone, precision=Precision(precision, "tensorrt"))
            small_models.export_model(images, made[precision], method)
    return made


def test_no_flavour_breaks_a_rule(models: dict[str, Path]) -> None:
    for precision, path in models.items():
        model = onnx.load(path, load_external_data=False)
        assert tensorrt_rules.check(model) == (), path.name
        assert weights_of(model) == FACTORS[precision], path.name


def weights_of(model: onnx.ModelProto) -> set[int]:
    """Element types of the convolutions' weights."""
    kept = {each.name: each.data_type for each in model.graph.initializer}
    behind = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    names = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return {kept[behind.get(name, name)] for name in names}


def test_tensorrt_builds_every_flavour(
    judge: Callable[[list[Path]], list[trt_rtx.Verdict]], models: dict[str, Path]
) -> None:
    for path, verdict in zip(models.values(), judge(list(models.values())), strict=True):
        assert verdict.built, (path.name, verdict)
        assert not verdict.errors, (path.name, verdict)
        assert verdict.engine_bytes > 0
