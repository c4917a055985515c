"""The backbones, as rows of one table, and their weights; other networks of torchvision by the names of their layers.

What depends on a network stands in its row. What follows (`embedding`, `rewrites`, `integers`) knows operators only.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Backbone

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

__all__ = ["BACKBONES", "BUILTIN_WEIGHTS", "Trunk", "channels_of", "default_dims", "load_trunk"]

BUILTIN_WEIGHTS = Path(__file__).with_name("builtin.safetensors")

_TORCHVISION = "BSD-3-Clause (torchvision)"

_PROBES = (96, 160)
"""Pixels a side of two images that tell what the layers give: five and three cells at a stride of 32."""

_AS_TRAINED = {name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")}
"""Arguments without which torchvision's builders make another function than the one that its weights were trained for:
these two want pixels in [-1, 1] and bring ImageNet's normalisation to that by themselves."""

_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""DenseNet's weights files have layers that were called `norm.1` and are called `norm1`."""


@dataclass(frozen=True)
class Row:
    """One line of the table of backbones."""

    build: Callable[[], nn.Module]
    """Makes the whole network without weights."""
    layers: tuple[str, ...]
    """Modules whose outputs are the features, finest first."""
    licence: str
    """Licence of the weights that `auto` gives."""
    torchvision_weights: str | None
    """Torchvision's weights for `auto`; `None` where they come with this package."""
    dims: int = 100
    """Embedding dimensions unless asked for others (PaDiM, section IV-B)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from pixels in [0, 1], by channel."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What they are then divided by."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """A backbone cut after its last used layer, with weights, in evaluation mode."""

    module: nn.Module
    """Normalised image `(N, 3, H, W)` -> list of features, finest first."""
    mean: tuple[float, float, float]
    """Numbers subtracted from pixels in [0, 1], by channel."""
    std: tuple[float, float, float]
    """Numbers that the difference is divided by, by channel."""
    layers: tuple[str, ...]
    """Modules whose outputs are the features, finest first."""
    description: Backbone
    """Provenance of the weights."""


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    with warnings.catch_warnings():  # of initial values, which will be replaced
        warnings.simplefilter("ignore")
        network: nn.Module = get_model(name, weights=None, **_AS_TRAINED.get(name, {}))
    return network


def _builtin() -> nn.Module:
    from padim_edge_export.builtin import BuiltinBackbone

    return BuiltinBackbone()


# Where torchvision has two sets of weights, the first: the longer training of the second made features that move more
# between nearly equal images (pytorch/vision issue 8382), and PaDiM was published with the first.
BACKBONES = {
    "resnet18": Row(
        partial(_torchvision, "resnet18"),
        ("layer1", "layer2", "layer3"),
        _TORCHVISION,
        "ResNet18_Weights.IMAGENET1K_V1",
    ),
    "wide_resnet50_2": Row(
        partial(_torchvision, "wide_resnet50_2"),
        ("layer1", "layer2", "layer3"),
        _TORCHVISION,
        "Wide_ResNet50_2_Weights.IMAGENET1K_V1",
        dims=550,
    ),
    "builtin": Row(_builtin, ("tap1", "tap2", "tap3"), "Apache-2.0", None),
    "resnet50": Row(
        partial(_torchvision, "resnet50"),
        ("layer1", "layer2", "layer3"),
        _TORCHVISION,
        "ResNet50_Weights.IMAGENET1K_V1",
    ),
    # PaDiM (section IV-B) takes "layers 7 (level 2), 20 (level 4), and 26 (level 5)". Counted from 0, B5's blocks 3-7
    # are level 2, 13-19 level 4, 20-26 level 5: 7 and 26 end their levels, but 20 begins level 5. One is a slip, and
    # two layers of level 5 would say much the same; so this takes the end of each level that the paper names, which
    # is block 19 for 20. To the letter: --layers features.2,features.5.0,features.5.
    "efficientnet_b5": Row(
        partial(_torchvision, "efficientnet_b5"),
        ("features.2", "features.4", "features.5"),
        _TORCHVISION,
        "EfficientNet_B5_Weights.IMAGENET1K_V1",
    ),
    # These two as the ResNets: what there is just before the stride changes from 4, from 8 and from 16.
    "efficientnet_b0": Row(
        partial(_torchvision, "efficientnet_b0"),
        ("features.2", "features.3", "features.5"),
        _TORCHVISION,
        "EfficientNet_B0_Weights.IMAGENET1K_V1",
    ),
    "mobilenet_v3_large": Row(
        partial(_torchvision, "mobilenet_v3_large"),
        ("features.3", "features.6", "features.12"),
        _TORCHVISION,
        "MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    ),
}


def default_dims(name: str) -> int:
    """Embedding dimensions of the backbone `name` unless asked for others; its layers may have fewer channels.

    Raises:
        PadimEdgeError: Unknown backbone.
    """
    if name not in BACKBONES:
        _check_known(name)
        return Row.dims
    return BACKBONES[name].dims


def _check_known(name: str) -> None:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise PadimEdgeError(
            f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}, or any classification model of "
            "torchvision with --layers"
        )


def _row(name: str, layers: Sequence[str] | None, weights: str) -> Row:
    if name in BACKBONES:
        row = BACKBONES[name]
        return row if layers is None else replace(row, layers=tuple(layers))
    _check_known(name)
    if layers is None:
        usual = ",".join(_usual_layers(_torchvision(name).eval()))
        raise PadimEdgeError(
            f"{name} is not one of {', '.join(BACKBONES)}, so say which layers to use"
            + (f", such as --layers {usual} (its last ones at strides of 4, 8 and 16)" if usual else " with --layers")
        )
    from torchvision import models

    known = models.get_model_weights(name)
    entry = known.__members__.get("IMAGENET1K_V1", known.DEFAULT)
    row = Row(partial(_torchvision, name), tuple(layers), entry.meta.get("license", _TORCHVISION), str(entry))
    if weights != "auto":
        return row
    transforms = entry.transforms()
    return replace(row, mean=tuple(transforms.mean), std=tuple(transforms.std))


def channels_of(name: str, layers: Sequence[str] | None = None) -> dict[str, int]:
    """Return the channels of each layer of a backbone, finest layer first, without its weights.

    Args:
        name: As in `load_trunk`.
        layers: As in `load_trunk`.

    Raises:
        PadimEdgeError: The backbone or a layer is unknown, or a layer gives no feature map.
    """
    import torch

    row = _row(name, layers, "auto")
    with torch.random.fork_rng(devices=[]):
        return _cut(name, row.build().eval(), row)[1]


def load_trunk(name: str, weights: str = "auto", layers: Sequence[str] | None = None) -> Trunk:
    """Load the backbone `name` and cut it behind its last used layer.

    Args:
        name: A key of `BACKBONES`, or with `layers` any classification model of torchvision.
        weights: `auto` (torchvision's cache or download; the package's own for `builtin`), or the path of a
            `.safetensors` or `.pth` state dict with torchvision's names, for pixels normalised as ImageNet's. Layers
            beyond the cut may be missing.
        layers: Modules whose outputs are the features, in place of the row's; each must give `(N, C, h, w)`. They are
            brought into order, finest first.

    Raises:
        PadimEdgeError: Unknown backbone or layer; layers that give something else, or the same; weights that are
            unreachable, unreadable, not finite, or do not fit.
    """
    import torch

    row = _row(name, layers, weights)
    with torch.random.fork_rng(devices=[]):  # building draws random weights; leave the caller's generator alone
        network = row.build().eval()
    trunk, channels = _cut(name, network, row)
    state, origin = _read_state(name, row, weights)
    state = {_OLD_NAME.sub(r"\1", key): value for key, value in state.items()}
    _load_checked(trunk, network, state, origin)
    description = Backbone(
        channels=tuple(channels.values()),
        weights=origin,
        weights_digest=_digest(trunk.state_dict()),
        licence=row.licence if weights == "auto" else "as stated by the source of the weights file",
    )
    return Trunk(trunk, row.mean, row.std, tuple(channels), description)


def _cut(name: str, network: nn.Module, row: Row) -> tuple[nn.Module, dict[str, int]]:
    """The network up to the last of the row's layers, and the channels of each layer, finest first."""
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
    # torchvision takes a module for the last of its nodes, too, but mixes up a module and the last one inside it.
    last = {part: node for node in nodes for part in _with_parents(node)}
    ends: dict[str, str] = {}
    for layer in row.layers:
        if layer not in last:
            near = difflib.get_close_matches(layer, last) or _usual_layers(network)
            near = near or [child for child, _ in network.named_children()]
            raise PadimEdgeError(f"{name} has no layer {layer!r}; choose another one, such as {', '.join(near)}")
        if last[layer] in ends:
            raise PadimEdgeError(
                f"the layers {ends[last[layer]]} and {layer} of {name} are the same; name each of --layers once"
            )
        ends[last[layer]] = layer
    if not ends:
        raise PadimEdgeError(f"no layer of {name} is named; give --layers such as {','.join(_usual_layers(network))}")
    trunk = create_feature_extractor(network, ends, suppress_diff_warning=True).eval()
    small, large = (_shapes(name, trunk, side) for side in _PROBES)
    for layer in row.layers:
        a, b = small[layer], large[layer]
        if not (len(a) == 4 and a[1] == b[1] and all(a[i] < b[i] <= _PROBES[1] for i in (2, 3))):
            raise PadimEdgeError(
                f"layer {layer} of {name} gives {a} for an image of {_PROBES[0]} x {_PROBES[0]} pixels and {b} for "
                f"{_PROBES[1]} x {_PROBES[1]}, expected (images, channels, height, width); choose another one"
            )
    ordered = sorted(row.layers, key=lambda layer: -math.prod(small[layer][2:]))
    # In that order, and copied, since what follows may change a layer's output in place (as ReLU does).
    output = next(node for node in trunk.graph.nodes if node.op == "output")
    features = {}
    for layer in ordered:
        with trunk.graph.inserting_after(output.args[0][layer]):
            features[layer] = trunk.graph.call_function(torch.clone, (output.args[0][layer],))
    output.args = (features,)
    trunk.recompile()
    return trunk, {layer: small[layer][1] for layer in ordered}


