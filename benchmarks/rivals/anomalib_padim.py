"""Script that fits anomalib's PaDiM, exports it with anomalib's own functions and judges test images with it.

It runs in an environment of its own, which `benchmarks.rivals.isolated` makes, and imports nothing of ours. Standard
output gets one JSON object; whatever the libraries print goes to standard error.

anomalib's defaults are kept: nearest-neighbour upsampling, ridge, post-processing, free batch axis, fp32. We give the
frame's size, the weights, and the seed of the random dimensions. Lightning's trainer is left out, because here it
would only hand batches to `training_step` and then call `fit`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.models import Padim
from PIL import Image
from safetensors.torch import load_file

BATCH = 16

PACKAGES = ("anomalib", "torch", "torchvision", "timm", "openvino", "onnx", "onnxscript", "numpy", "pillow")


def main() -> None:
    """Parse the command line, fit, export, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--good", type=Path, metavar="DIR", required=True, help="frames to fit on, of one size")
    parser.add_argument("--test", type=Path, metavar="DIR", help="frames to judge, of the same size")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="torchvision's names; random unless given")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # onnxscript's optimizer and Lightning print; the result must stand alone.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(options)
    print(json.dumps(found))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, export and judge; return the answer of the script."""
    start = time.perf_counter()
    good = sorted(options.good.glob("*.png"))
    height, width = _read(good[0]).shape[:2]
    model = create((height, width), options.weights, options.features, options.seed)
    fit(model, good)
    fitted = time.perf_counter()
    onnx_file = model.to_onnx(options.output, input_size=(height, width))
    ir_file = model.to_openvino(options.output, input_size=(height, width))
    exported = time.perf_counter()
    if options.test:
        names = sorted(options.test.glob("*.png"))
        np.savez(options.output / "test.npz", names=[file.name for file in names], **judge(model, names))
    return {
        "versions": {package: version(package) for package in PACKAGES},
        "images": len(good),
        "onnx": _describe(onnx_file, (".onnx.data", ".data")),
        "openvino": _describe(ir_file, (".bin",)),
        "seconds": {"fit": round(fitted - start, 1), "export": round(exported - fitted, 1)},
        **_ports(onnx_file),
    }


def create(size: tuple[int, int], weights: Path | None, features: int, seed: int) -> Padim:
    """Make the model without a download: resnet18 with the weights of a file, or random ones.

    Args:
        size: (height, width) that its own preprocessing resizes to, which does nothing to frames of that size.
        weights: State dict with torchvision's names, which are timm's as well.
        features: Number of dimensions that it keeps of 448.
        seed: Random seed of their choice, and of random weights.
    """
    torch.manual_seed(seed)
    model = Padim(
        backbone="resnet18",
        layers=["layer1", "layer2", "layer3"],
        pre_trained=False,
        n_features=features,
        pre_processor=Padim.configure_pre_processor(size),
        evaluator=False,
        visualizer=False,
    )
    if weights is not None:
        backbone = model.model.feature_extractor.feature_extractor
        wanted = {key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")}
        state = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, weights_only=True)
        missing = wanted - state.keys()
        if missing:
            raise SystemExit(f"the weights {weights.name} lack {', '.join(sorted(missing)[:3])}")
        backbone.load_state_dict({key: state[key].float() for key in wanted}, strict=False)
    return model


def fit(model: Padim, good: Sequence[Path]) -> None:
    """Fit on good frames, and set the range of its post-processing to theirs.

    anomalib would take that range and a threshold from validation images; the exported nodes are the same, and here
    there are good images only.
    """
    model.train()
    for batch in _batches(good):
        assert model.pre_processor is not None
        model.training_step(ImageBatch(image=model.pre_processor.transform(batch)))
    model.fit()
    model.eval()
    scores, maps = judge(model, good).values()
    post = model.post_processor
    assert post is not None
    for name, value in (
        ("image_min", scores.min()),
        ("image_max", scores.max()),
        ("pixel_min", maps.min()),
        ("pixel_max", maps.max()),
        ("_image_threshold", scores.max()),
        ("_pixel_threshold", maps.max()),
    ):
        getattr(post, name).copy_(torch.tensor(float(value)))


@torch.inference_mode()
def judge(model: Padim, files: Sequence[Path]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Compute raw scores `(N,)` and maps `(N, H, W)`, without post-processing, which clamps and would cost accuracy."""
    found = []
    for batch in _batches(files):
        assert model.pre_processor is not None
        found.append(model.model(model.pre_processor.transform(batch)))
    return {
        "scores": torch.cat([each.pred_score for each in found]).flatten().numpy(),
        "maps": torch.cat([each.anomaly_map for each in found]).squeeze(1).numpy(),
    }


def _batches(files: Sequence[Path]) -> Iterator[torch.Tensor]:
    for start in range(0, len(files), BATCH):
        frames = np.stack([_read(file) for file in files[start : start + BATCH]])
        yield torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def _read(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _describe(file: Path, companions: tuple[str, ...]) -> dict[str, Any]:
    """Return the path relative to the output folder, and the bytes of the file and of its constants beside it."""
    beside = [file.with_suffix(ending) for ending in companions if file.with_suffix(ending).is_file()]
    return {
        "file": file.relative_to(file.parents[2]).as_posix(),
        "bytes": sum(each.stat().st_size for each in (file, *beside)),
    }


def _ports(file: Path) -> dict[str, Any]:
    import onnx

    graph = onnx.load(file, load_external_data=False).graph

    def port(value: onnx.ValueInfoProto) -> dict[str, Any]:
        kind = value.type.tensor_type
        shape = [each.dim_param or each.dim_value for each in kind.shape.dim]
        return {"name": value.name, "dtype": onnx.TensorProto.DataType.Name(kind.elem_type), "shape": shape}

    return {"input": port(graph.input[0]), "outputs": [port(value) for value in graph.output]}


if __name__ == "__main__":
    main()
