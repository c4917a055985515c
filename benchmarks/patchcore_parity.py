"""Compare the preset `patchcore` with the PatchCore of `benchmarks.methods` on the same frames, network and share.

The two differ where the product follows its own presets: features beyond the border are repeated instead of zero, the
map is upsampled bicubically, and a few patches are drawn at random before the greedy selection.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.presets import PACKAGES, add_source, loader, settings_of

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge_artifact.method import Method

Float64 = npt.NDArray[np.float64]


LAYERS = ("layer2", "layer3")
"""Layers of the benchmark's PatchCore."""


@dataclass(frozen=True)
class Parity:
    """Agreement of both on the test images of one class."""

    rank_paper: float
    """Rank correlation (Spearman) of the preset's scores with the paper's score."""
    rank_smoothed: float
    """The same with the smoothed score."""
    rank_seed: float
    """Rank correlation of the preset's scores with those of the preset under the next seed, as a yardstick."""
    auroc: float | None
    """Image AUROC of the preset."""
    auroc_paper: float | None
    """Image AUROC of the paper's score."""
    auroc_smoothed: float | None
    """Image AUROC of the smoothed score."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Test images as one of both judges them."""

    scores: Float64
    """`(n,)` scores."""
    distances: Float64
    """`(n, h, w)` patch distances."""
    peaks: Float64
    """`(n,)` largest values of the smoothed maps."""

    @property
    def smoothed(self) -> Float64:
        """Scores `(n,)` of the paper with the largest value of the map in the place of the largest distance."""
        return np.asarray(self.scores / self.distances.max((1, 2)).clip(1e-9) * self.peaks)


def main() -> None:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patchcore_parity", description=__doc__.splitlines()[0])
    parser.add_argument("--class", dest="class_name", default="bottle")
    parser.add_argument("--share", type=float, default=0.1, help="share of the patches in the bank")
    add_source(parser)
    options = parser.parse_args()
    from benchmarks.decisions import WEIGHTS
    from padim_edge.presets import preset

    environment = report.probe(PACKAGES, threads=None)
    report.print_header("the preset patchcore beside the benchmark's", environment)
    weights = options.weights or str(options.data / WEIGHTS)
    share = f"{100 * options.share:g}%"
    method = preset("patchcore", backbone=options.backbone, layers=LAYERS, prototypes=share)
    found = compare(loader(options.data)(options.class_name), method, weights)
    row = {"class_name": options.class_name, "share": options.share, **dataclasses.asdict(found)}
    figures = [(key, "-" if value is None else f"{value:.4f}") for key, value in dataclasses.asdict(found).items()]
    report.print_table(("figure", "found"), figures)
    settings = settings_of("patchcore_parity", options.backbone, weights)
    report.write_json(options.json, "patchcore_parity", environment, settings, [row], [])


def compare(dataset: Dataset, method: Method, weights: str) -> Parity:
    """Fit both on the good images of a data set and compare their scores of the test images.

    Args:
        dataset: Data set with test images.
        method: Method of the preset `patchcore`, whose bank is a share of the patches.
        weights: Weights of the backbone; `auto` only where they come with the package.

    Raises:
        PadimEdgeError: An image cannot be read, or the weights do not fit.
    """
    from padim_edge.datasets import GOOD
    from padim_edge.evaluation.metrics import image_metrics
    from padim_edge.settled import settled

    method = settled(dataset, method)
    ours, again = (by_preset(dataset, replace(method, seed=method.seed + i), weights) for i in range(2))
    theirs = by_benchmark(dataset, method, weights)
    defective = np.array([item.kind != GOOD for item in dataset.test])
    return Parity(
        rank_correlation(ours.scores, theirs.scores),
        rank_correlation(ours.scores, theirs.smoothed),
        rank_correlation(ours.scores, again.scores),
        *(image_metrics(defective, each, 0.0).auroc for each in (ours.scores, theirs.scores, theirs.smoothed)),
    )


def by_preset(dataset: Dataset, method: Method, weights: str) -> Judged:
    """Fit the preset and judge the test images."""
    from benchmarks.choosing.scoring import session_of
    from padim_edge.fitted import fit_dataset
    from padim_edge_runtime.progress import SILENT

    fitted = fit_dataset(dataset, method, weights=weights, feedback=SILENT)
    return _judged(session_of(fitted), dataset, method)


def by_benchmark(dataset: Dataset, method: Method, weights: str) -> Judged:
    """Fit the benchmark's PatchCore with the paper's score on the same frames and judge the test images."""
    from benchmarks.images import frames
    from benchmarks.methods import features, patchcore
    from padim_edge_runtime.devices.providers import open_session

    assert method.bank is not None
    assert method.bank.share is not None
    preprocessing = method.preprocessing
    with tempfile.TemporaryDirectory() as folder:
        network = features.load(method.backbone, None if weights == "auto" else Path(weights), Path(folder))
        settings = patchcore.Settings(method.bank.share, seed=method.seed)
        fitted = patchcore.fit(frames(dataset.good, preprocessing), network, preprocessing.size, settings)
    return _judged(open_session(fitted.parts.models[fitted.parts.method], "cpu").session, dataset, method)


def _judged(session: Any, dataset: Dataset, method: Method) -> Judged:
    from benchmarks.images import frames
    from padim_edge_artifact import names

    found = []
    for frame in frames(dataset.test, method.preprocessing):
        wanted = [names.SCORE, names.PATCH_DISTANCE, names.ANOMALY_MAP]
        score, distance, anomaly_map = session.run(wanted, {names.IMAGE: frame[None]})
        found.append((float(score[0]), distance[0].astype(np.float64), float(anomaly_map.max())))
    scores, distances, peaks = (np.array(each) for each in zip(*found, strict=True))
    return Judged(scores, distances, peaks)


def rank_correlation(first: Float64, second: Float64) -> float:
    """Return Spearman's rank correlation of scores without ties, -1 to 1."""
    one, other = (np.argsort(np.argsort(each)) - (len(each) - 1) / 2 for each in (first, second))
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


if __name__ == "__main__":
    main()
