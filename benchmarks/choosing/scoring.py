"""Rules that make one score of an image's patch distances, and the graph of a memory that gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Dataset
from padim_edge.evaluation.metrics import image_metrics
from padim_edge.fitted import Fitted, fit_dataset
from padim_edge.frames import readable_frames
from padim_edge_artifact import Memory, PadimEdgeError, names
from padim_edge_artifact.method import Method
from padim_edge_model import onnx_file
from padim_edge_model.fused import MapStage, fuse, map_stage
from padim_edge_model.graph import of_kept
from padim_edge_model.memory import nearest_of
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import SILENT

__all__ = ["LARGEST", "SHIPPED", "SIGMAS", "Rules", "aurocs", "session_of", "weight_of"]

SIGMAS = (2, 4, 8)
"""Standard deviations of the smoothing in pixels of 224 x 224; the map that ships has 4."""

LARGEST = (5, 10, 20)
"""Numbers of the largest patch distances that are averaged."""

SHIPPED = "smoothed maximum, sigma 4"
"""Rule of the models that ship."""

_USUAL_SIGMA = 4
_TOP = 0.01

Float64 = npt.NDArray[np.float64]


class Rules:
    """All rules for one frame.

    Args:
        method: Method of the model, with the frame settled.
        grid: (h, w) of the patches.
    """

    def __init__(self, method: Method, grid: tuple[int, int]) -> None:
        self._stages: dict[int, MapStage] = {
            sigma: map_stage(method.preprocessing.size, grid, method.sigma * sigma / _USUAL_SIGMA) for sigma in SIGMAS
        }

    def __call__(self, distance: npt.NDArray[np.floating]) -> dict[str, float]:
        """Return the score of patch distances `(h, w)` by each rule."""
        maps = {sigma: stage(distance) for sigma, stage in self._stages.items()}
        falling = np.sort(distance.ravel())[::-1].astype(np.float64)
        usual = np.sort(maps[_USUAL_SIGMA].ravel())[::-1]
        return {
            **{f"smoothed maximum, sigma {sigma}": float(each.max()) for sigma, each in maps.items()},
            "plain maximum": float(falling[0]),
            **{f"mean of the {count} largest patches": float(falling[:count].mean()) for count in LARGEST},
            "mean of the top 1 % of the map": float(usual[: math.ceil(_TOP * len(usual))].mean()),
        }


def weight_of(score: float, scores: dict[str, float]) -> float:
    """Return the weight of PatchCore's equation 7 in a shipped score; 1 without re-weighting, up to rounding."""
    return score / max(scores[SHIPPED], 1e-9)


def aurocs(dataset: Dataset, method: Method, weights: str) -> dict[str, float | None]:
    """Fit a memory and return the image AUROC of each rule on the test images.

    Raises:
        PadimEdgeError: The images cannot be read, or there are none.
    """
    fitted = fit_dataset(dataset, method, weights=weights, feedback=SILENT)
    session, rules = session_of(fitted), Rules(fitted.method, _memory_of(fitted).grid)
    bank, found = fitted.method.bank, []
    assert bank is not None
    for score, distance in _judged(session, dataset, fitted.method):
        scores = rules(distance)
        if bank.neighbours > 1:
            weight = weight_of(score, scores)
            scores |= {f"re-weighted {rule}": weight * scores[rule] for rule in ("plain maximum", SHIPPED)}
        found.append(scores)
    defective = np.array([item.kind != GOOD for item in dataset.test])
    return {rule: image_metrics(defective, np.array([each[rule] for each in found]), 0.0).auroc for rule in found[0]}


def session_of(fitted: Fitted) -> Any:
    """Open the graph that an export ships, without the calibration, which takes most of its time."""
    kept = fitted.kept
    method = replace(kept.recipe.method, precision=fitted.method.precision)
    graph = of_kept(kept)
    form = nearest_of(_memory_of(fitted), method)
    fused = fuse(graph, form, method.preprocessing.size, method.sigma)
    return open_session(onnx_file.whole(fused), "cpu").session


def _memory_of(fitted: Fitted) -> Memory:
    memory = fitted.kept.statistics
    assert isinstance(memory, Memory), "the rules are compared for memories"
    return memory


def _judged(session: Any, dataset: Dataset, method: Method) -> Iterator[tuple[float, npt.NDArray[np.float32]]]:
    """Yield score and patch distances of each test image."""
    unreadable: dict[str, str] = {}
    for frame in readable_frames(dataset.test, method.preprocessing, unreadable):
        scores, distances = session.run([names.SCORE, names.PATCH_DISTANCE], {names.IMAGE: frame[None]})
        yield float(scores[0]), distances[0]
    if unreadable or not dataset.test:
        why = next(iter(unreadable.values()), "there is none")
        raise PadimEdgeError(f"a test image of {dataset.class_name} cannot be read ({why}); repair the data set")
