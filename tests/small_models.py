"""What tests of whole models share: presets on small frames, backbones without a weights file, drawn images."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet

from padim_edge import quantisation, sample
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.presets import PRESETS, Preset
from padim_edge_artifact import Preprocessing
from padim_edge_export import backbones, embedding
from padim_edge_export.quantise.rounding import Rounded
from padim_edge_export.rewrites import Graph
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.image_files import Decoded

__all__ = [
    "dataset",
    "export_anew",
    "export_once",
    "exported",
    "judged",
    "rounded_to_nearest",
    "small",
    "trunk_of",
    "weave",
]

_EXPORT = embedding.build


def small(name: str) -> Preset:
    """The same method on 64 x 64 pixels and 20 dimensions, for speed; a crop stays a crop."""
    preset = PRESETS[name]
    crop = None if preset.preprocessing.crop is None else (64, 64)
    side = 64 if crop is None else 72
    return dataclasses.replace(preset, preprocessing=Preprocessing((side, side), crop), dims=20)


@cache
def trunk_of(backbone: str) -> backbones.Trunk:
    """A backbone that needs no weights file: those of torchvision get drawn ones.

    Args:
        backbone: A name, or a name and layers as in `resnet34:layer1,layer2`.
    """
    name, _, named = backbone.partition(":")
    layers = tuple(named.split(",")) if named else None
    if name == "builtin":
        return backbones.load(name, layers=layers)
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        network = backbones._row(name, layers, "drawn").build()
        norms = {each: module for each, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
        state = network.state_dict()
        for key, value in state.items():  # fresh normalisations would do nothing, and leave no biases
            if key.rsplit(".", 1)[0] in norms:
                if key.endswith(("weight", "running_var")):
                    value.uniform_(0.5, 1.5)
                elif key.endswith(("bias", "running_mean")):
                    value.normal_(0, 0.2)
        if norms and not isinstance(network, ResNet):  # whose shortcuts bring the image to the end anyway
            _settle(network.eval(), norms.values())
        patch.setattr(backbones, "_read_state", lambda *_: (state, "random weights of a test"))
        return backbones.load(name, layers=layers)


def _settle(network: torch.nn.Module, norms: Iterable[torch.nn.BatchNorm2d]) -> None:
    """Let the normalisations measure what passes, as training does: else gates would shut, one behind the other.

    What passes is noise as coarse as the image and as fine as its pixels; of similar images they would learn to
    magnify the differences.
    """
    for norm in norms:
        norm.train()
        norm.momentum = None
        norm.reset_running_stats()
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 256, (side, side, 3), np.uint8) for side in (2, 4, 8, 16, 32, 64) for _ in range(4)]
    frames = np.stack([np.asarray(Image.fromarray(each).resize((80, 80))) for each in noise])
    with torch.inference_mode():
        network((torch.tensor(frames).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225)
    network.eval()


def export_anew(backbone: str, preset: Preset, seed: int = 3) -> EmbeddingGraph:
    """The embedding graph."""
    return _EXPORT(
        trunk_of(backbone),
        preset.preprocessing.size,
        kind=preset.reduction,
        dims=preset.dims,
        seed=seed,
        pooling=preset.pooling,
        pool_patches=preset.pool_patches,
        shares=preset.shares_of(len(trunk_of(backbone).description.layers)),
    )


_exported = cache(export_anew)


def exported(backbone: str, preset: Preset, seed: int = 3) -> EmbeddingGraph:
    """The same, the caller's own to change; torch exports it only once."""
    return copy.deepcopy(_exported(backbone, preset, seed))


@contextmanager
def export_once(backbone: str, preset: Preset) -> Iterator[None]:
    """`build` takes that graph instead of exporting it again, which takes longer than all the rest."""

    def build(trunk: backbones.Trunk, size: tuple[int, int], *, seed: int, **how: Any) -> EmbeddingGraph:
        assert trunk is trunk_of(backbone)
        assert (size, how["dims"], how["kind"]) == (preset.preprocessing.size, preset.dims, preset.reduction)
        return exported(backbone, preset, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "build", build)
        yield


@contextmanager
def rounded_to_nearest() -> Iterator[None]:
    """int8 weights are rounded one by one: other numbers in the same graph, and minutes saved on a wide network."""

    def nearest(graph: EmbeddingGraph, _: None, largest: int) -> dict[str, Rounded]:
        look, found = Graph(graph.model.graph), {}
        for node in graph.model.graph.node:
            if node.op_type == "Conv" and (weights := look.value(node.input[1])) is not None:
                scale = np.maximum(np.abs(weights).max(axis=(1, 2, 3)), 1e-12).astype(np.float64) / largest
                codes = np.rint(weights / scale[:, None, None, None]).astype(np.int8)
                found[node.name] = Rounded(codes, scale, np.zeros(len(scale)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantisation, "_moments", lambda *_: None)
        patch.setattr(quantisation, "round_weights", nearest)
        yield


@cache
def _good(index: int) -> np.ndarray:
    return sample.draw_good("weave", index, size=80)


def weave(count: int) -> list[Image.Image]:
    """Good images."""
    return [Image.fromarray(_good(i)) for i in range(count)]


@cache
def judged() -> list[Image.Image]:
    """Three good images and two with a hole, none of them in `weave`."""
    good = [Image.fromarray(sample.draw_good("weave", i, size=80, split="test")) for i in range(3)]
    return good + [Image.fromarray(sample.draw_defect("weave", "hole", i, size=80)[0]) for i in range(2)]


def dataset(images: list[Image.Image]) -> Dataset:
    """These as the good images of a class."""
    items = (Item(str(i), GOOD, lambda p=p: Decoded(p, ()), None) for i, p in enumerate(images))
    return Dataset("part", tuple(items), ())
