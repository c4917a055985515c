"""Backbones for the benchmarks: with random weights where none are given, and bare, as the floor of all timings."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import nn

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_export import backbones
from padim_edge_export.backbones import Trunk
from padim_edge_model.graph import OPSET

__all__ = ["last_stage_only", "load", "stage_outputs"]


def load(name: str, weights: Path | None, folder: Path, *, seed: int = 0) -> Trunk:
    """The backbone `name`: from `weights`, else the package's own, else with torch's default initialisation.

    Time and memory do not depend on the values, as long as none is denormal.

    Args:
        name: A key of `backbones.BACKBONES`.
        weights: A state dict; backbones whose weights come with the package do not use it.
        folder: Where random weights are laid down, so that they come in by the same way as a user's.
        seed: Of the random weights.
    """
    row = backbones.BACKBONES.get(name)
    if row is None:
        raise PadimEdgeError(f"there is no backbone {name!r}; choose one of {', '.join(backbones.BACKBONES)}")
    if row.torchvision_weights is None:
        return backbones.load(name)
    if weights is not None:
        return backbones.load(name, str(weights))
    file = folder / f"{name}-random.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(row.build().state_dict(), file)
    return backbones.load(name, str(file))


class _Bare(nn.Module):
    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk.module
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(trunk.std).view(3, 1, 1) * 255))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = (image.float().permute(0, 3, 1, 2) - self.get_buffer("mean")) * self.get_buffer("scale")
        return tuple(self.trunk(x).values())


def stage_outputs(trunk: Trunk, size: tuple[int, int]) -> onnx.ModelProto:
    """The floor: uint8 image -> cast -> normalise -> backbone, cut after its last used stage; all stages come out.

    Exported with the options of `padim_edge_export.embedding`, so that onnxruntime meets the same nodes.
    """
    level = (logger := logging.getLogger("torch.onnx")).level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Bare(trunk).eval(),
                (torch.zeros(2, *size, 3, dtype=torch.uint8),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[names.IMAGE],
                output_names=list(trunk.description.layers),
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


def last_stage_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same, but the finer stages stay inside: what a classifier's trunk would do."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:-1]
    return cut
