"""An ONNX model that anomalib 2.7 or newer exported, read as numbers; the certificate runs the model itself.

The exporter keeps the names of the network's weights, folds each batch normalisation into its convolution, and drops
what it can compute beforehand. So sizes and thresholds are found by their place in the graph. A wrong guess cannot
pass, because the certificate compares scores with those of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

from padim_edge.importing.checkpoint import digest_of
from padim_edge.importing.source import BACKBONES, Decision, Frame, Normalise, Padim, refuse
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.schema import reason_of
from padim_edge_model.graph_editing import GraphEditor, attribute
from padim_edge_runtime.devices.providers import open_session

if TYPE_CHECKING:
    import torch

__all__ = ["read_onnx"]

_NETWORK = "model.feature_extractor.feature_extractor."
_MEAN, _PRECISION = "model.gaussian.mean", "model.gaussian.inv_covariance"
_KERNEL = "model.anomaly_map_generator.blur.kernel"
_MOST_BYTES = (2 << 30) - (16 << 20)
"""Largest size of a model that protobuf carries."""
_INSTEAD = "import the checkpoint instead"
_FOLDED = 1 - 1e-5
"""Variance with which PyTorch's batch normalisation leaves a number as it is."""


def read_onnx(path: Path) -> Padim:
    """Read a fitted PaDiM from an ONNX model.

    Args:
        path: The `.onnx` file; a data file lies beside it.

    Raises:
        PadimEdgeError: It is none, or something in it cannot be carried over.
    """
    model = _load(path)
    editor = GraphEditor(model.graph)
    found = {name: editor.value(name) for name in (_MEAN, _PRECISION, _KERNEL)}
    absent = [name for name, value in found.items() if value is None]
    if absent:
        raise refuse(
            f"{path.name}",
            f"it has no constant {absent[0]}, so it is no PaDiM that anomalib 2.7 or newer exported",
            _INSTEAD,
        )
    mean, precision, kernel = (np.asarray(found[name], np.float32) for name in (_MEAN, _PRECISION, _KERNEL))
    state = _state(editor)
    gather = _choice(editor)
    layers = tuple(_layer_of(editor, leaf) for leaf in _leaves(editor, gather.input[0]))
    chosen = editor.value(gather.input[1])
    assert chosen is not None, "the choice was found by it"
    frame, entry = _frame(editor, model.graph)
    score = _score(editor)
    decision, why = _decision(editor, score)
    return Padim(
        kind="onnx",
        name=path.name,
        digest=digest_of(path),
        backbone=_backbone(state, layers),
        layers=layers,
        state=state,
        chosen=np.asarray(chosen, np.int64),
        mean=mean,
        precision=precision,
        kernel=kernel.reshape(kernel.shape[-2:]),
        frame=frame,
        decision=decision,
        undecided=why,
        run=_runner(model, entry, score, frame.crop or frame.resize),
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        beside = sum(each.stat().st_size for each in (path, path.with_name(f"{path.name}.data")) if each.is_file())
        if beside > _MOST_BYTES:
            raise refuse(path.name, f"it has {beside >> 20} MB, and 2 GB are read at most", _INSTEAD)
        return onnx.load(path)
    except FileNotFoundError as error:
        raise PadimEdgeError(f"there is no file {path}, or no data file beside it; give both in one folder") from error
    except PadimEdgeError:
        raise
    except Exception as error:  # protobuf's own exception; onnx has several
        raise PadimEdgeError(
            f"{path} is not a readable ONNX model ({reason_of(error, 120)}); export it again"
        ) from error


def _state(editor: GraphEditor) -> dict[str, torch.Tensor]:
    """Return the network's weights with torchvision's names; folded normalisations become ones that add a bias."""
    import torch

    state: dict[str, torch.Tensor] = {}

    def put(name: str, values: npt.ArrayLike) -> None:
        state[name] = torch.tensor(np.array(values, np.float32))

    for name in editor.constants:
        if name.startswith(_NETWORK) and not name.endswith("_bias"):
            value = editor.value(name)
            if value is not None:
                put(name.removeprefix(_NETWORK), value)
    for node in editor.nodes:
        if node.op_type != "Conv" or not node.input[1].startswith(_NETWORK) or len(node.input) < 3:
            continue
        bias = editor.value(node.input[2])
        if bias is None:
            continue
        name = node.input[1].removeprefix(_NETWORK).removesuffix(".weight")
        place, _, last = name.rpartition(".")
        norm = f"{place}.1" if place.endswith("downsample") else f"{place}.{last.replace('conv', 'bn')}".lstrip(".")
        put(f"{norm}.bias", bias)
        put(f"{norm}.weight", np.ones_like(bias))
        put(f"{norm}.running_mean", np.zeros_like(bias))
        put(f"{norm}.running_var", np.full_like(bias, _FOLDED))
    return state


def _backbone(state: dict[str, torch.Tensor], layers: tuple[str, ...]) -> str:
    """Return the network that has weights of these shapes."""
    import torch
    from torchvision.models import get_model

    last = layers[-1]
    for name in BACKBONES:
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in get_model(name, weights=None).state_dict().items()}
        used = {key: shape for key, shape in shapes.items() if _used(key, last)}
        if (
            all(key in state and state[key].shape == shape for key, shape in used.items())
            and {key for key in state if key not in used} <= shapes.keys()
        ):
            return name
    raise refuse("this network", f"its weights have the shapes of none of {', '.join(BACKBONES)}", _INSTEAD)


