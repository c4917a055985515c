"""The most accurate form of a model that fits into so many bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from padim_edge.build import Built
from padim_edge.datasets import Dataset
from padim_edge.evaluation.compare import compare, deltas
from padim_edge.plan import model_bytes
from padim_edge.presets import Preset
from padim_edge_artifact import PadimEdgeError
from padim_edge_export import embedding
from padim_edge_export.backbones import Trunk
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.precision import Precision
from padim_edge_runtime.detector import Detector

__all__ = ["Candidate", "Cost", "candidates", "choose", "cost"]

_RANKS = (64, 48, 32, 24, 16, 12, 8, 4)
"""Tried where nothing exact fits. On ResNet-18 with 100 dimensions, rank 64 moves scores by .3 % (median), 32 by 1.5 %
and 16 by 2 %; variances alone by 20 %, and the image AUROC of screw falls from .88 to .50."""


@dataclass(frozen=True)
class Candidate:
    """One form of a model, and the bytes that it will take at most."""

    precision: Precision
    bytes: int


def choose(budget: int, preset: Preset, trunk: Trunk, images: int, *, target: str = "cpu") -> Precision:
    """The most accurate form that fits.

    Args:
        budget: Bytes of the model and its data file together.
        preset: The method.
        trunk: The backbone.
        images: Good images that it will be fitted on.
        target: As in `Precision`.

    Raises:
        PadimEdgeError: Nothing fits; with the bytes of the smallest form.
    """
    graph = embedding.build(
        trunk,
        preset.preprocessing.size,
        kind="semi-orthogonal" if preset.reduction == "pca" else preset.reduction,  # of the same size
        dims=preset.dims,
        seed=0,
        pooling=preset.pooling,
        pool_patches=preset.pool_patches,
        shares=preset.shares_of(len(trunk.description.layers)),
    )
    smallest = None
    for each in candidates(graph, images, target):
        if each.bytes <= budget:
            return each.precision
        smallest = each
    assert smallest is not None
    raise PadimEdgeError(
        f"the smallest form ({smallest.precision}) takes about {smallest.bytes / 1e6:.1f} MB, --budget is "
        f"{budget / 1e6:.1f} MB; allow more, or choose a smaller --size, fewer --dims or another --backbone"
    )


def candidates(graph: EmbeddingGraph, images: int, target: str) -> Iterator[Candidate]:
    """All forms, the most accurate ones first."""
    forms = [Precision(name, target) for name in ("fp32", "fp16", "int8")]
    forms += [Precision("int8", target, rank=rank) for rank in _RANKS if rank < min(graph.dims, images)]
    forms.append(Precision("int8", target, diagonal=True))
    for precision in forms:
        yield Candidate(precision, model_bytes(graph, precision, images))


@dataclass(frozen=True)
class Cost:
    """What a form loses against the exact float32 model of the same images."""

    images: int
    median: float
    """Relative change of the good images' scores, each left out of the fit; 0.01 is one per cent."""
    maximum: float
    metrics: dict[str, float | None]
    """Change of each metric on labelled test images; empty without any."""

    def to_json(self) -> dict[str, Any]:
        """The object that `export --json` prints."""
        return {"score_median": self.median, "score_maximum": self.maximum, "metrics": self.metrics}

    def sentence(self, numbers: str, exact: int) -> str:
        """For people; `exact` is the exact model's size in bytes."""
        words = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
        shown = [
            f"{word} {value:+.4f}" for name, word in words.items() if (value := self.metrics.get(name)) is not None
        ]
        return (
            f"{numbers} is the most accurate form that fits; against the exact fp32 model of {exact / 1e6:.1f} MB, "
            f"leave-one-out scores of the {self.images} good images move by {100 * self.median:.2g} % (median; at "
            f"most {100 * self.maximum:.2g} %)" + (f"; on the test images {', '.join(shown)}" if shown else "")
        )


def cost(exact: Built, built: Built, dataset: Dataset) -> Cost:
    """Compare two models of the same good images; with labelled test images, on these, too.

    Scores of images inside the fit say nothing here: they are bound from above, the more tightly the more dimensions
    a form keeps.
    """
    a, b = np.array(exact.scores), np.array(built.scores)
    change = np.abs(b - a) / np.maximum(a, 1e-6)
    metrics: dict[str, float | None] = {}
    if dataset.test:
        metrics = deltas(compare(Detector.load(exact.model, "cpu"), Detector.load(built.model, "cpu"), dataset))
    return Cost(len(a), float(np.median(change)), float(change.max()), metrics)
