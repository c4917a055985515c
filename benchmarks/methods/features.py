"""Networks, and what the rivals take from them, as ONNX graphs: the engine and its threads are then those of ours.

Needs torch; only fitting imports this module, judging does not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet18, wide_resnet50_2
from torchvision.models.feature_extraction import create_feature_extractor

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_export.backbones import BACKBONES, BUILTIN_WEIGHTS
from padim_edge_model import grids
from padim_edge_model.graph import IR_VERSION, OPSET

__all__ = ["NETWORKS", "Network", "Normalise", "bilinear", "export", "load", "map_matrices", "stage_sizes"]

Float64 = npt.NDArray[np.float64]

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet18(weights=None),
    "wide_resnet50_2": lambda: wide_resnet50_2(weights=None),
    "builtin": BACKBONES["builtin"].build,
}

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's ImageNet weights; `builtin` was taught with the same."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network with weights, in evaluation mode."""

    name: str
    """A key of `NETWORKS`."""
    module: nn.Module
    """Normalised image `(N, 3, H, W)` -> whatever; its stages are submodules `layer1` and so on."""
    layers: tuple[str, ...]
    """The stages that have weights, finest first."""
    notes: tuple[str, ...]
    """What its features are good for, in sentences."""

    def stages(self, layers: tuple[str, ...]) -> nn.Module:
        """Normalised image -> `{layer: (N, C, h, w)}`; what comes after the last of them is cut away."""
        cut: nn.Module = create_feature_extractor(self.module, return_nodes=list(layers)).eval()
        return cut


def load(name: str, weights: Path | None = None, *, seed: int = 0) -> Network:
    """A network by name.

    Without weights, torchvision's networks get random ones: the figures are then good for time and memory only, which
    do not depend on the values as long as these are finite and normal numbers. To keep them so, the batch
    normalisations take their statistics from one batch of noise; torchvision's own random features grow with every
    block.

    Args:
        name: A key of `NETWORKS`.
        weights: A state dict with torchvision's names, `.safetensors` or `.pth`; it may end after layer3. `builtin` has
            its own.
        seed: Of the random weights.

    Raises:
        PadimEdgeError: Unknown network, or weights that do not fit it.
    """
    if name not in NETWORKS:
        raise PadimEdgeError(f"there is no network {name!r}; choose one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = NETWORKS[name]().eval()
        if weights is None and name != "builtin":
            _settle(module)
            note = f"{name} has random weights (seed {seed}): time and memory only, accuracy means nothing"
            return Network(name, module, ("layer1", "layer2", "layer3", "layer4"), (note,))
    state = _read(BUILTIN_WEIGHTS if name == "builtin" or weights is None else weights)
    stages = tuple(layer for layer in ("layer1", "layer2", "layer3", "layer4") if any(_inside(state, layer)))
    wanted = {key for key in module.state_dict() if not key.startswith(("fc.", "layer4.")) and "num_batches" not in key}
    wanted |= {key for key in module.state_dict() if key.startswith(stages) and "num_batches" not in key}
    if missing := sorted(wanted - state.keys()):
        raise PadimEdgeError(f"the weights do not fit {name}: {missing[0]} and {len(missing) - 1} more are missing")
    module.load_state_dict({key: state[key].float() for key in wanted}, strict=False)
    return Network(name, module, stages, ())


def _inside(state: dict[str, torch.Tensor], layer: str) -> Iterator[str]:
    return (key for key in state if key.startswith(f"{layer}."))


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _settle(module: nn.Module) -> None:
    """Give every batch normalisation the statistics of its own inputs for one batch of noise."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for each in norms:
        each.momentum = 1.0  # the running statistics become those of the batch
    with torch.inference_mode():
        module.train()(torch.randn(4, 3, 64, 64))
    module.eval()
    for each in norms:
        each.momentum = 0.1


class Normalise(nn.Module):
    """Images `(N, H, W, 3)` uint8 -> `(N, 3, H, W)` as the networks take them: (x / 255 - mean) / std."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(_STD).view(3, 1, 1) * 255))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, 3, H, W)` float32."""
        return (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")


def stage_sizes(stages: nn.Module, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(C, h, w) of each output of `Network.stages` for images of `size` (H, W)."""
    with torch.inference_mode():
        found = stages(torch.zeros(1, 3, *size))
    return [(int(each.shape[1]), int(each.shape[2]), int(each.shape[3])) for each in found.values()]


def export(module: nn.Module, size: tuple[int, int], outputs: list[str]) -> onnx.ModelProto:
    """`image` `(N, H, W, 3)` uint8 -> `outputs`, N free; with the options of `padim_edge_export.embedding`."""
    level = (logger := logging.getLogger("torch.onnx")).level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(2, *size, 3, dtype=torch.uint8),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[names.IMAGE],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    return model


def bilinear(outputs: int, inputs: int) -> Float64:
    """`(outputs, inputs)`: linear interpolation along one axis, pixel centres aligned, edge replicated.

    The convention of PyTorch's and ONNX's linear resize without antialiasing.
    """
    position = ((np.arange(outputs) + 0.5) * inputs / outputs - 0.5).clip(0, inputs - 1)
    matrix: Float64 = np.maximum(1 - np.abs(np.subtract.outer(position, np.arange(inputs))), 0)
    return matrix


def map_matrices(size: tuple[int, int], grid: tuple[int, int]) -> tuple[npt.NDArray[np.float32], ...]:
    """`(H, h)` and `(W, w)` float32: bilinear upsampling, then a Gaussian of sigma 4; `map = rows @ d @ columns.T`.

    Both papers smooth with sigma 4 at 224 pixels. It is scaled with the size, as in our presets.
    """
    sigma = 4 * min(size) / 224
    pairs = zip(size, grid, strict=True)
    return tuple((grids.gaussian(n, sigma) @ bilinear(n, cells)).astype(np.float32) for n, cells in pairs)