def _used(key: str, last: str) -> bool:
    """Tell whether a number of the network is needed up to its last used layer."""
    top = key.partition(".")[0]
    return not key.endswith("num_batches_tracked") and (
        top in ("conv1", "bn1") or (top.startswith("layer") and top <= last)
    )


def _choice(editor: GraphEditor) -> NodeProto:
    """Return the node that keeps some channels of all layers."""
    dims = len(np.asarray(editor.value(_MEAN)))
    for node in editor.nodes:
        if node.op_type == "Gather" and attribute(node, "axis", 0) == 1:
            index = editor.value(node.input[1])
            if index is not None and index.shape == (dims,):
                return node
    raise refuse("this graph", "the choice of its channels was not found", _INSTEAD)


def _leaves(editor: GraphEditor, name: str) -> Iterator[str]:
    """Yield the feature maps behind concatenations and upsamplings, in their order."""
    node = editor.maker(name)
    if node is None:
        raise refuse("this graph", "its layers were not found", _INSTEAD)
    if node.op_type == "Concat":
        for each in node.input:
            yield from _leaves(editor, each)
    elif node.op_type == "Resize":
        if attribute(node, "mode", "nearest") != "nearest":
            raise refuse("this graph", "it upsamples its layers otherwise than by the nearest cell", _INSTEAD)
        yield from _leaves(editor, node.input[0])
    else:
        yield name


def _layer_of(editor: GraphEditor, name: str) -> str:
    """Return the layer that makes a feature map, by the weights of the last convolution before it."""
    waiting = [name]
    while waiting:
        node = editor.maker(waiting.pop(0))
        if node is None:
            continue
        if node.op_type == "Conv" and node.input[1].startswith(_NETWORK):
            return str(node.input[1]).removeprefix(_NETWORK).partition(".")[0]
        waiting += [each for each in node.input if each]
    raise refuse("this graph", "its layers were not found", _INSTEAD)


