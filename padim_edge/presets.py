"""Presets, and the one place where options become a `Method`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_artifact.preprocessing import COLORS, Levels, Preprocessing

__all__ = ["PRESETS", "Options", "parse_bytes", "preset"]

# Half of the dimensions come from the middle layer, and a quarter from each neighbour. Drawn from all layers together,
# most would come from the coarsest one, whose vectors are shared by many patches, and their number would depend on the
# seed. benchmarks/README.md has the figures.
_SHARES = (0.25, 0.5, 0.25)

# Nothing is cropped away, and pooling forgives small shifts of the part. Each layer is pooled over its own cells, so
# patches of one cell keep sharing a vector, which takes a third of the constants.
_EDGE = Method(
    "edge",
    Preprocessing(resize=(224, 224), interpolation="binned-bicubic", keep_aspect=True),
    "resnet18",
    ("layer1", "layer2", "layer3"),
    "random",
    dims=100,
    seed=0,
    shares=_SHARES,
    pooling=3,
    pool_patches=False,
    ridge=0.003,
    sigma=4.0,
)

# Prototypes take the place of positions, so parts may lie at any angle. All channels of the two finer layers are kept:
# fewer dimensions, or those of the third layer, find fewer defects. benchmarks/README.md has the figures.
_FREE = replace(
    _EDGE, preset="free", layers=("layer1", "layer2"), dims=192, shares=None, ridge=0.01, bank=Bank(), grid_layer=1
)

PRESETS = {
    # The published method (PaDiM, section IV-B).
    "paper": replace(
        _EDGE,
        preset="paper",
        preprocessing=Preprocessing(resize=(256, 256), crop=(224, 224)),
        shares=None,
        pooling=1,
        ridge=0.01,
    ),
    "edge": _EDGE,
    "accurate": replace(_EDGE, preset="accurate", reduction="semi-orthogonal", pool_patches=True),
    "free": _FREE,
    # Both kinds of distance on one network, for parts of which nobody knows how they lie. Half as many patches are
    # searched further as for a memory alone: the sum moves by .1 %, and the search takes a third less time.
    "auto": replace(
        _EDGE, preset="auto", beside=replace(_FREE, preset="auto", bank=Bank(searched=0.125, frequent=512))
    ),
    # Roth et al., arXiv 2106.08265, with 10 % of the patches and b = 9.
    "patchcore": replace(
        _FREE,
        preset="patchcore",
        layers=("layer2", "layer3"),
        dims=384,
        bank=Bank(prototypes=None, share=0.1, whitened=False, neighbours=9, searched=1.0),
        grid_layer=0,
        upsampling="bilinear",
    ),
}
"""Presets by name, with their usual backbone."""

_OF_MEMORY = ("prototypes", "turned")
"""Options that only the memory has where there are both kinds of distance."""
_OF_GAUSSIANS = ("layers", "reduction", "dims", "precision", "target")
"""Options that only the Gaussians have where there are both kinds. The memory keeps all channels of finer layers."""

_SIGMA_AT_224 = 4.0
_MOST_PROTOTYPES = 1_000_000
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Options(TypedDict, total=False):
    """Options of `preset`, all of which have defaults."""

    backbone: str | None
    """Name of a backbone of the table, or, with `layers`, of any classification model of torchvision."""
    layers: str | Sequence[str] | None
    """Modules whose outputs are the features, as a sequence or separated by commas."""
    reduction: str | None
    """One of `random`, `semi-orthogonal`, `pca`."""
    dims: int | None
    """Number of embedding dimensions."""
    seed: int
    """Random seed of the reduction."""
    size: int | str | None
    """Side or height x width in pixels that the whole frame is brought to, such as 256 or `256x512`; no crop then. By
    default, the good images tell the aspect, except for `paper`."""
    frame: str | None
    """Height x width of raw camera frames that the model resizes by itself, such as `1080x1920`."""
    levels: Levels | str | None
    """(lowest, highest) pixel value of images of more than 8 bits a channel, such as (0, 1023) or `0:1023` for 10 bits;
    by default, the good images tell."""
    color: str | None
    """`rgb` or `bgr`: order of the channels that the graph takes, such as BGR for servers that decode images so."""
    precision: str | Precision
    """`fp32`, `fp16` or `int8`; or a `Precision` with target and rank."""
    target: str
    """`cpu` or `tensorrt`."""
    prototypes: int | str | None
    """Number of prototypes of a memory, such as 4096, or share of the patches, such as `10%`."""
    turned: bool | None
    """Whether a memory also learns from each good image flipped and turned."""


def preset(name: str = "edge", **options: Unpack[Options]) -> Method:
    """Return the method of a preset, with other options where they are given.

    Options that are `None` or left out keep the preset's own value. The backbone's usual number of dimensions is taken
    unless `dims` is given. Layers of networks outside the table are looked up, which imports torch.

    Args:
        name: Key of `PRESETS`: `auto`, `edge`, `accurate`, `paper`, `free` or `patchcore`.
        **options: See `Options`.

    Raises:
        PadimEdgeError: The preset, an option or a value is unknown, or the backbone has no such layer.
    """
    if name not in PRESETS:
        raise PadimEdgeError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    _check_known(options)
    chosen: Options = {key: value for key, value in options.items() if value is not None}  # type: ignore[assignment]
    method = PRESETS[name]
    if method.beside is None:
        return _with_options(method, chosen)
    gaussians = _with_options(replace(method, beside=None), _without(chosen, _OF_MEMORY))
    shared = _without(chosen, _OF_GAUSSIANS)
    shared["layers"] = gaussians.layers[: len(method.beside.layers)]
    return replace(gaussians, beside=_with_options(method.beside, shared))


def _without(options: Options, names: Collection[str]) -> Options:
    return {key: value for key, value in options.items() if key not in names}  # type: ignore[return-value]


def _with_options(method: Method, chosen: Options) -> Method:
    """Return a method of one kind of distance with the chosen options."""
    method = _with_backbone(method, chosen)
    preprocessing = method.preprocessing
    if "size" in chosen:
        preprocessing = replace(preprocessing, resize=_parse_size(str(chosen["size"])), crop=None, keep_aspect=False)
    if "frame" in chosen:
        preprocessing = replace(preprocessing, camera=_parse_frame(str(chosen["frame"])))
    if "levels" in chosen:
        preprocessing = replace(preprocessing, levels=_parse_levels(chosen["levels"]))
    if "color" in chosen:
        preprocessing = replace(preprocessing, color=_parse_color(chosen["color"]))
    return replace(
        method,
        preprocessing=preprocessing,
        reduction=chosen.get("reduction") or method.reduction,
        seed=chosen.get("seed", method.seed),
        sigma=_SIGMA_AT_224 * math.sqrt(math.prod(preprocessing.size)) / 224,
        precision=_parse_precision(chosen),
        bank=_with_bank(method, chosen),
    )


def _check_known(options: Options) -> None:
    for name in options:
        if name not in Options.__annotations__:
            near = difflib.get_close_matches(name, Options.__annotations__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise PadimEdgeError(
                f"there is no option {name!r}, expected some of {', '.join(Options.__annotations__)}{hint}"
            )


def _with_backbone(method: Method, options: Options) -> Method:
    """Set backbone, layers, dimensions and shares, which depend on one another."""
    from padim_edge_export import backbones

    name = options.get("backbone") or method.backbone
    dims = options.get("dims")
    default = backbones.default_dims(name)
    asked = options.get("layers")
    if asked is None and name in backbones.BACKBONES:
        layers = backbones.BACKBONES[name].layers
        if method.bank is not None:
            layers = layers[:2] if method.grid_layer else layers[1:]  # the two finer ones, or PatchCore's
    else:
        channels = backbones.channels_of(name, None if asked is None else _names(asked))
        layers, default = tuple(channels), min(default, sum(channels.values()))
    if method.bank is not None and dims is None:
        default = sum(backbones.channels_of(name, layers).values())
    shares = method.shares
    if shares is not None and len(shares) != len(layers):
        shares = (1 / len(layers),) * len(layers)
    return replace(
        method,
        backbone=name,
        layers=layers,
        dims=default if dims is None else dims,
        shares=shares,
        grid_layer=min(method.grid_layer, len(layers) - 1),
    )


def _with_bank(method: Method, options: Options) -> Bank | None:
    """Set the options of the memory."""
    bank = method.bank
    for name in ("prototypes", "turned"):
        if bank is None and options.get(name):
            memories = " or ".join(key for key, each in PRESETS.items() if each.bank is not None)
            raise PadimEdgeError(
                f"--{name} is for a memory, and preset {method.preset} has Gaussians; choose --preset {memories}"
            )
    if bank is None:
        return None
    if "prototypes" in options:
        number, share = _parse_prototypes(str(options["prototypes"]))
        bank = replace(bank, prototypes=number, share=share)
    return replace(bank, turned=options.get("turned", bank.turned) or False)


def _parse_prototypes(text: str) -> tuple[int | None, float | None]:
    """Parse a number of prototypes such as `4096`, or a share of the patches such as `10%`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    if found and found[2] and 0 < float(found[1]) <= 100:
        return None, float(found[1]) / 100
    if found and not found[2] and "." not in found[1] and 1 <= int(found[1]) <= _MOST_PROTOTYPES:
        return int(found[1]), None
    raise PadimEdgeError(
        f"--prototypes is {text!r}, expected a number from 1 to {_MOST_PROTOTYPES} such as 4096, or a share of the "
        "patches such as 10%"
    )


