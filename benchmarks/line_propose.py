"""Measure what a proposal from marked false alarms is worth: a lamp dimmed by 15 % on bottle.

A model is fitted on 109 of the 209 good images. The others are dimmed; a line judges 50 of them, with some dimmed
defects, and all are marked. The proposal is judged on the other 50, and on the test images, dimmed and as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import report
from padim_edge_line.arrival import Arrival
from padim_edge_line.config import LineConfig
from padim_edge_line.configuration import line_of
from padim_edge_line.learning.promote import promote
from padim_edge_line.learning.propose import propose
from padim_edge_line.line import Line
from padim_edge_runtime import Detector
from padim_edge_runtime.inspection import GOOD, Inspection
from padim_edge_runtime.pipeline import threads_for

__all__ = ["main"]

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = "weights/resnet18-imagenet1k-v1-trunk.safetensors"
HELD, MARKED, DEFECTS = 100, 50, 12
"""Good images that are not fitted on, those of them that are marked, and defects that are marked."""
DIMMED = 0.85
"""Share of the light that is left."""
FALL, LOSS = 0.5, 0.005
"""Share of the false alarms that must go, and the most AUROC that may be lost."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of one draw."""

    fitted: list[Path]
    """Good images to fit on."""
    marked: list[Path]
    """Dimmed good images that the line judges and a person marks."""
    later: list[Path]
    """Dimmed good images that nobody has seen."""
    defects: list[Path]
    """Dimmed defects that the line judges and a person marks."""
    tests: dict[str, tuple[list[Path], list[Path]]]
    """Good and defective test images, plain and dimmed."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_propose", description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, metavar="DIR", default=SHARED, help="folder with data/ and weights/")
    parser.add_argument("--draws", type=int, default=3, help="draws of the images that are held out and marked")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options = parser.parse_args()
    environment = report.probe(("padim-edge-runtime", "numpy", "onnxruntime", "pillow", "onnx"), threads=None)
    report.print_header("proposals from marked false alarms", environment)
    results = []
    for draw in range(options.draws):
        with tempfile.TemporaryDirectory() as folder:
            results.append({"draw": draw, **measured(drawn(options.shared, Path(folder), draw), options, Path(folder))})
        print(results[-1], flush=True)
    falls = [min(each["held_out"]["fall"], each["later"]["fall"]) for each in results]
    losses = [
        each["auroc"][kind]["before"] - each["auroc"][kind]["after"] for each in results for kind in each["auroc"]
    ]
    targets = [
        report.Target("share of the held-out false alarms that is gone", FALL, min(falls)),
        report.Target("image AUROC that is lost", LOSS, max(losses), at_most=True),
    ]
    report.print_targets(targets)
    settings = {"draws": options.draws, "marked": MARKED, "defects": DEFECTS, "dimmed": DIMMED}
    report.write_json(options.json, "line_propose", environment, settings, results, targets)


def drawn(shared: Path, folder: Path, seed: int) -> Images:
    """Choose the images of a draw, and write the dimmed ones."""
    source = shared / "data" / "mvtec_ad" / "bottle"
    good = sorted((source / "train" / "good").iterdir())
    order = [good[i] for i in np.random.default_rng(seed).permutation(len(good))]
    dim = dimmed(order[:HELD], folder / "held")
    fine = sorted((source / "test" / "good").iterdir())
    defects = sorted(path for path in (source / "test").rglob("*.*") if path.parent.name != "good" and path.is_file())
    dim_defects = dimmed(defects, folder / "defects")
    some = np.random.default_rng(seed).permutation(len(defects))[:DEFECTS]
    return Images(
        fitted=order[HELD:],
        marked=dim[:MARKED],
        later=dim[MARKED:],
        defects=[dim_defects[i] for i in some],
        tests={"plain": (fine, defects), "dimmed": (dimmed(fine, folder / "fine"), dim_defects)},
    )


def dimmed(images: Sequence[Path], folder: Path) -> list[Path]:
    """Write images with less light."""
    folder.mkdir()
    found = []
    for path in images:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        found.append(folder / f"{path.parent.name}-{path.stem}.png")
        Image.fromarray(np.rint(DIMMED * pixels).astype(np.uint8)).save(found[-1])
    return found


def measured(images: Images, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fit, let the line judge, mark, propose, and measure the old and the new model."""
    good = folder / "good"
    good.mkdir()
    for path in images.fitted:
        shutil.copy(path, good / path.name)
    model = folder / "bottle.onnx"
    command = ["export", "--class", "bottle", "--data", good, "--backbone", "resnet18", "--fast", "--output", model]
    command += ["--weights", options.shared / WEIGHTS, "--keep-statistics", model.with_suffix(".npz")]
    subprocess.run([sys.executable, "-m", "padim_edge", *map(str, command)], check=True, capture_output=True)
    config = line_of(
        {"folder": str(folder / "line"), "products": {"bottle": {"model": str(model)}}, "server": {"port": 0}}, folder
    )
    alarms = asyncio.run(_recorded(config, images))
    start = time.perf_counter()
    proposal = propose(config, config.products[0])
    seconds = time.perf_counter() - start
    promoted = promote(config, config.products[0])
    old, new = (Detector.load(path, "cpu", threads=threads_for(HELD)) for path in (model, promoted.model))
    before, after = (sum(each.verdict != GOOD for each in _judged(it, images.later)) for it in (old, new))
    report_of = proposal.to_json()
    return {
        "alarms": alarms,
        "threshold": {"before": proposal.before.threshold, "after": proposal.after.threshold},
        "held_out": report_of["held_out"],
        "later": {"images": len(images.later), "before": before, "after": after, "fall": 1 - after / max(before, 1)},
        "defects_passed": {"before": proposal.before.defects_passed, "after": proposal.after.defects_passed},
        "auroc": {
            kind: {"before": _auroc(old, *both), "after": _auroc(new, *both)} for kind, both in images.tests.items()
        },
        "called_good": {
            kind: {
                word: {"good": _called_good(it, fine), "defects": _called_good(it, defects)}
                for word, it in (("before", old), ("after", new))
            }
            for kind, (fine, defects) in images.tests.items()
        },
        "seconds": round(seconds, 1),
        "warnings": list(proposal.warnings),
    }


async def _recorded(config: LineConfig, images: Images) -> int:
    """Let the line judge the images and mark them; return the number of alarms on good ones."""
    line = Line(config)
    try:
        await line.loading.first()
        alarms = 0
        for path in (*images.marked, *images.defects):
            row = await line.judge(Arrival(source="files", name=path.name, image=path, product="bottle"))
            fine = path in images.marked
            alarms += fine and row.verdict != GOOD
            if row.verdict != GOOD:
                await line.mark(row.seq, "false alarm" if fine else "right", "benchmark")
            elif not fine:
                await line.mark(row.seq, "missed", "benchmark")
        return alarms
    finally:
        await line.close()


def _judged(detector: Detector, images: Sequence[Path]) -> list[Inspection]:
    return [each for each in detector.inspect_many(images) if isinstance(each, Inspection)]


def _called_good(detector: Detector, images: Sequence[Path]) -> str:
    found = _judged(detector, images)
    return f"{sum(each.verdict == GOOD for each in found)} of {len(found)}"


def _auroc(detector: Detector, good: Sequence[Path], defects: Sequence[Path]) -> float:
    fine, bad = (np.array([each.score for each in _judged(detector, images)]) for images in (good, defects))
    higher = (bad[:, None] > fine[None]).mean() + 0.5 * (bad[:, None] == fine[None]).mean()
    return round(float(higher), 4)


if __name__ == "__main__":
    main()
