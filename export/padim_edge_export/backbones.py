"""The backbones, as rows of one table, and their weights."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Backbone

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

__all__ = ["BACKBONES", "BUILTIN_WEIGHTS", "Trunk", "default_dims", "load"]

BUILTIN_WEIGHTS = Path(__file__).with_name("builtin.safetensors")


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
    """Name of torchvision's weights for `auto`; `None` where they come with this package."""
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
    std: tuple[float, float, float]
    description: Backbone


def _resnet18() -> nn.Module:
    from torchvision.models import resnet18

    network: nn.Module = resnet18(weights=None)
    return network


def _wide_resnet50_2() -> nn.Module:
    from torchvision.models import wide_resnet50_2

    network: nn.Module = wide_resnet50_2(weights=None)
    return network


def _builtin() -> nn.Module:
    from padim_edge_export.builtin import BuiltinBackbone

    return BuiltinBackbone()


BACKBONES = {
    "resnet18": Row(_resnet18, ("layer1", "layer2", "layer3"), "BSD-3-Clause (torchvision)", "ResNet18_Weights"),
    "wide_resnet50_2": Row(
        _wide_resnet50_2,
        ("layer1", "layer2", "layer3"),
        "BSD-3-Clause (torchvision)",
        "Wide_ResNet50_2_Weights",
        dims=550,
    ),
    "builtin": Row(_builtin, ("tap1", "tap2", "tap3"), "Apache-2.0", None),
}


def default_dims(name: str) -> int:
    """Embedding dimensions of the backbone `name` unless asked for others.

    Raises:
        PadimEdgeError: Unknown backbone.
    """
    return _row(name).dims


def _row(name: str) -> Row:
    row = BACKBONES.get(name)
    if row is None:
        raise PadimEdgeError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    return row


def load(name: str, weights: str = "auto") -> Trunk:
    """The backbone `name`, cut and loaded.

    Args:
        name: A key of `BACKBONES`.
        weights: `auto` (torchvision's cache or download; the package's own for `builtin`), or the path of a
            `.safetensors` or `.pth` state dict with torchvision's names. Layers beyond the cut may be missing.

    Raises:
        PadimEdgeError: Unknown backbone; weights that are unreachable, unreadable, not finite, or do not fit.
    """
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor

    row = _row(name)
    state, origin = _read_state(name, row, weights)
    with torch.random.fork_rng(devices=[]):  # building draws random weights; leave the caller's generator alone
        network = row.build().eval()
    trunk = create_feature_extractor(network, return_nodes=list(row.layers)).eval()
    _load_checked(trunk, network, state, origin)
    with torch.inference_mode():
        features = trunk(torch.zeros(1, 3, 64, 64))
    description = Backbone(
        name=name,
        layers=row.layers,
        channels=tuple(int(features[layer].shape[1]) for layer in row.layers),
        weights=origin,
        weights_digest=_digest(trunk.state_dict()),
        licence=row.licence if weights == "auto" else "as stated by the source of the weights file",
    )
    return Trunk(trunk, row.mean, row.std, description)


def _read_state(name: str, row: Row, weights: str) -> tuple[State, str]:
    """The state dict, and its origin in words without any path of this machine."""
    if weights != "auto":
        return _read_file(Path(weights)), f"file {Path(weights).name}"
    if row.torchvision_weights is None:
        return _read_file(BUILTIN_WEIGHTS), "builtin, taught by ResNet-18 on drawn pictures"
    import torchvision

    enum = torchvision.models.get_model_weights(name).DEFAULT
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