def _names(layers: str | Sequence[str]) -> tuple[str, ...]:
    parts = layers.split(",") if isinstance(layers, str) else layers
    return tuple(part.strip() for part in parts if part.strip())


def _parse_precision(options: Options) -> Precision:
    precision: Any = options.get("precision", "fp32")
    if isinstance(precision, Precision):
        return replace(precision, target=options.get("target", precision.target))
    return Precision(precision, options.get("target", "cpu"))


def _parse_size(text: str) -> tuple[int, int]:
    """Parse (height, width) in pixels from `256` or `256x512`."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    height, width = (int(sides[1]), int(sides[2] or sides[1])) if sides else (0, 0)
    if min(height, width) < 32 or max(height, width) > 4096:
        raise PadimEdgeError(f"--size is {text!r}, expected 32 to 4096 pixels a side, as in 256 or 256x512")
    return height, width


def _parse_frame(text: str) -> tuple[int, int]:
    """Parse (height, width) in pixels from `1080x1920`."""
    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    height, width = (int(sides[1]), int(sides[2])) if sides else (0, 0)
    if min(height, width) < 8 or max(height, width) > 16384:
        raise PadimEdgeError(f"--frame is {text!r}, expected height x width in pixels, 8 to 16384, as in 1080x1920")
    return height, width


def _parse_color(color: Any) -> str:
    """Parse `rgb` or `bgr`, in any case."""
    if str(color).lower() not in COLORS:
        raise PadimEdgeError(f"--color is {color!r}, expected rgb, or bgr for servers that decode images to BGR")
    return str(color).lower()


def _parse_levels(levels: Any) -> Levels:
    """Parse (lowest, highest) from `0:1023`, or check such a pair."""
    try:
        lowest, highest = (float(each) for each in (levels.split(":") if isinstance(levels, str) else levels))
        return replace(Preprocessing((1, 1)), levels=(lowest, highest)).levels or (0.0, 1.0)
    except (PadimEdgeError, TypeError, ValueError):
        raise PadimEdgeError(
            f"--levels is {levels!r}, expected the lowest and the highest value of the camera, as in 0:1023 for 10 bits"
        ) from None


def parse_bytes(text: str) -> int:
    """Parse a size in bytes from `20MB`, `1.5 GiB` or `500000`.

    Raises:
        PadimEdgeError: The text is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?(?:i?[bB])?)\s*", text)
    unit = found[2].upper() if found else ""
    if found is None or unit not in _BYTES or float(found[1]) <= 0:
        raise PadimEdgeError(f"--budget is {text!r}, expected a size such as 20MB, 500kB or 1.5GB")
    return int(float(found[1]) * _BYTES[unit])
