"""Script that fits a PaDiM with anomalib's Engine, validates it, and judges images with it: its checkpoint and scores.

It runs in an environment of its own, which `benchmarks.rivals.isolated` makes, and imports nothing of ours. Standard
output gets one JSON object; whatever the libraries print goes to standard error.

Everything is anomalib's own: datamodule, preprocessing, Engine, threshold, checkpoint, exporter. We give the frame's
size, the weights, and the seed of the random dimensions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Folder
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import Padim
from safetensors.torch import load_file

NETWORK = "model.feature_extractor.feature_extractor."


def main() -> None:
    """Parse the command line, fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--good", type=Path, metavar="DIR", required=True, help="images to fit on")
    parser.add_argument("--good-test", type=Path, metavar="DIR", required=True, help="good images to validate with")
    parser.add_argument("--defects", type=Path, metavar="DIR", nargs="+", required=True, help="images with defects")
    parser.add_argument("--weights", type=Path, metavar="FILE", required=True, help="resnet18 with torchvision's names")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sensitivity", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(options)
    print(json.dumps(found))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, validate, save, export and judge; return the answer of the script."""
    start = time.perf_counter()
    torch.manual_seed(options.seed)
    model = Padim(
        pre_trained=False,
        n_features=options.features,
        pre_processor=Padim.configure_pre_processor(tuple(options.size)),
        evaluator=False,
        visualizer=False,
    )
    network = model.model.feature_extractor.feature_extractor
    state = load_file(options.weights)
    wanted = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    network.load_state_dict({key: state[key].float() for key in wanted}, strict=False)
    data = Folder(
        name="part",
        normal_dir=options.good,
        abnormal_dir=options.defects,
        normal_test_dir=options.good_test,
        train_batch_size=8,
        eval_batch_size=8,
        num_workers=0,
        val_split_mode="same_as_test",
    )
    assert model.post_processor is not None
    model.post_processor.image_sensitivity = options.sensitivity
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(default_root_dir=folder, accelerator="cpu", enable_progress_bar=False, barebones=False)
        engine.fit(model, datamodule=data)
        fitted = time.perf_counter()
        file = options.output / "model.ckpt"
        engine.trainer.save_checkpoint(file)
    loaded = Padim.load_from_checkpoint(file, pre_trained=False).eval()
    exported = loaded.to_onnx(options.output, input_size=None)
    images = sorted(each for folder in (options.good_test, *options.defects) for each in folder.iterdir())
    return {
        "versions": {name: version(name) for name in ("anomalib", "torch", "torchvision", "timm", "onnx")},
        "checkpoint": file.name,
        "onnx": str(exported.relative_to(options.output)),
        "threshold": float(loaded.post_processor.image_threshold),
        "range": [float(loaded.post_processor.image_min), float(loaded.post_processor.image_max)],
        "images": {f"{each.parent.name}/{each.name}": judge(loaded, each) for each in images},
        "seconds": round(fitted - start, 1),
    }


@torch.inference_mode()
def judge(model: Padim, file: Path) -> dict[str, Any]:
    """Compute raw score, normalised score and label of an image, with the transform of training and of the export."""
    image = read_image(file, as_tensor=True)[None]
    assert model.pre_processor is not None
    assert model.post_processor is not None
    trained = model.model(model.pre_processor.transform(image))
    label = model.post_processor(trained)
    exported = model.model(model.pre_processor(image))
    return {
        "score": float(trained.pred_score),
        "normalised": float(label.pred_score),
        "anomalous": bool(label.pred_label),
        "score_without_antialias": float(exported.pred_score),
    }


if __name__ == "__main__":
    main()
