"""The most accurate form of a model that fits into a number of bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge.datasets import Dataset
from padim_edge.evaluation.compare import compare_detectors, deltas
from padim_edge.fitted import ExportOptions, fit_dataset
from padim_edge.model import Model
from padim_edge.network import exported
from padim_edge.plan import model_bytes
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method, Precision
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback

__all__ = ["Candidate", "Cost", "candidates", "choose", "cost", "exact_cost"]

_RANKS = (64, 48, 32, 24, 16, 12, 8, 4)
"""Ranks that are tried where nothing exact fits, the most accurate one first."""


@dataclass(frozen=True)
class Candidate:
    """One form of a model, and its largest possible size."""

    precision: Precision
    """Number types and form of the Gaussians."""
    bytes: int
    """Upper bound of the size of the model and its data file."""


def choose(budget: int, method: Method, weights: str, images: int) -> Precision:
    """Choose the most accurate form that fits.

    Args:
        budget: Bytes of the model and its data file together.
        method: Method of the fit; its target is kept.
        weights: `auto`, or the path of a weights file.
        images: Number of good images to fit on.

    Raises:
        PadimEdgeError: Nothing fits; the sentence names the bytes of the smallest form.
    """
    # Principal components need the images; another projection gives a graph of the same size.
    same_size = replace(method, reduction="semi-orthogonal") if method.reduction == "pca" else method
    smallest = None
    for each in candidates(exported(same_size, weights).graph, images, method.precision.target):
        if each.bytes <= budget:
            return each.precision
        smallest = each
    assert smallest is not None
    raise PadimEdgeError(
        f"the smallest form ({smallest.precision}) takes about {smallest.bytes / 1e6:.1f} MB, --budget is "
        f"{budget / 1e6:.1f} MB; allow more, or choose a smaller --size, fewer --dims or another --backbone"
    )


def candidates(graph: EmbeddingGraph, images: int, target: str) -> Iterator[Candidate]:
    """Yield all forms, the most accurate ones first."""
    forms = [Precision(name, target) for name in ("fp32", "fp16", "int8")]
    forms += [Precision("int8", target, rank=rank) for rank in _RANKS if rank < min(graph.dims, images)]
    forms.append(Precision("int8", target, diagonal=True))
    for precision in forms:
        yield Candidate(precision, model_bytes(graph, precision, images))


@dataclass(frozen=True)
class Cost:
    """Loss of a form against the exact float32 model of the same images."""

    images: int
    """Number of good images compared."""
    median: float
    """Median relative change of the leave-one-out scores; 0.01 is 1 %."""
    maximum: float
    """Largest relative change of the leave-one-out scores."""
    metrics: dict[str, float | None]
    """Change of each metric on labelled test images; empty without any."""
    exact_bytes: int
    """Size of the exact float32 model."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `export --json` prints."""
        return {"score_median": self.median, "score_maximum": self.maximum, "metrics": self.metrics}

    def sentence(self, precision: Precision) -> str:
        """Describe the loss in one sentence."""
        words = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
        shown = [
            f"{word} {value:+.4f}" for name, word in words.items() if (value := self.metrics.get(name)) is not None
        ]
        return (
            f"{precision} is the most accurate form that fits; against the exact fp32 model of "
            f"{self.exact_bytes / 1e6:.1f} MB, leave-one-out scores of the {self.images} good images move by "
            f"{100 * self.median:.2g} % (median; at most {100 * self.maximum:.2g} %)"
            + (f"; on the test images {', '.join(shown)}" if shown else "")
        )


def exact_cost(model: Model, dataset: Dataset, weights: str, options: ExportOptions, feedback: Feedback) -> Cost | None:
    """Measure what a form that `choose` chose loses; `None` for the exact float32 model itself.

    Args:
        model: Model in the chosen form.
        dataset: Good images that it was fitted on, and labelled test images where there are any.
        weights: Weights that it was fitted with.
        options: Options that it was exported with.
        feedback: Progress bars of the exact model.

    Raises:
        PadimEdgeError: As from `fit` and `Fitted.export`.
    """
    method = model.metadata.method
    if method.precision == Precision(target=method.precision.target):
        return None
    whole = replace(method, precision=Precision())
    with tempfile.TemporaryDirectory(prefix="padim-edge-") as scratch:
        fitted = fit_dataset(dataset, whole, weights=weights, device=options.device, feedback=Feedback(feedback.report))
        exact = fitted.export_with(
            Path(scratch) / "exact.onnx", replace(options, precision=None), Feedback(feedback.report)
        )
        return cost(exact, model, dataset)


def cost(exact: Model, model: Model, dataset: Dataset) -> Cost:
    """Compare two models of the same good images, on labelled test images, too, where there are any.

    Scores of images inside the fit would show nothing: they are bounded from above, and the bound depends on the number
    of dimensions that a form keeps. So the leave-one-out scores are compared.
    """
    before, after = np.array(exact.scores), np.array(model.scores)
    change = np.abs(after - before) / np.maximum(before, 1e-6)
    metrics: dict[str, float | None] = {}
    if dataset.test:
        a, b = (Detector.load(each.path, "cpu") for each in (exact, model))
        metrics = deltas(compare_detectors(a, b, dataset))
    return Cost(len(before), float(np.median(change)), float(change.max()), metrics, exact.bytes)
