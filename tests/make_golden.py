"""Makes the golden models of tests/runtime: `python tests/make_golden.py`. Needs the toolkit; the tests do not.

The tests judge images of tests/images.py with them, so fitting uses the same images.
"""

from __future__ import annotations

from pathlib import Path

import images
import torch
from torch import nn

from padim_edge.build import build
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.presets import Preset
from padim_edge_artifact import Preprocessing
from padim_edge_artifact.metadata import Backbone
from padim_edge_export.backbones import Trunk
from padim_edge_model import onnx_file
from padim_edge_runtime.image_files import Decoded

FOLDER = Path(__file__).parent / "runtime"
GOOD_IMAGES = 24
CHANNELS = (6, 8, 8)


class Toy(nn.Module):
    """Three convolutions at strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Conv2d(3, CHANNELS[0], 5, 4, 2)
        self.stage2 = nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, 2, 1)
        self.stage3 = nn.Conv2d(CHANNELS[1], CHANNELS[2], 3, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = torch.relu(self.stage1(x))
        second = torch.relu(self.stage2(first))
        return {"stage1": first, "stage2": second, "stage3": torch.relu(self.stage3(second))}


def trunk() -> Trunk:
    torch.manual_seed(7)
    description = Backbone(
        name="toy",
        layers=("stage1", "stage2", "stage3"),
        channels=CHANNELS,
        weights="fixed-seed initialisation, not trained",
        weights_digest="0" * 64,
        licence="Apache-2.0",
    )
    return Trunk(Toy().eval(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), description)


def dataset() -> Dataset:
    parts = (images.good(i) for i in range(GOOD_IMAGES))
    items = (Item(f"good {i}", GOOD, lambda p=p: Decoded(p, ()), None) for i, p in enumerate(parts))
    return Dataset("disc", tuple(items), ())


def main() -> None:
    whole = Preset("golden", Preprocessing((64, 64)), "random", pooling=3, ridge=0.003, dims=8)
    build(dataset(), FOLDER / "golden.onnx", whole, trunk())
    cropped = Preset(
        "golden-cropped",
        Preprocessing((72, 80), (64, 48), "bilinear"),
        "semi-orthogonal",
        pooling=1,
        ridge=0.01,
        dims=8,
    )
    onnx_file.EXTERNAL_ABOVE = 0  # so that even these few constants go to a data file
    build(dataset(), FOLDER / "golden_data.onnx", cropped, trunk())
    for path in sorted(FOLDER.glob("golden*")):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
