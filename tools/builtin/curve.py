"""Measure cost and gain of wider and deeper built-in backbones: train each design for a short while, and judge it.

    uv run python -m tools.builtin.curve --teacher FILE --work DIR --output benchmarks/results/builtin_curve.svg

Accuracy comes from `tools.builtin.judge`, preset `edge`. Latency is that of the fused graph divided by ResNet-18's in
the same run; the sessions are opened in turns, one at a time. All designs get the same number of steps, fewer than the
design that ships, so compare them only with each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import padim_edge
from padim_edge import datasets
from padim_edge_artifact import names
from padim_edge_export import backbones
from padim_edge_export.builtin import BuiltinBackbone
from padim_edge_runtime.devices.providers import open_session
from tools.builtin import card, judge, train

Design = tuple[int, tuple[int, int, int], tuple[int, int, int]]
"""Channels of the stem, channels of the three stages, residual blocks of the three stages."""

DESIGNS: dict[str, Design] = {
    "narrow": (16, (24, 48, 96), (2, 2, 2)),
    "shallow": (24, (32, 64, 128), (1, 1, 1)),
    "even": (24, (32, 64, 128), (2, 2, 2)),
    "deep": (24, (32, 64, 128), (2, 2, 3)),
    "wide": (32, (40, 80, 160), (2, 2, 2)),
    "flat": (24, (40, 80, 160), (1, 1, 1)),
    "flatter": (32, (48, 96, 192), (1, 1, 1)),
}


@dataclass(frozen=True)
class Point:
    """Figures of one design."""

    name: str
    """Key of `DESIGNS`."""
    design: Design
    """Its value in `DESIGNS`."""
    parameters: int
    """Number of parameters."""
    steps: int
    """Number of training steps."""
    latency: float
    """Time of its fused graph divided by that of ResNet-18, both `edge` in fp32."""
    latency_int8: float
    """Time of its fused graph in int8 divided by that of ResNet-18 in fp32."""
    image_auroc: float
    """Image AUROC, mean over the held-out drawn classes."""
    pixel_auroc: float
    """Pixel AUROC, mean over the held-out drawn classes."""


def main() -> None:
    """Parse the command line, train, judge, draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.builtin.curve", description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoints; made if it does not exist")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--design", default=",".join(DESIGNS), help="comma-separated")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.svg", help="figure; a JSON file is written beside it"
    )
    options = parser.parse_args()
    chosen = {name: DESIGNS[name] for name in options.design.split(",")}
    files = {}
    for name, design in chosen.items():
        work = options.work / f"{name}-{options.steps}"
        work.mkdir(parents=True, exist_ok=True)
        plan = train.Plan(options.steps, 32, 128, 2e-3, 0, *design)
        files[name] = work / "builtin.safetensors"
        if not files[name].is_file():
            card.write(train.train(plan, options.teacher, work, "cpu"), files[name], asdict(plan))
    ratios = latencies(chosen, files, options.teacher)
    points = []
    for name, design in chosen.items():
        with built_as(design):
            image, pixel = judge.judge("builtin", str(files[name]), "edge").mean(axis=0)
            module = backbones.load_trunk("builtin", str(files[name])).module
            count = sum(each.numel() for each in module.parameters())
        point = Point(name, design, count, options.steps, *ratios[name], float(image), float(pixel))
        points.append(point)
        print(point, flush=True)
    content = json.dumps([asdict(point) for point in points], indent=2)
    options.output.with_suffix(".json").write_text(content + "\n", encoding="utf-8")
    draw(points, options.output)


@contextmanager
def built_as(design: Design) -> Iterator[None]:
    """Replace the network behind `builtin` by another design."""
    row = backbones.BACKBONES["builtin"]
    backbones.BACKBONES["builtin"] = dataclasses.replace(row, build=lambda: BuiltinBackbone(*design))
    try:
        yield
    finally:
        backbones.BACKBONES["builtin"] = row


def latencies(
    designs: dict[str, Design], files: dict[str, Path], teacher: Path, turns: int = 6, calls: int = 40
) -> dict[str, tuple[float, float]]:
    """Return the times of each design in fp32 and int8, divided by that of ResNet-18 in fp32."""
    sample = datasets.from_sample("bottle")
    few = dataclasses.replace(sample, good=sample.good[:24])
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        models: dict[tuple[str, str], Path] = {}

        def make(name: str, backbone: str, weights: Path, precision: str) -> None:
            method = padim_edge.preset("edge", backbone=backbone, precision=precision)
            fitted = padim_edge.fit(few, method, weights=weights, progress=False)
            models[name, precision] = fitted.export(Path(folder) / f"{name}-{precision}.onnx", progress=False).path

        make("teacher", "resnet18", teacher, "fp32")
        for name, design in designs.items():
            with built_as(design):
                for precision in ("fp32", "int8"):
                    make(name, "builtin", files[name], precision)
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in models}
        for _ in range(turns):
            for key, path in models.items():
                session = open_session(path, "cpu", threads=2).session
                for i in range(15 + calls):
                    start = time.perf_counter()
                    session.run([names.SCORE], {names.IMAGE: frame})
                    if i >= 15:
                        seconds[key].append(time.perf_counter() - start)
                del session  # its threads would disturb the next session
    floor = float(np.median(seconds["teacher", "fp32"]))
    return {
        name: (float(np.median(seconds[name, "fp32"])) / floor, float(np.median(seconds[name, "int8"])) / floor)
        for name in designs
    }


def draw(points: list[Point], path: Path) -> None:
    """Draw accuracy against latency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, title in zip(axes, ("image_auroc", "pixel_auroc"), ("image AUROC", "pixel AUROC"), strict=True):
        for point in points:
            axis.plot(point.latency, getattr(point, key), "o", color="tab:blue")
            axis.annotate(point.name, (point.latency, getattr(point, key)), (5, 4), textcoords="offset points")
        axis.set_xlabel("time / time of ResNet-18 (fused, fp32)")
        axis.set_ylabel(f"{title}, held-out drawn classes")
        axis.margins(0.18)
        axis.grid(alpha=0.3)
    figure.suptitle(f"Designs of the built-in backbone after {points[0].steps} steps")
    figure.savefig(path)
    figure.savefig(path.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
