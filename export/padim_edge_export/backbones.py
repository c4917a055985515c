"""Pretrained backbones, cut behind their last used layer and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from padim_edge_artifact.metadata import Backbone
from padim_edge_export.backbone_table import BACKBONES, default_dims, row_of
from padim_edge_export.layer_cut import cut
from padim_edge_export.weight_files import BUILTIN_WEIGHTS, load_state, read_state, state_digest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKBONES", "BUILTIN_WEIGHTS", "Trunk", "channels_of", "default_dims", "load_trunk", "row_of"]


@dataclass(frozen=True, eq=False)
class Trunk:
    """Backbone cut behind its last used layer, with weights, in evaluation mode."""

    module: nn.Module
    """Module from a normalised image `(N, 3, H, W)` to `{layer: (N, C, h, w)}`, finest layer first."""
    mean: tuple[float, float, float]
    """Numbers subtracted from pixels in [0, 1], by channel."""
    std: tuple[float, float, float]
    """Numbers that the difference is divided by, by channel."""
    layers: tuple[str, ...]
    """Modules whose outputs are the features, finest first."""
    description: Backbone
    """Provenance of the weights."""


def channels_of(name: str, layers: Sequence[str] | None = None) -> dict[str, int]:
    """Return the channels of each layer of a backbone, finest layer first, without its weights.

    Args:
        name: As in `load_trunk`.
        layers: As in `load_trunk`.

    Raises:
        PadimEdgeError: The backbone or a layer is unknown, or a layer gives no feature map.
    """
    return dict(_channels_of(name, None if layers is None else tuple(layers)))


@lru_cache
def _channels_of(name: str, layers: tuple[str, ...] | None) -> dict[str, int]:
    """Build the network, which takes half a second, once."""
    import torch

    row = row_of(name, layers, "auto")
    with torch.random.fork_rng(devices=[]):
        return cut(name, row.build().eval(), row.layers)[1]


def load_trunk(name: str, weights: str = "auto", layers: Sequence[str] | None = None) -> Trunk:
    """Load the backbone `name` and cut it behind its last used layer.

    Args:
        name: A key of `BACKBONES`, or with `layers` any classification model of torchvision.
        weights: `auto` (torchvision's cache or download; the package's own for `builtin`), or the path of a
            `.safetensors` or `.pth` state dict with torchvision's names, for pixels normalised as ImageNet's. Layers
            beyond the cut may be missing.
        layers: Modules whose outputs are the features, in place of the row's; each must give `(N, C, h, w)`. They are
            sorted, finest first.

    Raises:
        PadimEdgeError: The backbone or a layer is unknown, a layer gives no feature map or is named twice, or the
            weights are unreachable, unreadable, not finite, or do not fit.
    """
    import torch

    row = row_of(name, layers, weights)
    with torch.random.fork_rng(devices=[]):  # the network draws random weights
        network = row.build().eval()
    trunk, channels = cut(name, network, row.layers)
    state, origin = read_state(name, row, weights)
    load_state(trunk, network, state, origin)
    description = Backbone(
        channels=tuple(channels.values()),
        weights=origin,
        weights_digest=state_digest(trunk.state_dict()),
        licence=row.licence if weights == "auto" else "as stated by the source of the weights file",
    )
    return Trunk(trunk, row.mean, row.std, tuple(channels), description)
