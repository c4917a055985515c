"""Does a threshold for a named false-alarm rate hold on good images that were not in the fit?

The good images are split into random halves, many times: one half is fitted on and calibrated by the closed-form
leave-one-out, the other half is judged. Then, on a few images, the closed form is compared with real refits.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks import report

if TYPE_CHECKING:
    from padim_edge.presets import Preset
    from padim_edge_artifact import Statistics
    from padim_edge_export.backbones import Trunk

RATES = {0.01: (0.003, 0.02), 0.05: (0.03, 0.07), 0.1: (0.07, 0.13)}
"""Named false-alarm rate, and the range in which the mean found rate shall lie."""
CLOSED_FORM = 0.01
"""Largest relative difference of a patch distance between the closed form and a refit."""


@dataclass(frozen=True)
class Row:
    """One class at one rate, over all splits."""

    class_name: str
    fitted: int
    """Images in the fitted half."""
    rate: float
    mean: float
    """Share of the other half above the threshold."""
    spread: float
    """Standard deviation over the splits."""
    extrapolated: bool


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the root of MVTec AD")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--refits", type=int, default=5, help="images to compare with real refits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))

    from padim_edge.presets import PRESETS
    from padim_edge_export import backbones

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch", "pillow"), threads=None)
    report.print_header("calibration on good images alone", environment)
    trunk, preset = backbones.load(options.backbone, options.weights), PRESETS[options.preset]
    rows: list[Row] = []
    targets: list[report.Target] = []
    for class_name in options.classes:
        vectors, grid = embed(options.data, class_name, trunk, preset)
        worst = against_refits(vectors, grid, preset, options.refits)
        what = f"{class_name}, closed form against {options.refits} refits, largest relative difference"
        targets.append(report.Target(what, CLOSED_FORM, worst, at_most=True))
        rows += splits(class_name, vectors, grid, preset, options.splits)
    for row in rows:
        name = f"{row.class_name}, mean false-alarm rate at a target of {row.rate:g}"
        low, high = RATES[row.rate]
        targets += [report.Target(name, low, row.mean), report.Target(name, high, row.mean, at_most=True)]
    table = [
        (r.class_name, str(r.fitted), f"{r.rate:g}", f"{r.mean:.4f}", f"{r.spread:.4f}", str(r.extrapolated))
        for r in rows
    ]
    report.print_table(("class", "fitted", "target", "mean found", "spread", "extrapolated"), table)
    report.print_targets(targets)
    settings = {"preset": options.preset, "splits": options.splits, "weights": trunk.description.weights}
    results = [dataclasses.asdict(row) for row in rows]
    report.write_json(options.json, "calibration", environment, settings, results, targets)


def embed(data: Path, class_name: str, trunk: Trunk, preset: Preset) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """`(P, N, D)` embeddings of all good images, from the embedding graph through onnxruntime; and the grid."""
    from padim_edge import datasets
    from padim_edge_artifact import names
    from padim_edge_export import embedding
    from padim_edge_learn.accumulate import BATCH, batches
    from padim_edge_model.graph import joined
    from padim_edge_runtime import image_files
    from padim_edge_runtime.devices.providers import open_session

    graph = embedding.build(
        trunk,
        preset.preprocessing.size,
        kind=preset.reduction,
        dims=preset.dims,
        seed=0,
        pooling=preset.pooling,
        pool_patches=preset.pool_patches,
        shares=preset.shares,
    )
    session = open_session(joined(graph).SerializeToString(), "cpu").session
    good = datasets.from_folder(data, class_name).good
    frames = (image_files.prepare(item.read().image, preset.preprocessing) for item in good)
    parts = [
        session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0].reshape(len(batch), preset.dims, -1)
        for batch in batches(frames, BATCH)
    ]
    return np.ascontiguousarray(np.concatenate(parts).transpose(2, 0, 1)), graph.grid


def fit(vectors: npt.NDArray[np.float32], grid: tuple[int, int]) -> Statistics:
    """Statistics of embeddings `(P, N, D)`."""
    from padim_edge_artifact import Statistics
    from padim_edge_artifact.statistics import absorb

    _, count, dims = vectors.shape
    empty = Statistics.empty(grid, dims)
    absorb(empty.mean, empty.scatter, 0, vectors.transpose(1, 2, 0).reshape(count, dims, *grid))
    return dataclasses.replace(empty, count=count)


def distances(vectors: npt.NDArray[np.float32], statistics: Statistics, preset: Preset) -> npt.NDArray[np.float64]:
    """`(N, h, w)` distances of embeddings `(P, N, D)`."""
    from padim_edge_model.graph import Part
    from padim_edge_model.whitening import squared_distance, whiten

    form = whiten(statistics, preset.ridge, [Part("all", statistics.dims, statistics.grid)])
    return np.sqrt(squared_distance(form, vectors, statistics.grid)).T.reshape(-1, *statistics.grid)


def splits(
    class_name: str, vectors: npt.NDArray[np.float32], grid: tuple[int, int], preset: Preset, count: int
) -> list[Row]:
    """Fit and calibrate on one half, judge the other half, `count` times."""
    from padim_edge_artifact.calibration import calibrate
    from padim_edge_model.fused import map_matrices
    from padim_edge_model.leave_one_out import leave_one_out

    rows, columns = map_matrices(preset.preprocessing.size, grid, preset.sigma)
    generator = np.random.default_rng(0)
    images = vectors.shape[1]
    alarms: dict[float, list[float]] = {rate: [] for rate in RATES}
    for _ in range(count):
        order = generator.permutation(images)
        inside, outside = order[: images // 2], order[images // 2 :]
        distance = distances(vectors, fit(vectors[:, inside], grid), preset)
        left_out = (rows @ leave_one_out(distance[inside], len(inside)) @ columns.T).max(axis=(1, 2))
        unseen = (rows @ distance[outside] @ columns.T).max(axis=(1, 2))
        calibration = calibrate(left_out)
        for rate, found in alarms.items():
            found.append(float((unseen > calibration.threshold(rate)).mean()))
    fitted = images // 2
    return [
        Row(class_name, fitted, rate, float(np.mean(found)), float(np.std(found)), rate < 1 / (fitted + 1))
        for rate, found in alarms.items()
    ]


def against_refits(vectors: npt.NDArray[np.float32], grid: tuple[int, int], preset: Preset, count: int) -> float:
    """Largest relative difference of a patch distance, over `count` images each left out of a real refit."""
    from padim_edge_model.leave_one_out import leave_one_out

    images = vectors.shape[1]
    closed = leave_one_out(distances(vectors, fit(vectors, grid), preset), images)
    worst = 0.0
    for i in np.linspace(0, images - 1, count).astype(int):
        refit = distances(vectors[:, [i]], fit(np.delete(vectors, i, axis=1), grid), preset)[0]
        worst = max(worst, float(np.max(np.abs(closed[i] - refit) / refit)))
    return worst


if __name__ == "__main__":
    main()
