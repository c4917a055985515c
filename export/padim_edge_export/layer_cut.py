"""Cutting a torch network behind the layers whose outputs are the features."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["cut", "usual_layers"]

_PROBES = (96, 160)
"""Sides in pixels of two images that show what the layers give: three and five cells at a stride of 32."""


def cut(name: str, network: nn.Module, layers: Sequence[str]) -> tuple[nn.Module, dict[str, int]]:
    """Cut a network behind the last of some layers.

    Args:
        name: Name of the network, for errors.
        network: Whole network in evaluation mode.
        layers: Modules whose outputs are the features, in any order.

    Returns:
        The network from a normalised image to `{layer: (N, C, h, w)}`, and the channels of each layer, finest first.

    Raises:
        PadimEdgeError: A layer is unknown, named twice, or gives no feature map; or there is none.
    """
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
    # torchvision also takes a module's name for its last node, but mixes up a module and the last one inside it.
    last = {part: node for node in nodes for part in _with_parents(node)}
    ends: dict[str, str] = {}
    for layer in layers:
        if layer not in last:
            near = difflib.get_close_matches(layer, last) or usual_layers(network)
            near = near or [child for child, _ in network.named_children()]
            raise PadimEdgeError(f"{name} has no layer {layer!r}; choose another one, such as {', '.join(near)}")
        if last[layer] in ends:
            raise PadimEdgeError(
                f"the layers {ends[last[layer]]} and {layer} of {name} are the same; name each of --layers once"
            )
        ends[last[layer]] = layer
    if not ends:
        raise PadimEdgeError(f"no layer of {name} is named; give --layers such as {','.join(usual_layers(network))}")
    trunk = create_feature_extractor(network, ends, suppress_diff_warning=True).eval()
    small, large = (_shapes(name, trunk, side) for side in _PROBES)
    for layer in layers:
        a, b = small[layer], large[layer]
        if not (len(a) == 4 and a[1] == b[1] and all(a[i] < b[i] <= _PROBES[1] for i in (2, 3))):
            raise PadimEdgeError(
                f"layer {layer} of {name} gives {a} for an image of {_PROBES[0]} x {_PROBES[0]} pixels and {b} for "
                f"{_PROBES[1]} x {_PROBES[1]}, expected (images, channels, height, width); choose another one"
            )
    ordered = sorted(layers, key=lambda layer: -math.prod(small[layer][2:]))
    # The outputs come in that order. They are copied, because later modules may change them in place (as ReLU does).
    output = next(node for node in trunk.graph.nodes if node.op == "output")
    features = {}
    for layer in ordered:
        with trunk.graph.inserting_after(output.args[0][layer]):
            features[layer] = trunk.graph.call_function(torch.clone, (output.args[0][layer],))
    output.args = (features,)
    trunk.recompile()
    return trunk, {layer: small[layer][1] for layer in ordered}


def usual_layers(network: nn.Module) -> list[str]:
    """List the last module at each of the strides 4, 8 and 16, where there is one."""
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
        return []  # it takes images of one size only
    finally:
        for hook in hooks:
            hook.remove()
    usual = (found.get((stride, 0), found.get((stride, 1))) for stride in (2, 3, 4))
    return [name for name in usual if name]


def _with_parents(node: str) -> list[str]:
    """List `a`, `a.b` and `a.b.c` for the node `a.b.c`."""
    parts = node.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _shapes(name: str, trunk: nn.Module, side: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each feature for one square image; `()` for an output that is no tensor."""
    import torch

    try:
        with torch.inference_mode():
            features = trunk.forward(torch.zeros(1, 3, side, side))  # `__call__` of fx prints a traceback of its own
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise PadimEdgeError(
            f"{name} cannot take an image of {side} x {side} pixels; choose a network for images of any size, such "
            "as resnet18"
        ) from error
    return {k: tuple(map(int, v.shape)) if isinstance(v, torch.Tensor) else () for k, v in features.items()}
