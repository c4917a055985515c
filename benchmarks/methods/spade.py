"""SPADE: Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", arXiv 2005.02357.

Good images are kept as they are: the pooled feature of the whole image, and the features of every position of the
pyramid layer1..layer3. A new image is compared with its K = 50 nearest good ones by pooled feature (Euclidean, all
exact). Its score is the mean distance to them. The value of a position is the distance of its feature to the nearest
(kappa = 1) among all positions of those K images; the map is upsampled and smoothed with sigma 4.

The feature of a position is that of the finest stage, concatenated with those of the coarser stages' cells that it lies
in: nearest upsampling, as in our PaDiM. So squared distances are sums over the stages, and

    min over b of d1(a, b) + d2(a2, b2) + d3(a3, b3)
        = min over b3 of d3(a3, b3) + min over b2 in b3 of d2(a2, b2) + min over b in b2 of d1(a, b)

where b2 and b3 are the cells that b lies in. Every stage's distances are computed once, at that stage's own resolution,
and the minimum shrinks the grid by four before each sum. This is exact, and far less work than the product of the
concatenated vectors: 72 of 441 Gflop for ResNet-18 at 224. onnxruntime computes the products.

Bounds could skip most pairs of middle cells, exactly. That is not done: the time would depend on the image, and the
time with random weights would say nothing about real ones.

Choices: all distances are Euclidean and not squared, as in the known re-implementation; upsampling of the map is
bilinear; the pooled feature is that of the last stage with weights, which is layer4 as published only where the weights
have it (the notes say so where not).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.methods.parts import BATCH, Float32, Frame, Parts, write
from padim_edge_artifact import PadimEdgeError, names
from padim_edge_learn.accumulate import batches
from padim_edge_runtime.devices.providers import open_session

if TYPE_CHECKING:
    from benchmarks.methods.features import Network

__all__ = ["BLOCK_BYTES", "NEAREST", "Spade", "fit"]

NEAREST = 50
"""K, number of good images that an image is compared with; all of them where there are fewer. The paper's value."""

BLOCK_BYTES = 3_000_000
"""Bytes of distances that are held at a time; they stay in the caches. At least one coarsest cell is taken."""

PYRAMID = ["fine", "middle", "coarse", "norm", "pooled"]
"""Outputs of the network's graph in `benchmarks.methods.spade_graphs`."""


