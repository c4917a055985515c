"""Networks of the rivals, and the linear maps that both papers' methods share.

Needs torch; only fitting imports this module, judging does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.networks import weights_for
from padim_edge_artifact import PadimEdgeError
from padim_edge_export.backbones import load_trunk
from padim_edge_model import grids

__all__ = ["Network", "bilinear", "load", "map_matrices", "stage_sizes"]

Float64 = npt.NDArray[np.float64]

_LAYERS = ("layer1", "layer2", "layer3")
_LAST = "layer4"


@dataclass(frozen=True, eq=False)
class Network:
    """A network with weights, whose stages are called `layer1` and so on."""

    name: str
    """Name of the network."""
    weights: str
    """Weights as `padim_edge_export.backbones.load_trunk` takes them."""
    layers: tuple[str, ...]
    """Stages that have weights, finest first."""
    notes: tuple[str, ...]
    """Limits of its features, in sentences."""

    def stages(self, layers: tuple[str, ...]) -> nn.Module:
        """Return the network from the normalised image to `{layer: (N, C, h, w)}`, cut behind the last layer."""
        return load_trunk(self.name, self.weights, layers).module


def load(name: str, weights: Path | None, folder: Path, *, seed: int = 0) -> Network:
    """Load a network by name.

    Args:
        name: Key of `padim_edge_export.backbones.BACKBONES` whose stages are called `layer1` to `layer3` or `layer4`.
        weights: State dict with torchvision's names; it may end behind layer3. Random weights are made without one.
        folder: Folder for random weights, which must stay until the method is fitted.
        seed: Random seed of these weights.

    Raises:
        PadimEdgeError: The network is unknown, or the weights do not fit it.
    """
    file = weights_for(name, weights, folder, seed=seed)
    random = file != "auto" and weights is None
    note = f"{name} has random weights (seed {seed}): time and memory only, accuracy means nothing"
    notes = (note,) if random else ()
    try:
        load_trunk(name, file, (*_LAYERS, _LAST))
    except PadimEdgeError:  # no layer4 in the network or in the file
        load_trunk(name, file, _LAYERS)
        return Network(name, file, _LAYERS, notes)
    return Network(name, file, (*_LAYERS, _LAST), notes)


def stage_sizes(stages: nn.Module, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return (C, h, w) of each output of `Network.stages` for images of `size` (H, W)."""
    with torch.inference_mode():
        found = stages(torch.zeros(1, 3, *size))
    return [(int(each.shape[1]), int(each.shape[2]), int(each.shape[3])) for each in found.values()]


def bilinear(outputs: int, inputs: int) -> Float64:
    """Return the matrix `(outputs, inputs)` of linear interpolation along one axis, edge replicated.

    The convention of PyTorch's and ONNX's linear resize without antialiasing: pixel centres are aligned.
    """
    position = ((np.arange(outputs) + 0.5) * inputs / outputs - 0.5).clip(0, inputs - 1)
    matrix: Float64 = np.maximum(1 - np.abs(np.subtract.outer(position, np.arange(inputs))), 0)
    return matrix


def map_matrices(size: tuple[int, int], grid: tuple[int, int]) -> tuple[npt.NDArray[np.float32], ...]:
    """Return `(H, h)` and `(W, w)`: bilinear upsampling, then a Gaussian; `map = rows @ distances @ columns.T`.

    Both papers smooth with a sigma of 4 at 224 pixels. It is scaled with the size, as in our presets.
    """
    sigma = 4 * min(size) / 224
    pairs = zip(size, grid, strict=True)
    return tuple((grids.gaussian(n, sigma) @ bilinear(n, cells)).astype(np.float32) for n, cells in pairs)
