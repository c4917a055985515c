"""Checkpoints as anomalib 2.7 writes them for PaDiM, made without it, with drawn weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from small_models import weights_of
from torch.nn import functional
from torchvision.models import get_model
from torchvision.transforms.v2 import functional as transforms

__all__ = ["FRAME", "checkpoint", "network", "spec", "written"]

FRAME = (64, 64)
"""(H, W) of the frame in pixels."""

DIMS = 20
_LAYERS = ("layer1", "layer2", "layer3")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(name: str, **arguments: Any) -> dict[str, Any]:
    """Describe a step of the preprocessing."""
    return {"class_path": f"torchvision.transforms.v2.{name}", "init_args": arguments}


@cache
def network() -> torch.nn.Module:
    """Return resnet18 with drawn weights."""
    with torch.random.fork_rng(devices=[]):
        found: torch.nn.Module = get_model("resnet18", weights=None)
    found.load_state_dict(load_file(weights_of("resnet18")), strict=False)
    return found.eval()


def checkpoint(
    frames: np.ndarray, *, size: tuple[int, int] = FRAME, transform: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Fit frames `(N, H, W, 3)` as anomalib does, and return the content of its checkpoint."""
    resize = spec("Resize", size=list(size), interpolation="bilinear", max_size=None, antialias=True)
    transform = transform or spec(
        "Compose", transforms=[resize, spec("Normalize", mean=list(_MEAN), std=list(_STD), inplace=False)]
    )
    steps = transform["init_args"]["transforms"]
    normalise = steps[-1]["init_args"]
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    images = transforms.normalize(images, normalise["mean"], normalise["std"])
    features = []
    with torch.inference_mode():
        for name, module in network().named_children():
            images = module(images)
            if name in _LAYERS:
                features.append(images)
            if name == _LAYERS[-1]:
                break
        grid = features[0].shape[-2:]
        everything = torch.cat([functional.interpolate(each, size=grid, mode="nearest") for each in features], 1)
        chosen = torch.randperm(everything.shape[1], generator=torch.Generator().manual_seed(1))[:DIMS]
        vectors = everything[:, chosen].flatten(2)  # (N, D, P)
        mean = vectors.mean(0)
        away = vectors - mean
        covariance = torch.einsum("nip,njp->pij", away, away) / (len(frames) - 1) + 0.01001 * torch.eye(DIMS)
        inverse = torch.linalg.inv(covariance)
    offsets = torch.arange(-16, 17).float()
    line = torch.exp(-0.5 * (offsets / 4) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    state = {f"model.feature_extractor.feature_extractor.{key}": value for key, value in network().state_dict().items()}
    state = {key: value for key, value in state.items() if ".layer4." not in key and ".fc." not in key}
    return {
        "epoch": 0,
        "state_dict": {
            **state,
            "model.idx": chosen,
            "model.gaussian.mean": mean.clone(),
            "model.gaussian.inv_covariance": inverse.clone(),
            "model.anomaly_map_generator.blur.kernel": kernel[None, None],
            "post_processor._image_threshold": torch.tensor(6.0),
            "post_processor._pixel_threshold": torch.tensor(7.0),
            "post_processor.image_min": torch.tensor(2.0),
            "post_processor.image_max": torch.tensor(12.0),
        },
        "callbacks": {},
        "hyper_parameters": {"backbone": "resnet18", "layers": list(_LAYERS), "pre_trained": True, "n_features": DIMS},
        "anomalib_components_enabled": {"pre_processor": True, "post_processor": True},
        "anomalib_pre_processor_config": {"transform": transform},
        "anomalib_post_processor_config": {
            "enable_normalization": True,
            "enable_thresholding": True,
            "enable_threshold_matching": True,
            "image_sensitivity": 0.5,
            "pixel_sensitivity": 0.5,
        },
    }


def written(path: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint and return its path."""
    torch.save(content, path)
    return path
