"""Write the weights of the built-in backbone, with their origin inside the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from padim_edge_artifact.files import replacing
from padim_edge_export.builtin import BuiltinBackbone

__all__ = ["write"]

TEACHER = "ResNet-18, torchvision IMAGENET1K_V1 (BSD-3-Clause), its stages layer1 to layer3"


def write(network: BuiltinBackbone, path: Path, plan: dict[str, Any]) -> None:
    """Write a `.safetensors` file in float16. Its metadata says how it was made."""
    state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    assert all(torch.isfinite(value).all() for value in state.values())
    about = {
        "licence": "Apache-2.0",
        "teacher": TEACHER,
        "images": "drawn by tools/builtin/procedural.py; no photograph",
        "made_by": "tools/builtin/train.py",
        "plan": json.dumps(plan),
    }
    with replacing(path) as unfinished:
        save_file(state, unfinished, metadata=about)
    print(f"{path.name}: {sum(each.numel() for each in state.values())} parameters, {path.stat().st_size} bytes")
