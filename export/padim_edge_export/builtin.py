"""A small residual backbone of our own, for the quick start and for small devices."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["BuiltinBackbone"]


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; no normalisation layers, so nothing has to be folded at export."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, inputs, h, w)` -> `(N, outputs, h / stride, w / stride)`."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class BuiltinBackbone(nn.Module):
    """Three stages at strides 4, 8 and 16 with 32, 64 and 128 channels; 0.31 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 5, 2, 2)
        self.layer1 = Block(24, 32, 2)
        self.layer2 = Block(32, 64, 2)
        self.layer3 = Block(64, 128, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised image `(N, 3, H, W)` -> `(N, 128, H / 16, W / 16)`."""
        x = torch.relu(self.conv1(x))
        deepest: torch.Tensor = self.layer3(self.layer2(self.layer1(x)))
        return deepest
