"""Weights of a backbone: read from a file, from torchvision or from this package, checked and digested."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_export.backbone_table import Row

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

__all__ = ["BUILTIN_WEIGHTS", "load_state", "read_state", "state_digest"]

BUILTIN_WEIGHTS = Path(__file__).with_name("builtin.safetensors")
"""File of the built-in backbone's weights."""

_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""Old names of DenseNet's layers in its weights files, such as `norm.1` for `norm1`."""


def read_state(name: str, row: Row, weights: str) -> tuple[State, str]:
    """Read a state dict; return it with its origin in words, without any path of this machine.

    Args:
        name: Name of the backbone, for errors.
        row: Row of the backbone.
        weights: `auto`, or the path of a `.safetensors` or `.pth` state dict.

    Raises:
        PadimEdgeError: The weights are unreachable or unreadable.
    """
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
        with warnings.catch_warnings():  # torch warns about odd files before it refuses them
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
    import pickle  # only for the error that torch's restricted reader raises

    return pickle.UnpicklingError


def load_state(trunk: nn.Module, network: nn.Module, state: State, origin: str) -> None:
    """Load a state dict into a cut network; every key must fit, except those of layers beyond the cut.

    Args:
        trunk: The cut network.
        network: The whole network.
        state: State dict with torchvision's names.
        origin: Origin of the weights in words, for errors.

    Raises:
        PadimEdgeError: Keys are missing, unknown or of another shape, or weights are not finite.
    """
    import torch

    def counted(keys: list[str]) -> str:
        return f"{', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"

    state = {_OLD_NAME.sub(r"\1", key): value for key, value in state.items()}
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


def state_digest(state: State) -> str:
    """Return SHA-256 over names and float32 values, which does not depend on the file that they came from."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(state[key].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
