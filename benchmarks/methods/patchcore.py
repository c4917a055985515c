"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265.

Patches are vectors of layer2 and layer3, each averaged over 3 x 3 neighbours (zeros beyond the border, as in the
published code), layer3 brought to the grid of layer2 by bilinear interpolation, both concatenated and, where that gives
more than 1024 channels, averaged down to 1024. The bank is a greedy k-centre selection of all patches of the good
images, 1 % or 10 %. A patch's value is its distance to the nearest vector of the bank, exact; the map is upsampled
bilinearly and smoothed with sigma 4. The paper's score is the largest distance, re-weighted by how lonely its neighbour
is (equation 7, b = 9).

Beside our presets, PatchCore has the smoothed score (`Settings.smoothed`): the largest value of the smoothed map with
the same weight. Our own scores are largest values of smoothed maps, so the comparison is of methods, not of smoothing.

Unlike the published code, which searches with faiss on the host, everything from pixels to score is one ONNX graph,
run by onnxruntime as ours is. The bank is the left factor of its products, so that onnxruntime keeps no second, packed
copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.methods import coreset
from benchmarks.methods.parts import BATCH, Float32, Frame, OneGraph, Parts
from padim_edge_artifact import PadimEdgeError, names
from padim_edge_learn.accumulate import batches
from padim_edge_model.k_centre import farthest_first
from padim_edge_runtime.devices.providers import open_session

if TYPE_CHECKING:
    from benchmarks.methods.features import Network

__all__ = ["NEIGHBOURS", "Settings", "fit"]

NEIGHBOURS = 9
"""b of equation 7, the vector itself included."""


@dataclass(frozen=True)
class Settings:
    """Settings of the bank."""

    share: float = 0.01
    """Share of the patches that the bank keeps, above 0 and at most 1."""
    dims: int = 1024
    """Number of channels to which more are averaged down. The paper's value."""
    seed: int = 0
    """Random seed of the projection and of the first vector of the bank."""
    block_rows: int = 512
    """Number of vectors of the bank that are compared at a time; (512, patches) distances stay in the caches."""
    smoothed: bool = False
    """Whether the score is the largest value of the smoothed map, re-weighted, instead of the paper's."""


_PAPERS = Settings()

_SMOOTHED = "the score is the largest value of the smoothed map, re-weighted; the paper takes the largest distance"


def fit(
    frames: Iterable[Frame],
    network: Network,
    size: tuple[int, int],
    settings: Settings = _PAPERS,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> OneGraph:
    """Fill the bank.

    All patches are in memory while the bank is chosen: 0.25 GB for bottle and ResNet-18.

    Args:
        frames: `(H, W, 3)` uint8 each.
        network: Network with layer2 and layer3.
        size: (H, W) of the frames.
        settings: Settings of the bank.
        threads: Threads of onnxruntime, here and in the result.
        progress: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: There is no image.
    """
    from benchmarks.methods import patchcore_graphs

    model, grid = patchcore_graphs.patches(network, size, settings.dims)
    session = open_session(model.SerializeToString(), "cpu", threads=threads).session
    vectors: list[Float32] = []
    for batch in batches(frames, BATCH):
        found = session.run([patchcore_graphs.PATCHES], {names.IMAGE: np.stack(batch)})[0]
        # (N, D + 1, P), whose last row is one, -> (N P, D)
        vectors.append(np.ascontiguousarray(found[:, :-1].transpose(0, 2, 1)).reshape(-1, found.shape[1] - 1))
        progress(len(batch))
    if not vectors:
        raise PadimEdgeError("there is no image to fit on; expected at least 1 good image")
    bank = choose(vectors, settings.share, settings.seed)
    name = f"patchcore-{100 * settings.share:g}"
    neighbours = coreset.neighbours(bank, NEIGHBOURS)
    how = patchcore_graphs.Judging(size, grid, settings.block_rows, settings.smoothed)
    whole = patchcore_graphs.judge(model, bank, neighbours, how)
    notes = (*network.notes, _SMOOTHED) if settings.smoothed else network.notes
    return OneGraph(Parts(name, {name: whole}, notes=notes), threads)


def choose(vectors: list[Float32], share: float, seed: int) -> Float32:
    """Select a share of all vectors, which come in blocks `(n, D)`: `(M, D)`; fewer where the others are copies."""
    starts = np.cumsum([0, *(len(each) for each in vectors)])
    total = int(starts[-1])
    count = max(1, int(total * share))
    matrix = coreset.projection(vectors[0].shape[1], seed)
    projected = np.concatenate([each @ matrix for each in vectors])
    first = int(np.random.default_rng(seed).integers(total))
    taken = farthest_first(projected, count, start=(first,))
    blocks = np.searchsorted(starts, taken, "right") - 1
    return np.stack([vectors[block][index - starts[block]] for block, index in zip(blocks, taken, strict=True)])
