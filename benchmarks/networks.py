"""Networks of the benchmarks: weights, random where none are given, and the bare backbone, the floor of all times."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import nn

from padim_edge_artifact import PadimEdgeError
from padim_edge_export.backbones import BACKBONES, load_trunk
from padim_edge_export.torch_export import export_graph

__all__ = ["Normalise", "last_stage_only", "stage_outputs", "weights_for"]


def weights_for(name: str, given: Path | None, folder: Path, *, seed: int = 0) -> str:
    """Return the weights of a backbone in the form that `padim_edge.fit` takes.

    Where none are given, random ones are written. Their figures are good for time and memory only, which do not depend
    on the values as long as these are finite and normal numbers. To keep them so, the batch normalisations take their
    statistics from one batch of noise; otherwise random features would grow with every block.

    Args:
        name: Key of `padim_edge_export.backbones.BACKBONES`.
        given: File of weights; a backbone whose weights come with the package does not use it.
        folder: Folder for random weights.
        seed: Random seed of these weights.

    Raises:
        PadimEdgeError: The backbone is unknown.
    """
    row = BACKBONES.get(name)
    if row is None:
        raise PadimEdgeError(f"there is no network {name!r}; choose one of {', '.join(BACKBONES)}")
    if row.torchvision_weights is None:
        return "auto"
    if given is not None:
        return str(given)
    file = folder / f"{name}-random-{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = row.build().eval()
        _settle(module)
    save_file(module.state_dict(), file)
    return str(file)


def _settle(module: nn.Module) -> None:
    """Give every batch normalisation the statistics of its own inputs for one batch of noise."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for each in norms:
        each.momentum = 1.0  # the running statistics become those of the batch
    with torch.inference_mode():
        module.train()(torch.randn(4, 3, 64, 64))
    module.eval()


class Normalise(nn.Module):
    """Step from pixels to network input: `(N, H, W, 3)` uint8 -> `(N, 3, H, W)`, (x / 255 - mean) / std by channel."""

    def __init__(self, name: str = "resnet18") -> None:
        super().__init__()
        row = BACKBONES[name]
        self.register_buffer("mean", torch.tensor(row.mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(row.std).view(3, 1, 1) * 255))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise `(N, H, W, 3)` uint8 to `(N, 3, H, W)` float32."""
        return (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")


class _Bare(nn.Module):
    """A backbone between its pixels and its features, with nothing behind it."""

    def __init__(self, name: str, trunk: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(name)
        self.trunk = trunk

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the features of `(N, H, W, 3)` uint8, finest first."""
        return tuple(self.trunk(self.normalise(image)).values())


def stage_outputs(name: str, weights: str, size: tuple[int, int]) -> onnx.ModelProto:
    """Return the floor of all times: uint8 image -> normalised -> backbone up to its last used layer, all layers out.

    Args:
        name: Name of the backbone.
        weights: Weights as `weights_for` returns them.
        size: (H, W) of the image.
    """
    trunk = load_trunk(name, weights)
    return export_graph(_Bare(name, trunk.module), size, trunk.layers)


def last_stage_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same model without the outputs of the finer layers: what a classifier's trunk would compute."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:-1]
    return cut