def _frame(editor: GraphEditor, graph: onnx.GraphProto) -> tuple[Frame, str]:
    """Return the frame, and the tensor that holds an image that is resized and not yet normalised."""
    first = next(
        (each for each in editor.nodes if each.op_type == "Conv" and each.input[1] == f"{_NETWORK}conv1.weight"), None
    )
    if first is None:
        raise refuse("this graph", "its first convolution was not found", _INSTEAD)
    steps: dict[str, NodeProto] = {}
    name = first.input[0]
    while (node := editor.maker(name)) is not None and node.op_type in ("Sub", "Div"):
        steps[node.op_type] = node
        name = node.input[0]
    if set(steps) != {"Sub", "Div"}:
        raise refuse("its preprocessing", "it has no Normalize with a mean and a deviation", _INSTEAD)
    mean, std = (_three(editor.value(steps[kind].input[1])) for kind in ("Sub", "Div"))
    entry, kernel = name, "bilinear"
    size: tuple[int, ...] | None = None
    if node is not None and node.op_type == "Resize":
        kernel = {"linear": "bilinear", "cubic": "bicubic"}.get(str(attribute(node, "mode", "nearest")), "")
        size = _sizes(editor, node)
    elif node is None:
        size = tuple(each.dim_value for each in graph.input[0].type.tensor_type.shape.dim)[2:]
    if not kernel or size is None or len(size) != 2 or min(size) < 1:
        raise refuse("its preprocessing", "it is not one resize to a fixed height and width", _INSTEAD)
    return Frame(
        resize=(size[0], size[1]),
        crop=None,
        interpolation=kernel,
        antialias=node is not None and attribute(node, "antialias", 0) == 1,
        normalise=Normalise(mean=mean, std=std),
    ), entry


def _three(value: npt.NDArray[Any] | None) -> tuple[float, float, float]:
    if value is None or value.size != 3:
        raise refuse("its preprocessing", "it does not normalise three channels", _INSTEAD)
    one, two, three = (float(each) for each in value.ravel())
    return one, two, three


def _sizes(editor: GraphEditor, node: NodeProto) -> tuple[int, ...] | None:
    """Return (height, width) out of the sizes of a resize, whose batch and channels may be computed."""
    given = node.input[3] if len(node.input) > 3 else ""
    maker = editor.maker(given)
    last = given if maker is None else maker.input[-1]
    value = editor.value(last)
    return None if value is None else tuple(int(each) for each in value.ravel()[-2:])


def _score(editor: GraphEditor) -> str:
    """Return the tensor of the raw score: the largest value of the filtered map."""
    blurred = next((each.output[0] for each in editor.nodes if each.op_type == "Conv" and each.input[1] == _KERNEL), "")
    for node in editor.readers(blurred):
        if node.op_type == "ReduceMax":
            return str(node.output[0])
    raise refuse("this graph", "its score was not found", _INSTEAD)


def _decision(editor: GraphEditor, score: str) -> tuple[Decision | None, str]:
    """Return the post-processing out of the nodes behind the score."""
    limit = _constant(editor, editor.maker("pred_label"), 1) if "pred_label" in editor.outputs else None
    middle = spread = None
    for less in editor.readers(score):
        if less.op_type == "Sub" and less.input[0] == score:
            middle = _constant(editor, less, 1)
            divided = [each for each in editor.readers(less.output[0]) if each.op_type == "Div"]
            spread = _constant(editor, divided[0], 1) if divided else None
    if limit is None or middle is None or spread is None:
        return None, "it has no threshold with a range of scores"
    if not (np.isfinite([limit, middle, spread]).all() and spread > 0 and 0 <= limit < 1):
        return None, "its threshold, sensitivity or range is no usable number"
    # The lowest score is not in the file; the one that becomes 0 stands for it.
    found = Decision(threshold=middle, lowest=max(0.0, middle - spread / 2), spread=spread, limit=limit)
    return (found, "") if found.raw >= 0 else (None, "its sensitivity calls every image anomalous")


def _constant(editor: GraphEditor, node: NodeProto | None, position: int) -> float | None:
    value = None if node is None or len(node.input) <= position else editor.value(node.input[position])
    return None if value is None or value.size != 1 else float(value.ravel()[0])


def _runner(
    model: onnx.ModelProto, entry: str, score: str, size: tuple[int, int]
) -> Callable[[npt.NDArray[np.float32]], float]:
    """Return a function that runs the model on a frame that is resized already, and returns the raw score."""
    graph = model.graph
    editor = GraphEditor(graph)
    maker = editor.maker(entry)
    if maker is not None:
        editor.remove(maker)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, [1, 3, *size]))
    del graph.value_info[:]
    editor.set_outputs({score: None})
    editor.drop_unused()
    session = open_session(model.SerializeToString(), "cpu").session

    def run(frame: npt.NDArray[np.float32]) -> float:
        return float(np.asarray(session.run([score], {entry: frame})[0]).max())

    return run
