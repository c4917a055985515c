"""What does a wider or deeper built-in backbone cost and gain? Trains each design for a short while and judges it.

    uv run python -m tools.builtin.curve --teacher FILE --work DIR --output benchmarks/results/builtin_curve.svg

Accuracy: `tools.builtin.judge`, preset `edge`. Latency: of the fused graph, over ResNet-18's in the same run,
sessions opened one after the other in turns. All designs get the same number of steps, fewer than the one that ships,
so compare them with each other only.
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

from padim_edge import datasets
from padim_edge.build import build
from padim_edge.presets import PRESETS
from padim_edge_artifact import names
from padim_edge_export import backbones
from padim_edge_export.builtin import BuiltinBackbone
from padim_edge_model.precision import Precision
from padim_edge_runtime.devices.providers import open_session
from tools.builtin import card, judge, train

Design = tuple[int, tuple[int, int, int], tuple[int, int, int]]

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
    """One design."""

    name: str
    design: Design
    parameters: int
    steps: int
    latency: float
    """Of its fused graph over that of ResNet-18, both `edge` in fp32."""
    latency_int8: float
    """In int8, over ResNet-18's in fp32."""
    image_auroc: float
    """Mean over the held-out drawn classes."""
    pixel_auroc: float


def main() -> None:
    """Parse the command line, train, judge, draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.builtin.curve", description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoints; made where missing")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--design", default=",".join(DESIGNS), help="comma-separated")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.svg", help="a JSON file comes beside it")
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
            trunk = backbones.load("builtin", str(files[name]))
            image, pixel = judge.judge(trunk, "edge").mean(axis=0)
            count = sum(each.numel() for each in trunk.module.parameters())
        point = Point(name, design, count, options.steps, *ratios[name], float(image), float(pixel))
        points.append(point)
        print(point, flush=True)
    content = json.dumps([asdict(point) for point in points], indent=2)
    options.output.with_suffix(".json").write_text(content + "\n", encoding="utf-8")
    draw(points, options.output)


@contextmanager
def built_as(design: Design) -> Iterator[None]:
    """Let `builtin` stand for another design."""
    row = backbones.BACKBONES["builtin"]
    backbones.BACKBONES["builtin"] = dataclasses.replace(row, build=lambda: BuiltinBackbone(*design))
    try:
        yield
    finally:
        backbones.BACKBONES["builtin"] = row


def latencies(
    designs: dict[str, Design], files: dict[str, Path], teacher: Path, turns: int = 6, calls: int = 40
) -> dict[str, tuple[float, float]]:
    """fp32 and int8 of each design, over ResNet-18's fp32."""
    sample = datasets.from_sample("bottle", test=False)
    few = dataclasses.replace(sample, good=sample.good[:24])
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        models: dict[tuple[str, str], Path] = {}

        def make(name: str, trunk: backbones.Trunk, precision: str) -> None:
            models[name, precision] = Path(folder) / f"{name}-{precision}.onnx"
            build(few, models[name, precision], PRESETS["edge"], trunk, precision=Precision(precision))

        make("teacher", backbones.load("resnet18", str(teacher)), "fp32")
        for name, design in designs.items():
            with built_as(design):
                for precision in ("fp32", "int8"):
                    make(name, backbones.load("builtin", str(files[name])), precision)
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in models}
        for _ in range(turns):
            for key, path in models.items():
                session = open_session(path, "cpu", threads=2).session
                for i in range(15 + calls):
                    start = time.perf_counter()
                    session.run([names.SCORE], {names.IMAGE: frame})
                    if i >= 15:
                        seconds[key].append(time.perf_counter() - start)
                del session  # its threads would spin beside the next one's
    floor = float(np.median(seconds["teacher", "fp32"]))
    return {
        name: (float(np.median(seconds[name, "fp32"])) / floor, float(np.median(seconds[name, "int8"])) / floor)
        for name in designs
    }


def draw(points: list[Point], path: Path) -> None:
    """Accuracy against latency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, title in zip(axes, ("image_auroc", "pixel_auroc"), ("image AUROC", "pixel AUROC"), strict=True):
        for point in points:
            axis.plot(point.latency, getattr(point, key), "o", color="tab:blue")
            axis.annotate(point.name, (point.latency, getattr(point, key)), (5, 4), textcoords="offset points")
        axis.set_xlabel("latency over ResNet-18's, fused, fp32")
        axis.set_ylabel(f"{title}, held-out drawn classes")
        axis.margins(0.18)
        axis.grid(alpha=0.3)
    figure.suptitle(f"Designs of the built-in backbone after {points[0].steps} steps")
    figure.savefig(path)
    figure.savefig(path.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
