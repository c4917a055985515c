"""Methods on small frames, backbones with drawn weights, drawn images: what tests of whole models share.

Everything goes through the product's own functions, which export each method only once per process.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import ResNet

from padim_edge import quantisation, sample
from padim_edge.datasets import Dataset, from_images
from padim_edge.fitted import ExportOptions, Fitted, fit_dataset
from padim_edge.model import Model
from padim_edge.network import exported as product_exported
from padim_edge.presets import preset as preset_of
from padim_edge_artifact import Preprocessing
from padim_edge_artifact.method import Method, Precision
from padim_edge_export import backbones
from padim_edge_export.quantise.rounding import Rounded
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor
from padim_edge_runtime.progress import SILENT

__all__ = [
    "dataset",
    "export_model",
    "exported",
    "fitted",
    "judged",
    "rounded_to_nearest",
    "small",
    "trunk_of",
    "weave",
    "weights_of",
]


@cache
def small(name: str, backbone: str = "builtin", *, seed: int = 3, precision: Precision | None = None) -> Method:
    """The same method on 64 x 64 pixels and 20 dimensions, for speed; a crop stays a crop.

    Args:
        name: A preset.
        backbone: A name, or a name and layers as in `resnet34:layer1,layer2`.
        seed: Random seed of the reduction.
        precision: Precision of the model.
    """
    network, _, layers = backbone.partition(":")
    method = preset_of(
        name, backbone=network, layers=layers or None, dims=20, seed=seed, precision=precision or Precision()
    )
    crop = None if method.preprocessing.crop is None else (64, 64)
    side = 64 if crop is None else 72
    frame = Preprocessing((side, side), crop, method.preprocessing.interpolation)
    return method.changed(preprocessing=frame, sigma=4.0 * 64 / 224)


@cache
def weights_of(backbone: str) -> str:
    """Weights that need no download: the built-in ones, or a file of drawn ones for a network of torchvision."""
    name, _, named = backbone.partition(":")
    if name == "builtin":
        return "auto"
    layers = tuple(named.split(",")) if named else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = backbones.row_of(name, layers, "drawn").build()
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
        path = _folder() / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return str(path)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="padim-edge-weights-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def trunk_of(backbone: str) -> backbones.Trunk:
    """The torch module of a backbone; `weights_of` says with which weights."""
    name, _, named = backbone.partition(":")
    return backbones.load_trunk(name, weights_of(backbone), tuple(named.split(",")) if named else None)


def exported(method: Method) -> EmbeddingGraph:
    """The embedding graph of a method in float32, the caller's own to change."""
    return copy.deepcopy(product_exported(method, weights_of(_named(method))).graph)


def fitted(good: Dataset, method: Method) -> Fitted:
    """The statistics of the good images."""
    return fit_dataset(good, method, weights=weights_of(_named(method)), feedback=SILENT)


def export_model(good: Dataset, path: Path, method: Method, **options: object) -> Model:
    """A model of the good images; `options` are those of `ExportOptions`."""
    return fitted(good, method).export_with(path, ExportOptions(**options), SILENT)  # type: ignore[arg-type]


def _named(method: Method) -> str:
    """Backbone and layers in one word, as `small` takes them."""
    usual = backbones.BACKBONES.get(method.backbone)
    if usual is not None and usual.layers == method.layers:
        return method.backbone
    return f"{method.backbone}:{','.join(method.layers)}"


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


@contextmanager
def rounded_to_nearest() -> Iterator[None]:
    """int8 weights are rounded one by one: other numbers in the same graph, and minutes saved on a wide network."""

    def nearest(graph: EmbeddingGraph, _: None, largest: int) -> dict[str, Rounded]:
        editor, found = GraphEditor(graph.model.graph), {}
        for node in editor.nodes:
            if node.op_type == "Conv" and (weights := editor.value(node.input[1])) is not None:
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
    """These images as the good ones of a class."""
    return from_images(images, "part")
