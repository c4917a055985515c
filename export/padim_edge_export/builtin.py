"""The built-in backbone: a small residual network for the quick start and for small devices."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import fusion

__all__ = ["BuiltinBackbone", "fold"]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, *, normalised: bool) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not normalised)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs)) if normalised else convolution


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, normalised: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, stride, normalised=normalised)
        self.conv2 = _convolution(outputs, outputs, 3, 1, normalised=normalised)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = _convolution(inputs, outputs, 1, stride, normalised=normalised)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute `(N, outputs, h / stride, w / stride)` from `(N, inputs, h, w)`."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class BuiltinBackbone(nn.Module):
    """Three stages at strides 4, 8 and 16, each followed by a 1x1 convolution to the teacher's channels.

    Args:
        stem: Number of channels of the first convolution.
        widths: Number of channels of each stage.
        blocks: Number of blocks of each stage, of two convolutions each.
        normalised: Whether there is batch normalisation, as in training; `fold` folds it into the shipped weights.
    """

    TEACHER = (64, 128, 256)
    """Number of channels of ResNet-18's stages."""

    def __init__(
        self,
        stem: int = 32,
        widths: tuple[int, int, int] = (48, 96, 192),
        blocks: tuple[int, int, int] = (1, 1, 1),
        *,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.design = (stem, widths, blocks)
        self.conv1 = _convolution(3, stem, 5, 2, normalised=normalised)
        stages, inputs = [], stem
        for width, count in zip(widths, blocks, strict=True):
            first = Block(inputs, width, 2, normalised=normalised)
            stages.append(
                nn.Sequential(first, *(Block(width, width, 1, normalised=normalised) for _ in range(count - 1)))
            )
            inputs = width
        self.layer1, self.layer2, self.layer3 = stages
        self.tap1, self.tap2, self.tap3 = (
            nn.Conv2d(width, channels, 1) for width, channels in zip(widths, self.TEACHER, strict=True)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute 64, 128 and 256 channels at a 4th, an 8th and a 16th of the sides of images `(N, 3, H, W)`."""
        fine = self.layer1(torch.relu(self.conv1(x)))
        middle = self.layer2(fine)
        return self.tap1(fine), self.tap2(middle), self.tap3(self.layer3(middle))


def fold(network: BuiltinBackbone) -> BuiltinBackbone:
    """Return the same function without batch normalisation, in evaluation mode."""
    plain = BuiltinBackbone(*network.design).eval()
    for name, module in plain.named_modules():
        if isinstance(module, nn.Conv2d):
            trained = network.get_submodule(name)
            if isinstance(trained, nn.Sequential):
                convolution, norm = trained
                assert isinstance(convolution, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                trained = fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
            module.load_state_dict(trained.state_dict())
    return plain
