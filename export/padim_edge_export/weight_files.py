"""Weights of a backbone: read from a file, from torchvision or from this package, checked and digested."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.schema import reason_of, shown
from padim_edge_export.backbone_table import Row

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

__all__ = ["BUILTIN_WEIGHTS", "load_state", "read_state", "state_digest"]

BUILTIN_WEIGHTS = Path(__file__).with_name("builtin.safetensors")
"""File of the built-in backbone's weights."""

_MOST_BYTES = 4 << 30
"""Largest size of a weights file in bytes; torchvision's largest has 2.5 GB."""

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
    """Read a weights file, which may come from anywhere: tensors come out of it, and no code runs."""
    if not os.path.isfile(path):  # noqa: PTH113  # and not Path.is_file, which raises for some names
        raise PadimEdgeError(f"there is no weights file {path}; give a .safetensors or .pth state dict")
    try:
        _refuse_large(path)
        state = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except PadimEdgeError:
        raise
    except Exception as error:  # whatever the readers of both formats raise for damage: a dozen kinds were seen
        # torch's own words about its pickles are a page long and propose to let their code run.
        reason = "it holds more than tensors" if type(error).__name__ == "UnpicklingError" else reason_of(error, 120)
        raise PadimEdgeError(
            f"{path} is not a readable weights file ({reason}); expected a .safetensors or .pth state dict"
        ) from error
    return _state_dict(path, state)


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _pickled(path: Path) -> Any:
    import torch

    _refuse_compressed(path)
    with warnings.catch_warnings():  # torch warns about odd files before it refuses them
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_large(path: Path) -> None:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise PadimEdgeError(
            f"{path} has {size} bytes, expected at most {_MOST_BYTES}; give the weights of one network"
        )


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is: torch stores tensors as they are."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    with zipfile.ZipFile(path) as archive:
        stored = all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
        total = sum(each.file_size for each in archive.infolist())
    if not stored or total > path.stat().st_size:
        raise PadimEdgeError(f"{path} is a compressed archive, expected a state dict as torch.save writes it")


def _state_dict(path: Path, state: Any) -> State:
    """Return a state dict of plain tensors, also out of a checkpoint that has one under `state_dict`."""
    import torch

    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise PadimEdgeError(f"{path} holds {type(state).__name__}, expected a state dict of tensors")
    return state


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
        told = (key if key.isprintable() and len(key) < 120 else shown(key) for key in keys[:3])
        return f"{', '.join(told)}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"

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
    odd = sorted(key for key in expected if not _plain(state[key]))
    if odd:
        raise PadimEdgeError(
            f"the weights ({origin}) are no plain floating-point numbers in {counted(odd)}; give a state dict in "
            "float32 or float16"
        )
    values = {key: state[key].to(torch.float32) for key in expected}  # beyond its range, a float64 becomes infinite
    bad = sorted(key for key, value in values.items() if not torch.isfinite(value).all())
    if bad:
        raise PadimEdgeError(f"the weights ({origin}) are not finite in {counted(bad)}; get an undamaged file")
    trunk.load_state_dict(values, strict=False)


def _plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds floating-point numbers, one after another, on the CPU."""
    import torch

    return (
        tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
    )


def state_digest(state: State) -> str:
    """Return SHA-256 over names and float32 values, which does not depend on the file that they came from."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(state[key].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