class Spade:
    """A fitted SPADE."""

    def __init__(self, parts: Parts, threads: int | None = None, *, block_bytes: int = BLOCK_BYTES) -> None:
        self.parts = parts
        self._network = open_session(parts.models["pyramid"], "cpu", threads=threads).session
        self._distances = open_session(parts.models["distances"], "cpu", threads=threads).session
        _, _, positions = parts.arrays["fine"].shape
        # One coarsest cell holds 16 positions of the finest grid.
        self._cells = max(1, block_bytes // (16 * positions * 4))

    @property
    def bytes(self) -> int:
        """Bytes of the bank, which grows with the good images, and of the network."""
        return self.parts.size

    @property
    def notes(self) -> tuple[str, ...]:
        """Departures from the paper, in sentences."""
        return self.parts.notes

    def __call__(self, frames: Frame) -> tuple[Float32, Float32]:
        """Judge `(N, H, W, 3)` uint8: scores `(N,)`, maps `(N, H, W)`."""
        bank = self.parts.arrays
        found = [self.compare(frame) for frame in frames]
        maps = [bank["rows"] @ distances @ bank["columns"].T for _, distances in found]
        return np.array([score for score, _ in found], np.float32), np.stack(maps)

    def compare(self, frame: Frame) -> tuple[float, Float32]:
        """Compute the score of `(H, W, 3)` uint8, and each position's distance `(h, w)` to the nearest good one."""
        outputs = self._network.run(PYRAMID, {names.IMAGE: frame[None]})
        fine, middle, coarse, norm, pooled = (each[0] for each in outputs)
        bank = self.parts.arrays
        distance = np.linalg.norm(bank["pooled"] - pooled, axis=1)
        count = min(NEAREST, len(distance))
        nearest = np.argpartition(distance, count - 1)[:count]
        least = np.full((len(coarse), 16), np.inf, np.float32)
        for image in nearest:
            good = {"bank_" + stage: bank[stage][image] for stage in ("fine", "middle", "coarse")}
            for first in range(0, len(coarse), self._cells):
                last = first + self._cells
                query = {
                    "fine": fine[16 * first : 16 * last],
                    "middle": middle[4 * first : 4 * last],
                    "coarse": coarse[first:last],
                }
                found = self._distances.run(None, query | good)[0]
                np.minimum(least[first:last], found, out=least[first:last])
        least += norm.reshape(least.shape)
        np.maximum(least, 0, out=least)  # rounding may have taken it below
        return float(distance[nearest].mean()), _in_rows(
            np.sqrt(least), bank["rows"].shape[1], bank["columns"].shape[1]
        )

    def save(self, folder: Path) -> None:
        """Write everything that `methods.load` needs."""
        write(self.parts, folder)


def _in_rows(values: Float32, h: int, w: int) -> Float32:
    """Bring `(cells, 16)`, by cells, cells in cells and positions in them, into rows `(h, w)`."""
    nested = values.reshape(h // 4, w // 4, 2, 2, 2, 2)
    return nested.transpose(0, 2, 4, 1, 3, 5).reshape(h, w)


def fit(
    frames: Iterable[Frame],
    network: Network,
    size: tuple[int, int],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Spade:
    """Keep the features of all good images.

    Args:
        frames: `(H, W, 3)` uint8 each.
        network: Network with layer1 to layer3 for the pyramid; its last stage is pooled.
        size: (H, W) of the frames.
        threads: Threads of onnxruntime, here and in the result.
        progress: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: There is no image, or the stages' grids at this size are not halves of each other.
    """
    from benchmarks.methods import spade_graphs
    from benchmarks.methods.features import map_matrices

    pyramid, grid = spade_graphs.pyramid(network, size)
    session = open_session(pyramid, "cpu", threads=threads).session
    kept: dict[str, list[Float32]] = {name: [] for name in ("fine", "middle", "coarse", "pooled")}
    for batch in batches(frames, BATCH):
        outputs = dict(zip(PYRAMID, session.run(PYRAMID, {names.IMAGE: np.stack(batch)}), strict=True))
        for name, bank in _columns(outputs).items():
            kept[name].append(bank)
        progress(len(batch))
    if not kept["fine"]:
        raise PadimEdgeError("there is no image to fit on; expected at least 1 good image")
    # One stage after the other, so that only one is held twice at a time.
    arrays = {name: np.concatenate(kept.pop(name)) for name in tuple(kept)}
    arrays["rows"], arrays["columns"] = map_matrices(size, grid)
    notes = list(network.notes)
    if network.layers[-1] != "layer4":
        notes.append(
            f"the pooled feature is that of {network.layers[-1]}: the weights have no layer4, which SPADE pools"
        )
    models = {"pyramid": pyramid, "distances": spade_graphs.distances(arrays["middle"].shape[2])}
    return Spade(Parts("spade", dict(models), arrays, tuple(notes)), threads)


def _columns(outputs: dict[str, Float32]) -> dict[str, Float32]:
    """Bring features from the order of queries into the order of minima, ready for the products.

    A bank holds -2 b, so that the product with a is -2 a'b; the squared norms of all three stages' vectors ride in the
    last row of the finest one, where the query has a one. Columns are ordered (position in its middle cell, middle cell
    in its coarse cell, coarse cell): what is compared first stands in equal slices.

    Args:
        outputs: `fine` (N, 16 c, C1 + 1), `middle` (N, 4 c, C2), `coarse` (N, c, C3), `norm` (N, 16 c), `pooled`
            (N, C).

    Returns:
        `fine` (N, C1 + 1, 16 c), `middle` (N, C2, 4 c), `coarse` (N, C3, c), `pooled` (N, C).
    """
    coarse = outputs["coarse"]
    n, cells, _ = coarse.shape
    fine = -2 * outputs["fine"]
    fine[:, :, -1] = outputs["norm"]
    fine = fine.reshape(n, cells, 4, 4, -1).transpose(0, 4, 3, 2, 1).reshape(n, -1, 16 * cells)
    middle = (-2 * outputs["middle"]).reshape(n, cells, 4, -1).transpose(0, 3, 2, 1).reshape(n, -1, 4 * cells)
    coarse = np.ascontiguousarray(-2 * coarse.transpose(0, 2, 1))
    return {"fine": fine, "middle": middle, "coarse": coarse, "pooled": outputs["pooled"]}
