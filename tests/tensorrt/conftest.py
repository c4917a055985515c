"""Graphs for the rule table and for TensorRT's own parser: tiny ones as onnx text, and models that we emit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import pytest
import small_models
import trt_rtx

from padim_edge.fitted import Fitted
from padim_edge.presets import PRESETS, preset
from padim_edge_artifact import read_metadata
from padim_edge_artifact.method import Precision
from padim_edge_model import onnx_file

FLAVOURS = {
    str(each): each
    for each in (
        Precision(),
        Precision("fp16", "tensorrt"),
        Precision("int8", "tensorrt"),
        Precision("fp32", "tensorrt", rank=7),
        Precision("fp16", "tensorrt", rank=7),
        Precision("int8", "tensorrt", rank=7),
        Precision("int8", "tensorrt", diagonal=True),
    )
}
"""Kinds of model that TensorRT must take."""

EMITTED = [
    (name, flavour)
    for name, each in PRESETS.items()
    for flavour, precision in FLAVOURS.items()
    if each.bank is None or (precision.exact and (each.bank.neighbours == 1 or precision.name != "int8"))
]
"""Presets with the kinds that they have: a memory has no Gaussians to cut, and no re-weighting in int8."""


@dataclass(frozen=True)
class Example:
    """A tiny graph."""

    name: str
    graph: str
    nodes: str
    op: str = ""
    """Operator that the first finding blames; blank for the model as a whole, or where nothing is found."""
    opset: int = 18
    ir: int = 8

    def model(self) -> onnx.ModelProto:
        sets = f'"": {self.opset}, "com.microsoft": 1'
        return onnx.parser.parse_model(
            f"<ir_version: {self.ir}, opset_import: [{sets}]> agraph {self.graph} {{ {self.nodes} }}"
        )


VECTORS = "(float[N,4] x) => (float[N,4] y)"
IMAGES = "(float[N,1,4,4] x) => (float[N,1,8,8] y)"
BATCHED = "(float[2,N,3] x) => (float[2,N,3] y)"
CUBE = "[2,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}"
SCALES = "<float[4] s = {1,1,2,2}>"
QUANTISED = f"{VECTORS} <float s = {{0.1}}, int8 z = {{0}}, uint8 u = {{128}}, int8 m = {{-5}}>"
EIGHT_BITS = f"{VECTORS} <int8[4] w = {{1,2,3,4}}, float s = {{0.1}}, int8 z = {{3}}, int64[2] n = {{1,4}}>"

ACCEPTED = (
    Example(
        "uint8 into casts", "(uint8[N,4] x) => (float[N,4] y, float16[N,4] h)", "y = Cast<to=1>(x) h = Cast<to=10>(x)"
    ),
    Example(
        "uint8 cast and transposed",
        "(uint8[N,4,4,3] x) => (float[N,3,4,4] y)",
        "f = Cast<to=1>(x) y = Transpose<perm=[0,3,1,2]>(f)",
    ),
    Example("uint8 out", "(float[N,4] x) => (uint8[N,4] y)", "y = Cast<to=2>(x)"),
    Example("linear Resize", f"{IMAGES} {SCALES}", 'y = Resize<mode="linear">(x, , s)'),
    Example(
        "nearest Resize",
        f"{IMAGES} {SCALES}",
        'y = Resize<nearest_mode="floor", coordinate_transformation_mode="asymmetric">(x, , s)',
    ),
    Example("symmetric activations", QUANTISED, "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"),
    Example(
        "quantised convolution with a float bias",
        "(float[N,1,4,4] x) => (float[N,2,4,4] y) <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {100,-100}, "
        "float[2] sw = {0.01,0.02}, int8[2] zw = {0,0}, float[2] b = {1,2}>",
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) f = DequantizeLinear<axis=0>(w, sw, zw) "
        "y = Conv(d, f, b)",
    ),
    Example(
        "batched int8 constant with a scale a matrix",
        f"{BATCHED} <int8{CUBE}, float[2] s = {{0.1,0.2}}>",
        "f = DequantizeLinear<axis=0>(w, s) y = MatMul(x, f)",
    ),
    Example(
        "batched int8 constant with a scale a row",
        f"{BATCHED} <int8[6,3] w = {{1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}}, float[6] s = {{1,2,3,4,5,6}}, "
        "int64[3] n = {2,3,3}>",
        "f = DequantizeLinear<axis=0>(w, s) r = Reshape(f, n) y = MatMul(x, r)",
    ),
    Example(
        "float16 product, float sum of squares",
        f"(float[2,N,3] x) => (float[2,N] y) <float16{CUBE}, int64[1] last = {{2}}>",
        "h = Cast<to=10>(x) m = MatMul(h, w) f = Cast<to=1>(m) y = ReduceSumSquare<keepdims=0>(f, last)",
    ),
    Example("float16 constant", f"{BATCHED} <float16{CUBE}>", "f = Cast<to=1>(w) y = MatMul(x, f)"),
    Example(
        "triangular blocks",
        "(float[2,N,2] x) => (float[2,N,2] y) <float[2,1,1] v = {1,2}, float[2,2,1] w = {1,2,3,4}, int64[1] i = {0}, "
        "int64[1] j = {1}, int64[1] last = {2}>",
        "a = Slice(x, i, j, last) b = MatMul(a, v) c = MatMul(x, w) y = Concat<axis=2>(b, c)",
    ),
    Example("constant axes", "(float[N,4] x) => (float[N] y) <int64[1] a = {1}>", "y = ReduceMax<keepdims=0>(x, a)"),
    Example(
        "axes of a node",
        "(float[N,4] x) => (float[N] y)",
        "a = Constant<value_ints=[1]>() y = ReduceMax<keepdims=0>(x, a)",
    ),
    Example("Pad", "(float[N,4] x) => (float[N,6] y) <int64[4] p = {0,1,0,1}>", "y = Pad(x, p)"),
    Example("TopK", "(float[N,5000] x) => (float[N,3840] y) <int64[1] k = {3840}>", "y, i = TopK(x, k)"),
    Example("exponent of another type", f"{VECTORS} <int64 p = {{2}}>", "y = Pow(x, p)"),
    Example("oldest opset", VECTORS, "y = Relu(x)", opset=9, ir=4),
    Example("newest opset", VECTORS, "y = Relu(x)", opset=20, ir=10),
    Example(
        "control flow",
        "(float[N,4] x, bool c) => (float[N,4] y)",
        "y = If(c)<then_branch = t () => (float[N,4] a) { a = Relu(x) }, "
        "else_branch = e () => (float[N,4] b) { b = Neg(x) }>",
    ),
)

REFUSED = (
    Example(
        "uint8 transposed",
        "(uint8[N,4,4,3] x) => (float[N,3,4,4] y)",
        "t = Transpose<perm=[0,3,1,2]>(x) y = Cast<to=1>(t)",
        "Transpose",
    ),
    Example("uint8 added", "(uint8[N,4] x) => (uint8[N,4] y)", "y = Add(x, x)", "Add"),
    Example("uint8 inside", VECTORS, "u = Cast<to=2>(x) y = Cast<to=1>(u)", "Cast"),
    Example("uint8 looked up", "(int64[N] x) => (uint8[N] y) <uint8[4] t = {1,2,3,4}>", "y = Gather(t, x)", "Gather"),
    Example("antialias", f"{IMAGES} {SCALES}", 'y = Resize<mode="linear", antialias=1>(x, , s)', "Resize"),
    Example(
        "axes of Resize",
        f"{IMAGES} <int64[2] s = {{8,8}}>",
        'y = Resize<mode="linear", axes=[2,3]>(x, , , s)',
        "Resize",
    ),
    Example(
        "crop and resize",
        f"{IMAGES} <float[4] s = {{1,1,2,2}}, float[8] r = {{0,0,0,0,1,1,1,1}}>",
        'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(x, r, s)',
        "Resize",
    ),
    Example(
        "kept aspect ratio",
        "(float[1,1,4,4] x) => (float[1,1,4,4] y) <int64[4] s = {1,1,8,4}>",
        'y = Resize<mode="linear", keep_aspect_ratio_policy="not_larger">(x, , , s)',
        "Resize",
    ),
    Example(
        "unsigned zero point", QUANTISED, "q = QuantizeLinear(x, s, u) y = DequantizeLinear(q, s, u)", "QuantizeLinear"
    ),
    Example(
        "zero point not zero", QUANTISED, "q = QuantizeLinear(x, s, m) y = DequantizeLinear(q, s, m)", "QuantizeLinear"
    ),
    Example("zero point of a constant", EIGHT_BITS, "f = DequantizeLinear(w, s, z) y = Add(x, f)", "DequantizeLinear"),
    Example(
        "computed zero point",
        "(float[N,4] x, int8 z) => (float[N,4] y) <float s = {0.1}>",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        "QuantizeLinear",
    ),
    Example(
        "unsigned constant",
        f"{VECTORS} <uint8[4] w = {{1,2,3,4}}, float s = {{0.1}}>",
        "f = DequantizeLinear(w, s) y = Add(x, f)",
        "DequantizeLinear",
    ),
    Example(
        "int32 bias",
        f"{VECTORS} <int32[4] b = {{1,2,3,4}}, float s = {{0.1}}>",
        "f = DequantizeLinear(b, s) y = Add(x, f)",
        "DequantizeLinear",
    ),
    Example("int8 constant cast", EIGHT_BITS, "f = Cast<to=1>(w) g = Mul(f, s) y = Mul(x, g)", "Cast"),
    Example("int8 node cast", VECTORS, "w = Constant<value = int8[1] {1}>() f = Cast<to=1>(w) y = Mul(x, f)", "Cast"),
    Example(
        "int8 constant reshaped", EIGHT_BITS, "r = Reshape(w, n) f = DequantizeLinear(r, s) y = Mul(x, f)", "Reshape"
    ),
    Example(
        "dynamic quantisation",
        VECTORS,
        "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)",
        "DynamicQuantizeLinear",
    ),
    Example(
        "integer product",
        "(int8[N,2] x) => (int32[N,2] y) <int8[2,2] w = {1,2,3,4}>",
        "y = MatMulInteger(x, w)",
        "MatMulInteger",
    ),
    Example(
        "integer convolution",
        "(int8[N,1,4,4] x) => (int32[N,1,4,4] y) <int8[1,1,1,1] w = {1}>",
        "y = ConvInteger(x, w)",
        "ConvInteger",
    ),
    Example(
        "quantised product",
        "(int8[N,2] x) => (int8[N,2] y) <int8[2,2] w = {1,2,3,4}, float s = {0.1}, int8 z = {0}>",
        "y = QLinearMatMul(x, s, z, w, s, z, s, z)",
        "QLinearMatMul",
    ),
    Example(
        "quantised convolution",
        "(int8[N,1,4,4] x) => (int8[N,1,4,4] y) <int8[1,1,1,1] w = {1}, float s = {0.1}, int8 z = {0}>",
        "y = QLinearConv(x, s, z, w, s, z, s, z)",
        "QLinearConv",
    ),
    Example(
        "onnxruntime's own operator",
        f"{VECTORS} <float[4,4] w = {{1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}}>",
        "y = com.microsoft.FusedMatMul(x, w)",
        "FusedMatMul",
    ),
    Example("NonZero", "(float[N,4] x) => (int64[2,M] y)", "y = NonZero(x)", "NonZero"),
    Example("Compress", "(float[N,4] x, bool[4] c) => (float[N,M] y)", "y = Compress<axis=1>(x, c)", "Compress"),
    Example("Unique", "(float[4] x) => (float[M] y)", "y = Unique(x)", "Unique"),
    Example("Det", "(float[N,3,3] x) => (float[N] y)", "y = Det(x)", "Det"),
    Example(
        "Col2Im",
        "(float[N,4,4] x) => (float[N,1,4,4] y) <int64[2] i = {4,4}, int64[2] b = {2,2}>",
        "y = Col2Im<strides=[2,2]>(x, i, b)",
        "Col2Im",
    ),
    Example(
        "CenterCropPad",
        "(float[N,4] x) => (float[N,2] y) <int64[1] s = {2}>",
        "y = CenterCropPad<axes=[1]>(x, s)",
        "CenterCropPad",
    ),
    Example(
        "sequence",
        f"{VECTORS} <int64 i = {{0}}>",
        "s = SequenceConstruct(x, x) y = SequenceAt(s, i)",
        "SequenceConstruct",
    ),
    Example("TopK", "(float[N,5000] x) => (float[N,3841] y) <int64[1] k = {3841}>", "y, i = TopK(x, k)", "TopK"),
    Example("axes given later", "(float[N,4] x, int64[1] a) => (float[N,1] y)", "y = ReduceMax(x, a)", "ReduceMax"),
    Example(
        "axes to squeeze given later", "(float[N,1] x, int64[1] a) => (float[N] y)", "y = Squeeze(x, a)", "Squeeze"
    ),
    Example("mixed sum", VECTORS, "h = Cast<to=10>(x) y = Add(x, h)", "Add"),
    Example("mixed factor", f"{VECTORS} <float16[4] h = {{1,2,3,4}}>", "y = Mul(x, h)", "Mul"),
    Example("mixed product", f"{BATCHED} <float16{CUBE}>", "y = MatMul(x, w)", "MatMul"),
    Example(
        "mixed columns", "(float[N,4] x) => (float[N,8] y)", "h = Cast<to=10>(x) y = Concat<axis=1>(x, h)", "Concat"
    ),
    Example(
        "mixed choice",
        "(float[N,4] x, bool[N,4] c) => (float[N,4] y)",
        "h = Cast<to=10>(x) y = Where(c, x, h)",
        "Where",
    ),
    Example(
        "mixed bias",
        "(float16[N,1,4,4] x) => (float16[N,1,4,4] y) <float16[1,1,1,1] w = {1}, float[1] b = {1}>",
        "y = Conv(x, w, b)",
        "Conv",
    ),
    Example(
        "in a branch",
        "(float[N,4] x, bool c) => (float[N,4] y)",
        "y = If(c)<then_branch = t () => (float[N,4] a) { h = Cast<to=10>(x) a = Add(x, h) }, "
        "else_branch = e () => (float[N,4] b) { b = Neg(x) }>",
        "Add",
    ),
)

NARROWER = (
    Example("old opset", VECTORS, "y = Relu(x)", opset=8, ir=3),
    Example("new opset", VECTORS, "y = Relu(x)", opset=21, ir=10),
    Example("new IR", VECTORS, "y = Relu(x)", ir=11),
    Example(
        "a scale a block",
        f"{BATCHED} <int8{CUBE}, float[2,3,1] s = {{1,2,3,4,5,6}}>",
        "f = DequantizeLinear<axis=2, block_size=3>(w, s) y = MatMul(x, f)",
        opset=21,
        ir=10,
    ),
    Example("cubic Resize", f"{IMAGES} {SCALES}", 'y = Resize<mode="cubic">(x, , s)', "Resize"),
    Example(
        "axes of Pad",
        "(float[N,4] x) => (float[N,6] y) <int64[2] p = {1,1}, int64[1] a = {1}>",
        "y = Pad(x, p, , a)",
        "Pad",
    ),
    Example("computed axes", "(float[N,1] x) => (float[N] y)", "a = Shape<start=1>(x) y = Squeeze(x, a)", "Squeeze"),
    Example(
        "unsorted TopK", "(float[N,9] x) => (float[N,4] y) <int64[1] k = {4}>", "y, i = TopK<sorted=0>(x, k)", "TopK"
    ),
    Example("window", VECTORS, "n = Constant<value_int=4>() w = HannWindow(n) y = Mul(x, w)", "HannWindow"),
    # TensorRT builds it as int8, so 128 to 255 would be lost.
    Example(
        "quantised to uint8 by default",
        QUANTISED,
        "q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)",
        "QuantizeLinear",
    ),
)
"""Graphs that only TensorRT 10.3 refuses; the parser used here is newer and takes them."""


def _by_name(example: Example) -> str:
    return example.name


@pytest.fixture(params=ACCEPTED, ids=_by_name)
def accepted(request: pytest.FixtureRequest) -> Example:
    return request.param


@pytest.fixture(params=REFUSED, ids=_by_name)
def refused(request: pytest.FixtureRequest) -> Example:
    return request.param


@pytest.fixture(params=NARROWER, ids=_by_name)
def narrower(request: pytest.FixtureRequest) -> Example:
    return request.param


@pytest.fixture(scope="session")
def judge() -> Callable[[list[Path]], list[trt_rtx.Verdict]]:
    """TensorRT's parser and builder."""
    try:
        trt_rtx.judge([])
    except trt_rtx.UnavailableError as error:
        pytest.skip(str(error))
    return trt_rtx.judge


