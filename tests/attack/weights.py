"""Weights of a small network, for attacks on their files."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from padim_edge_export.backbone_table import row_of
from padim_edge_export.weight_files import load_state, read_state, state_digest

__all__ = ["base", "network", "read"]


def network() -> nn.Module:
    """A network of a few layers, with the names and kinds of those that are real."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


@cache
def base(suffix: str) -> bytes:
    """A whole file of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = network().state_dict()
    if suffix == ".safetensors":
        return bytes(save(state))
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def read(path: Path) -> str:
    """Read a file into the network, and return the digest of what it then holds."""
    with torch.random.fork_rng(devices=[]):
        trunk = network()
    state, origin = read_state("builtin", row_of("builtin", None, str(path)), str(path))
    load_state(trunk, trunk, state, origin)
    return state_digest(trunk.state_dict())
