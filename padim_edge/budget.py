"""The most accurate form of a model that fits into a number of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from padim_edge.datasets import Dataset
from padim_edge.evaluation.compare import compare_detectors, deltas
from padim_edge.fitted import ExportOptions, fit_dataset
from padim_edge.model import Model
from padim_edge.network import exported
from padim_edge.plan import model_bytes, most_prototypes
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import scratch
from padim_edge_artifact.method import PRECISIONS, Method, Precision
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback

__all__ = ["Candidate", "Cost", "candidates", "choose", "cost", "exact_cost", "form_words"]

_RANKS = (64, 48, 32, 24, 16, 12, 8, 4)
"""Ranks that are tried where nothing exact fits, the most accurate one first."""

_PROTOTYPES = tuple(2**power for power in range(14, 5, -1))
"""Numbers of prototypes that are tried where no number type alone is small enough, the most accurate one first."""


@dataclass(frozen=True)
class Candidate:
    """One form of a model, and its largest possible size."""

    method: Method
    """Method with the form's number types; and with its rank, or its number of prototypes."""
    bytes: int
    """Upper bound of the size of the model and its data file."""

    def __str__(self) -> str:
        return form_words(self.method)


def form_words(method: Method) -> str:
    """Describe the form of a model: number types, and how much of the Gaussians or of the memory is kept."""
    bank = method.bank
    if bank is None:
        return str(method.precision)
    count = f"{100 * bank.share:g} % of the patches as" if bank.share is not None else f"{bank.prototypes}"
    return f"{method.precision}, {count} prototypes"


def choose(budget: int, method: Method, weights: str, images: int) -> Method:
    """Choose the most accurate form that fits, and return the method in it.

    Args:
        budget: Bytes of the model and its data file together.
        method: Method of the fit; its target is kept, and of a memory the number of prototypes as far as it fits.
        weights: `auto`, or the path of a weights file.
        images: Number of good images to fit on.

    Raises:
        PadimEdgeError: Nothing fits; the sentence names the bytes of the smallest form.
    """
    # Principal components need the images; another projection gives a graph of the same size.
    same_size = replace(method, reduction="semi-orthogonal") if method.reduction == "pca" else method
    smallest = None
    for each in candidates(exported(same_size, weights).graph, method, images):
        if each.bytes <= budget:
            return each.method
        smallest = each
    assert smallest is not None
    size = "a smaller --size, " if method.bank is None else ""  # prototypes do not grow with the image
    raise PadimEdgeError(
        f"the smallest form ({smallest}) takes about {smallest.bytes / 1e6:.1f} MB, --budget is "
        f"{budget / 1e6:.1f} MB; allow more, or choose {size}fewer --dims or another --backbone"
    )


def candidates(graph: EmbeddingGraph, method: Method, images: int) -> Iterator[Candidate]:
    """Yield all forms of a method, the most accurate ones first."""
    forms = _forms_of_gaussians if method.bank is None else _forms_of_memory
    for each in forms(graph, method, images):
        yield Candidate(each, model_bytes(graph, each, images))


def _forms_of_gaussians(graph: EmbeddingGraph, method: Method, images: int) -> Iterator[Method]:
    target = method.precision.target
    for name in PRECISIONS:
        yield replace(method, precision=Precision(name, target))
    for rank in _RANKS:
        if rank < min(graph.dims, images):
            yield replace(method, precision=Precision("int8", target, rank=rank))
    yield replace(method, precision=Precision("int8", target, diagonal=True))


def _forms_of_memory(graph: EmbeddingGraph, method: Method, images: int) -> Iterator[Method]:
    """Yield the number types with all prototypes, then the smallest one with ever fewer."""
    bank, target = method.bank, method.precision.target
    assert bank is not None
    small = method
    for name in PRECISIONS:
        if name != "int8" or bank.neighbours == 1:  # re-weighting is not offered in int8
            small = replace(method, precision=Precision(name, target))
            yield small
    for count in _PROTOTYPES:
        if count < most_prototypes(graph, bank, images):
            yield replace(small, bank=replace(bank, prototypes=count, share=None))


@dataclass(frozen=True)
class Cost:
    """Loss of a form against the exact float32 model of the same images."""

    images: int
    """Number of good images compared."""
    median: float
    """Median relative change of the scores that the good images have outside the fit; 0.01 is 1 %."""
    maximum: float
    """Largest relative change of these scores."""
    metrics: dict[str, float | None]
    """Change of each metric on labelled test images; empty without any."""
    exact_bytes: int
    """Size of the exact float32 model."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `export --json` prints."""
        return {"score_median": self.median, "score_maximum": self.maximum, "metrics": self.metrics}

    def sentence(self, method: Method) -> str:
        """Describe the loss of the form that a method has, in one sentence."""
        words = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
        shown = [
            f"{word} {value:+.4f}" for name, word in words.items() if (value := self.metrics.get(name)) is not None
        ]
        exact, scores = (
            ("the exact", "leave-one-out scores") if method.bank is None else ("the whole", "scores outside the fit")
        )
        return (
            f"{form_words(method)} is the most accurate form that fits; against {exact} fp32 model of "
            f"{self.exact_bytes / 1e6:.1f} MB, {scores} of the {self.images} good images move by "
            f"{100 * self.median:.2g} % (median; at most {100 * self.maximum:.2g} %)"
            + (f"; on the test images {', '.join(shown)}" if shown else "")
        )


def exact_cost(
    model: Model, asked: Method, dataset: Dataset, weights: str, options: ExportOptions, feedback: Feedback
) -> Cost | None:
    """Measure what a form that `choose` chose loses; `None` for the exact float32 model itself.

    Args:
        model: Model in the chosen form.
        asked: Method that `choose` was given.
        dataset: Good images that it was fitted on, and labelled test images where there are any.
        weights: Weights that it was fitted with.
        options: Options that it was exported with.
        feedback: Progress bars of the exact model.

    Raises:
        PadimEdgeError: As from `fit` and `Fitted.export`.
    """
    method, combination = model.metadata.method, model.metadata.combination
    if combination is not None:  # a share of 0 or 1 leaves one kind in the model's own method, and the weight is known
        method = replace(asked, precision=model.metadata.precision)
        options = replace(options, memory_share=combination.weight)
    if method.precision == Precision(target=method.precision.target) and method.bank == asked.bank:
        return None
    whole = replace(method, precision=Precision(), bank=asked.bank)
    with scratch() as folder:
        fitted = fit_dataset(dataset, whole, weights=weights, device=options.device, feedback=Feedback(feedback.report))
        exact = fitted.export_with(folder / "exact.onnx", replace(options, precision=None), Feedback(feedback.report))
        return cost(exact, model, dataset)


def cost(exact: Model, model: Model, dataset: Dataset) -> Cost:
    """Compare two models of the same good images, on labelled test images, too, where there are any.

    Scores of images inside the fit would show nothing: they are bounded from above, and the bound depends on the number
    of dimensions that a form keeps. So the scores outside the fit are compared.
    """
    before, after = np.array(exact.scores), np.array(model.scores)
    change = np.abs(after - before) / np.maximum(before, 1e-6)
    metrics: dict[str, float | None] = {}
    if dataset.test:
        a, b = (Detector.load(each.path, "cpu") for each in (exact, model))
        metrics = deltas(compare_detectors(a, b, dataset))
    return Cost(len(before), float(np.median(change)), float(change.max()), metrics, exact.bytes)
