"""Materials of the rows, and what a row gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.deciding.subsets import Embedded, embed
from benchmarks.report import Target
from padim_edge.datasets import Dataset, from_folder
from padim_edge.fitted import fit
from padim_edge.model import Model
from padim_edge.presets import preset
from padim_edge_artifact.method import Method

__all__ = ["SETS", "Amount", "Materials", "Measured", "Row"]

SETS = {
    "bottle": "data/mvtec_ad/bottle",
    "screw": "data/mvtec_ad/screw",
    "kolektor": "data/others/kolektor",
    "cookie": "data/others/cookie",
}
"""Folders of the data sets below the shared folder, by class."""


@dataclass(frozen=True)
class Amount:
    """Numbers of repetitions."""

    draws: int = 20
    """Random draws of 20 images of each class."""
    splits: int = 50
    """Random halves of each class."""


@dataclass(frozen=True)
class Measured:
    """Outcome of one row."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    """Figures behind the targets."""
    targets: list[Target] = field(default_factory=list)
    """Targets with what was found."""
    missing: str = ""
    """Reason why nothing was measured; mostly empty."""


class Materials:
    """Images and models that several rows use; each is made when it is first asked for."""

    def __init__(self, shared: Path, weights: str, folder: Path, amount: Amount) -> None:
        self.shared = shared
        self.weights = weights
        self.folder = folder
        """Folder for files that may be thrown away."""
        self.amount = amount
        self.method: Method = preset("edge")
        self._embedded: dict[str, Embedded] = {}
        self._models: dict[str, Model] = {}

    def dataset(self, class_name: str) -> Dataset:
        """Return a data set.

        Raises:
            PadimEdgeError: It is not there.
        """
        return from_folder(self.shared / SETS[class_name], class_name)

    def embedded(self, class_name: str) -> Embedded:
        """Return all images of a class with their embeddings."""
        if class_name not in self._embedded:
            self._embedded[class_name] = embed(self.dataset(class_name), self.method, self.weights, test=True)
        return self._embedded[class_name]

    def model(self, class_name: str) -> Model:
        """Return the model of all good images of a class, exported with defaults."""
        if class_name not in self._models:
            self._models[class_name] = self.exported(self.dataset(class_name), class_name)
        return self._models[class_name]

    def exported(self, source: Any, name: str) -> Model:
        """Fit and export images, with defaults, to a file of this name.

        Args:
            source: Good images, as `padim_edge.fit` takes them.
            name: Name of the file, without its ending.
        """
        fitted = fit(source, self.method, class_name=name, weights=self.weights, progress=False)
        return fitted.export(self.folder / f"{name}.onnx", progress=False)


@dataclass(frozen=True)
class Row:
    """One row of the table of targets."""

    words: str
    """The row in words."""
    measure: Callable[[Materials], Measured]
    """Function that measures it."""
