"""An emulated ARM64 device with the runtime's wheel, and models for it, made where torch is."""

from __future__ import annotations

from pathlib import Path

import aarch64
import pytest
import small_models
from aarch64 import Emulator

from padim_edge.presets import preset
from padim_edge_artifact.method import Precision

MODELS = {
    "edge-fp32": (preset("edge", backbone="builtin"), 40),
    "edge-int8": (preset("edge", backbone="builtin", precision="int8"), 40),
    "small-fp32": (small_models.small("accurate"), 30),
    "small-fp16": (small_models.small("accurate", precision=Precision("fp16")), 30),
    "small-int8": (small_models.small("accurate", precision=Precision("int8")), 30),
}
"""Method and number of good images. Those of the usual size are of the usual preset, the small ones of the other."""


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
    for name, (method, count) in MODELS.items():
        good = small_models.dataset(small_models.weave(count))
        small_models.export_model(good, folder / f"{name}.onnx", method)
    for i, image in enumerate(small_models.judged()):
        image.save(folder / f"{i}.png")
    return folder
