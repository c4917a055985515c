"""Makes the golden models of tests/runtime: `python tests/make_golden.py`. Needs the toolkit; the tests do not.

The tests judge images of tests/drawn_images.py with them, so fitting uses the same images.
"""

from __future__ import annotations

from pathlib import Path

import drawn_images
import torch
from torch import nn

from padim_edge.datasets import Dataset, from_images
from padim_edge.fitted import Fitted
from padim_edge.gather import gather
from padim_edge.network import Exported
from padim_edge.start import prepared
from padim_edge_artifact import Preprocessing
from padim_edge_artifact.metadata import Backbone
from padim_edge_artifact.method import Method
from padim_edge_export import embedding
from padim_edge_export.backbones import Trunk
from padim_edge_model import onnx_file

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


LAYERS = ("stage1", "stage2", "stage3")

WHOLE = Method(
    "golden",
    Preprocessing((64, 64)),
    "toy",
    LAYERS,
    "random",
    dims=8,
    seed=0,
    shares=None,
    pooling=3,
    pool_patches=False,
    ridge=0.003,
    sigma=4.0 * 64 / 224,
)
CROPPED = Method(
    "golden-cropped",
    Preprocessing((72, 80), (64, 48), "bilinear"),
    "toy",
    LAYERS,
    "semi-orthogonal",
    dims=8,
    seed=0,
    shares=None,
    pooling=1,
    pool_patches=False,
    ridge=0.01,
    sigma=4.0 * 48 / 224,
)


def trunk() -> Trunk:
    torch.manual_seed(7)
    description = Backbone(
        channels=CHANNELS,
        weights="fixed-seed initialisation, not trained",
        weights_digest="0" * 64,
        licence="Apache-2.0",
    )
    return Trunk(Toy().eval(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), LAYERS, description)


def dataset() -> Dataset:
    return from_images([drawn_images.good(i) for i in range(GOOD_IMAGES)], "disc")


def export(method: Method, path: Path) -> None:
    toy, good = trunk(), dataset()
    begun = prepared(good, method, Exported(toy.description, embedding.build(toy, method)))
    kept, unreadable = gather(begun, good.good)
    Fitted(kept, good, method, None, unreadable, 0.0).export(path, progress=False)


def main() -> None:
    export(WHOLE, FOLDER / "golden.onnx")
    onnx_file.EXTERNAL_ABOVE = 0  # so that even these few constants go to a data file
    export(CROPPED, FOLDER / "golden_data.onnx")
    for path in sorted(FOLDER.glob("golden*")):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
