"""An emulated ARM64 device with the runtime's wheel, and models for it, made where torch is."""

from __future__ import annotations

from pathlib import Path

import aarch64
import pytest
import small_models
from aarch64 import Emulator

from padim_edge.build import build
from padim_edge.presets import PRESETS
from padim_edge_model.precision import Precision

MODELS = {
    "edge-fp32": (PRESETS["edge"], 40, Precision()),
    "edge-int8": (PRESETS["edge"], 40, Precision("int8")),
    "small-fp32": (small_models.small("accurate"), 30, Precision()),
    "small-fp16": (small_models.small("accurate"), 30, Precision("fp16")),
    "small-int8": (small_models.small("accurate"), 30, Precision("int8")),
}
"""Preset, good images and numbers. Those of the usual size are of the usual preset, the small ones of the other."""


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The device; slow to get, and 30 MB to fetch."""
    folder = tmp_path_factory.mktemp("aarch64")
    home = folder / "home"
    home.mkdir()
    qemu, root = aarch64.debian(folder)
    return Emulator(qemu, root, aarch64.packages(folder), home)


@pytest.fixture(scope="session")
def models(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001  none without it
    """A folder with all `MODELS`, as `NAME.onnx`, and five images."""
    folder = tmp_path_factory.mktemp("models")
    trunk = small_models.trunk_of("builtin")
    for name, (preset, count, precision) in MODELS.items():
        images = small_models.dataset(small_models.weave(count))
        with small_models.export_once("builtin", preset):
            build(images, folder / f"{name}.onnx", preset, trunk, precision=precision)
    for i, image in enumerate(small_models.judged()):
        image.save(folder / f"{i}.png")
    return folder
