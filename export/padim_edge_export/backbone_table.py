"""The backbones as rows of one table, and rows for other networks of torchvision.

Everything that depends on a network stands in its row. What follows (`embedding`, `rewrites`, `quantise`) knows
operators only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_export.layer_cut import usual_layers

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKBONES", "Row", "default_dims", "row_of"]

_TORCHVISION = "BSD-3-Clause (torchvision)"

_AS_TRAINED = {name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")}
"""Arguments of torchvision's builders that make the function which the weights were trained for.

These two networks want pixels in [-1, 1], and bring ImageNet's normalisation to that by themselves."""


@dataclass(frozen=True)
class Row:
    """One line of the table of backbones."""

    build: Callable[[], nn.Module]
    """Function that makes the whole network without weights."""
    layers: tuple[str, ...]
    """Modules whose outputs are the features, finest first."""
    licence: str
    """Licence of the weights that `auto` gives."""
    torchvision_weights: str | None
    """Name of torchvision's weights for `auto`; `None` where the weights come with this package."""
    dims: int = 100
    """Default number of embedding dimensions (PaDiM, section IV-B)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Numbers subtracted from pixels in [0, 1], by channel."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Numbers that the difference is divided by, by channel."""


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    with warnings.catch_warnings():  # it warns about initial values, which the weights will replace
        warnings.simplefilter("ignore")
        network: nn.Module = get_model(name, weights=None, **_AS_TRAINED.get(name, {}))
    return network


def _builtin() -> nn.Module:
    from padim_edge_export.builtin import BuiltinBackbone

    return BuiltinBackbone()


# Where torchvision has two sets of weights, the first is taken. PaDiM was published with it, and the longer training of
# the second made features that move more between nearly equal images (pytorch/vision issue 8382).
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
    # are level 2, 13-19 level 4, 20-26 level 5. So 7 and 26 end their levels, but 20 begins level 5. One number must be
    # a slip; this takes the end of each level that the paper names, which is block 19 instead of 20. The paper to the
    # letter is `--layers features.2,features.5.0,features.5`.
    "efficientnet_b5": Row(
        partial(_torchvision, "efficientnet_b5"),
        ("features.2", "features.4", "features.5"),
        _TORCHVISION,
        "EfficientNet_B5_Weights.IMAGENET1K_V1",
    ),
    # These two are cut like the ResNets: just before the stride changes from 4, from 8 and from 16.
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
    """Return the default number of embedding dimensions of a backbone; its layers may have fewer channels.

    Raises:
        PadimEdgeError: The backbone is unknown.
    """
    if name not in BACKBONES:
        _check_known(name)
        return Row.dims
    return BACKBONES[name].dims


def row_of(name: str, layers: Sequence[str] | None, weights: str) -> Row:
    """Return the row of a backbone, or make one for another network of torchvision.

    Args:
        name: A key of `BACKBONES`, or with `layers` any classification model of torchvision.
        layers: Modules whose outputs are the features, in place of the row's.
        weights: `auto` or a file. Torchvision's own weights bring their own normalisation of pixels.

    Raises:
        PadimEdgeError: The backbone is unknown, or it is not in the table and `layers` is missing.
    """
    if name in BACKBONES:
        row = BACKBONES[name]
        return row if layers is None else replace(row, layers=tuple(layers))
    _check_known(name)
    if layers is None:
        usual = ",".join(usual_layers(_torchvision(name).eval()))
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


def _check_known(name: str) -> None:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise PadimEdgeError(
            f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}, or any classification model of "
            "torchvision with --layers"
        )
