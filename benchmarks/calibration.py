"""Check whether thresholds for named false-alarm rates hold on good images that were not in the fit.

The good images are split into random halves, many times. One half is fitted on and calibrated by the closed-form
leave-one-out; the other half is judged. Then, on a few images, the closed form is compared with real refits.
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
    from collections.abc import Iterator

    from padim_edge_artifact import Statistics
    from padim_edge_artifact.method import Method

RATES = {0.01: (0.003, 0.02), 0.05: (0.03, 0.07), 0.1: (0.07, 0.13)}
"""Named false-alarm rates, and the range in which the mean rate that is found must lie."""

CLOSED_FORM = 0.01
"""Largest relative difference of a patch distance between the closed form and a refit."""


@dataclass(frozen=True)
class Row:
    """One class at one rate, over all splits."""

    class_name: str
    """Name of the class."""
    fitted: int
    """Number of images in the fitted half."""
    rate: float
    """Named false-alarm rate."""
    mean: float
    """Mean share of the other half above the threshold."""
    spread: float
    """Standard deviation of that share over the splits."""
    extrapolated: bool
    """Whether the rate is below what the scores of the fitted half resolve."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of all good images of one class."""

    vectors: npt.NDArray[np.float32]
    """`(P, N, D)` embeddings."""
    grid: tuple[int, int]
    """(h, w), rows and columns of patches."""
    method: Method
    """Method that they were made with."""

    def statistics(self, images: npt.NDArray[np.int64]) -> Statistics:
        """Fit some of the images, by number."""
        from threadpoolctl import threadpool_limits

        from padim_edge_artifact import Statistics
        from padim_edge_model.statistics import absorb
        from padim_edge_runtime.prefetch import cores

        chosen = self.vectors[:, images]
        _, count, dims = chosen.shape
        empty = Statistics.empty(self.grid, dims)
        with threadpool_limits(1, "blas"):  # as the fit does: BLAS threads would wait for each other at every patch
            absorb(
                empty.mean,
                empty.scatter,
                0,
                chosen.transpose(1, 2, 0).reshape(count, dims, *self.grid),
                workers=cores(),
            )
        return dataclasses.replace(empty, count=count)

    def distances(self, images: npt.NDArray[np.int64], statistics: Statistics) -> npt.NDArray[np.float32]:
        """Compute the `(n, h, w)` distances of some of the images, by number, to a fit, in the model's float32."""
        from padim_edge_model.graph import Part
        from padim_edge_model.whitening import squared_distance, whiten

        form = whiten(statistics, self.method.ridge, [Part("all", statistics.dims, self.grid)])
        squared = squared_distance(form, self.vectors[:, images], self.grid)
        return np.sqrt(squared).T.reshape(-1, *self.grid).astype(np.float32)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="root of MVTec AD")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--splits", type=int, default=50, help="random halves of the good images")
    parser.add_argument("--refits", type=int, default=5, help="images to compare with real refits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))

    from padim_edge.network import exported
    from padim_edge.presets import preset

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch", "pillow"), threads=None)
    report.print_header("calibration on good images alone", environment)
    method = preset(options.preset, backbone=options.backbone)
    rows: list[Row] = []
    targets: list[report.Target] = []
    for class_name in options.classes:
        embedded = embed(options.data, class_name, method, options.weights)
        worst = against_refits(embedded, options.refits)
        what = f"{class_name}, closed form against {options.refits} refits, largest relative difference"
        targets.append(report.Target(what, CLOSED_FORM, worst, at_most=True))
        rows += splits(class_name, embedded, options.splits)
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
    weights = exported(method, options.weights).description.weights
    settings = {"preset": options.preset, "splits": options.splits, "weights": weights}
    results = [dataclasses.asdict(row) for row in rows]
    report.write_json(options.json, "calibration", environment, settings, results, targets)


def embed(data: Path, class_name: str, method: Method, weights: str) -> Embedded:
    """Compute the embeddings of all good images, with the product's graph in onnxruntime."""
    from padim_edge import datasets
    from padim_edge.frames import readable_frames
    from padim_edge.network import exported
    from padim_edge_artifact import names
    from padim_edge_learn.accumulate import BATCH, batches
    from padim_edge_model.graph import joined
    from padim_edge_runtime.devices.providers import open_session

    graph = exported(method, weights).graph
    session = open_session(joined(graph).SerializeToString(), "cpu").session
    good = datasets.from_folder(data, class_name).good
    unreadable: dict[str, str] = {}

    def parts() -> Iterator[npt.NDArray[np.float32]]:
        for batch in batches(readable_frames(good, method.preprocessing, unreadable), BATCH):
            found = session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0]
            yield found.reshape(len(batch), graph.dims, -1)

    vectors = np.ascontiguousarray(np.concatenate(list(parts())).transpose(2, 0, 1))
    assert not unreadable
    return Embedded(vectors, graph.grid, method)


def splits(class_name: str, embedded: Embedded, count: int) -> list[Row]:
    """Fit and calibrate on one half, judge the other half, `count` times."""
    from padim_edge_model.calibration import calibrate, threshold
    from padim_edge_model.fused import map_stage
    from padim_edge_model.leave_one_out import leave_one_out

    method = embedded.method
    to_map = map_stage(method.preprocessing.size, embedded.grid, method.sigma)
    generator = np.random.default_rng(0)
    images = embedded.vectors.shape[1]
    alarms: dict[float, list[float]] = {rate: [] for rate in RATES}
    for _ in range(count):
        order = generator.permutation(images)
        inside, outside = order[: images // 2], order[images // 2 :]
        distance = embedded.distances(np.arange(images), embedded.statistics(inside))
        left_out = to_map(leave_one_out(distance[inside], len(inside))).max(axis=(1, 2))
        unseen = to_map(distance[outside]).max(axis=(1, 2))
        calibration = calibrate(left_out)
        for rate, found in alarms.items():
            found.append(float((unseen > threshold(calibration, rate)).mean()))
    fitted = images // 2
    return [
        Row(class_name, fitted, rate, float(np.mean(found)), float(np.std(found)), rate < 1 / (fitted + 1))
        for rate, found in alarms.items()
    ]


def against_refits(embedded: Embedded, count: int) -> float:
    """Return the largest relative difference of a patch distance, over `count` images each left out of a real refit."""
    from padim_edge_model.leave_one_out import leave_one_out

    images = np.arange(embedded.vectors.shape[1])
    closed = leave_one_out(embedded.distances(images, embedded.statistics(images)), len(images))
    worst = 0.0
    for i in np.linspace(0, len(images) - 1, count).astype(int):
        refit = embedded.distances(images[[i]], embedded.statistics(np.delete(images, i)))[0]
        worst = max(worst, float(np.max(np.abs(closed[i] - refit) / refit)))
    return worst


if __name__ == "__main__":
    main()