@pytest.fixture(scope="session")
def verdicts(
    judge: Callable[[list[Path]], list[trt_rtx.Verdict]], tmp_path_factory: pytest.TempPathFactory
) -> dict[Example, trt_rtx.Verdict]:
    """Verdict on each example, all asked at once."""
    folder = tmp_path_factory.mktemp("examples")
    examples = (*ACCEPTED, *REFUSED, *NARROWER)
    paths = [folder / f"{i}.onnx" for i in range(len(examples))]
    for example, path in zip(examples, paths, strict=True):
        onnx.save(example.model(), path)
    return dict(zip(examples, judge(paths), strict=True))


@cache
def fitted(name: str, numbers: Precision) -> Fitted:
    """The fit that all forms of the Gaussians share; the rounding of int8 weights changes no node."""
    images = small_models.dataset(small_models.weave(24))
    with small_models.rounded_to_nearest():
        return small_models.fitted(images, small_models.small(name, precision=numbers))


@pytest.fixture(scope="session", params=EMITTED, ids="-".join)
def emitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its constants in a data file, if there are any that can go there."""
    path = tmp_path_factory.mktemp("emitted") / "weave.onnx"
    name, flavour = request.param
    precision = FLAVOURS[flavour]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "EXTERNAL_ABOVE", 0)
        fitted(name, precision.numbers).export(path, precision=precision, progress=False)
    large = not precision.diagonal or PRESETS[name].beside is not None  # variances alone are small constants
    assert (read_metadata(path).digests.data_file is not None) == large
    return path


@pytest.fixture(
    scope="session", params=[(n, p) for n in ("edge", "free") for p in ("fp32", "fp16", "int8")], ids="-".join
)
def emitted_whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the usual size, with as many images as its exact form needs."""
    path = tmp_path_factory.mktemp("whole") / "weave.onnx"
    name, precision = request.param
    images = small_models.dataset(small_models.weave(40))
    method = preset(name, backbone="builtin", precision=precision, target="tensorrt")
    small_models.export_model(images, path, method)
    return path