def _with_parents(node: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = node.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _shapes(name: str, trunk: nn.Module, side: int) -> dict[str, tuple[int, ...]]:
    """Of each feature, for one square image; `()` for what is no tensor."""
    import torch

    try:
        with torch.inference_mode():
            features = trunk.forward(torch.zeros(1, 3, side, side))  # called, fx prints a traceback of its own
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise PadimEdgeError(
            f"{name} cannot take an image of {side} x {side} pixels; choose a network for images of any size, such "
            "as resnet18"
        ) from error
    return {k: tuple(map(int, v.shape)) if isinstance(v, torch.Tensor) else () for k, v in features.items()}


def _usual_layers(network: nn.Module) -> list[str]:
    """The last module at a stride of 4, of 8 and of 16, as in the table; those that there are."""
    import torch

    sides = (128, 160)
    found: dict[tuple[int, int], str] = {}

    def watch(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            strides = {round(math.log2(a / b)) for a, b in zip(sides, output.shape[2:], strict=True)}
            if len(strides) == 1:
                found[strides.pop(), name.count(".")] = name

    hooks = [
        module.register_forward_hook(partial(watch, name))
        for name, module in network.named_modules()
        if name and name.count(".") < 2
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, *sides))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
        return []  # it takes one size only
    finally:
        for hook in hooks:
            hook.remove()
    usual = (found.get((stride, 0), found.get((stride, 1))) for stride in (2, 3, 4))
    return [name for name in usual if name]


def _read_state(name: str, row: Row, weights: str) -> tuple[State, str]:
    """The state dict, and its origin in words without any path of this machine."""
    if weights != "auto":
        return _read_file(Path(weights)), f"file {Path(weights).name}"
    if row.torchvision_weights is None:
        return _read_file(BUILTIN_WEIGHTS), "builtin, taught by ResNet-18 on drawn images"
    import torchvision

    enum = torchvision.models.get_weight(row.torchvision_weights)
    try:
        state: State = enum.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PadimEdgeError(
            f"the weights {enum} of {name} are neither in torch's cache nor can they be downloaded ({error}); "
            "give a file with --weights FILE, put the download into torch's cache (TORCH_HOME), or use "
            "--backbone builtin"
        ) from error
    return state, f"torchvision {enum}"


def _read_file(path: Path) -> State:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise PadimEdgeError(f"there is no weights file {path}; give a .safetensors or .pth state dict")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch remarks on odd files before it refuses them; our sentence follows
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, _unpickling_error()) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PadimEdgeError(
            f"{path} is not a readable weights file ({reason[:120]}); expected a .safetensors or .pth state dict"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise PadimEdgeError(f"{path} holds {type(state).__name__}, expected a state dict of tensors")
    return state


def _unpickling_error() -> type[Exception]:
    import pickle  # named only for the error that torch's own restricted reader raises

    return pickle.UnpicklingError


def _load_checked(trunk: nn.Module, network: nn.Module, state: State, origin: str) -> None:
    """Load `state` into `trunk`; every key must fit, except those of layers beyond the cut."""
    import torch

    def counted(keys: list[str]) -> str:
        return f"{', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"

    expected = {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}
    beyond = network.state_dict().keys() - expected.keys()
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys() - beyond)
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    found = [f"{counted(keys)} {what}" for keys, what in ((missing, "missing"), (extra, "unknown")) if keys]
    if wrong:
        found.append(f"wrong shapes: {counted(wrong)}")
    if found:
        raise PadimEdgeError(
            f"the weights ({origin}) do not fit the backbone: {'; '.join(found)}; give the weights of this architecture"
        )
    bad = sorted(key for key in expected if not torch.isfinite(state[key]).all())
    if bad:
        raise PadimEdgeError(f"the weights ({origin}) are not finite in {counted(bad)}; get an undamaged file")
    trunk.load_state_dict({key: state[key].to(torch.float32) for key in expected}, strict=False)


def _digest(state: State) -> str:
    """SHA-256 over names and float32 values, the same whatever file they came from."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(state[key].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
