"""The model and the data set that a user names, opened for an evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from padim_edge.datasets import Dataset, Source, from_source
from padim_edge.model import Model
from padim_edge_runtime.progress import Feedback

__all__ = ["ModelFile", "open_data", "path_of"]

ModelFile: TypeAlias = "str | os.PathLike[str] | Model"
"""Path of an `.onnx` file, or the outcome of an export."""


def path_of(model: ModelFile) -> Path:
    """Return the path of the `.onnx` file."""
    return model.path if isinstance(model, Model) else Path(model)


def open_data(data: Source, class_name: str, feedback: Feedback) -> Dataset:
    """Open a data set and tell its notes. A `Dataset` is returned as it is: whoever opened it has its notes."""
    dataset = from_source(data, class_name)
    if dataset is not data:
        for note in dataset.notes:
            feedback.tell(f"{dataset.class_name}: {note}")
    return dataset
