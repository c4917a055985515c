"""Images judged by an exported model, as a user judges them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.deciding.copies import Pixels
from padim_edge.datasets import GOOD, Item
from padim_edge.evaluation.metrics import image_metrics
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.image_files import ImageLike
from padim_edge_runtime.inspection import Unreadable

__all__ = ["auroc_of", "pixels_of", "rates_of", "scores_of"]

Float64 = npt.NDArray[np.float64]


def pixels_of(image: Path | Item) -> Pixels:
    """Decode an image of 8 bits into `(H, W, 3)`."""
    decoded = image.read() if isinstance(image, Item) else image_files.read(image)
    return np.asarray(decoded.image.convert("RGB"))


def scores_of(model: Path, images: Iterable[ImageLike]) -> Float64:
    """Return the score `(n,)` of each image."""
    scores = []
    for inspection in Detector.load(model, "cpu").inspect_many(images):
        assert not isinstance(inspection, Unreadable), inspection.error
        scores.append(inspection.score)
    return np.array(scores)


def auroc_of(model: Path, items: Sequence[Item]) -> float:
    """Return the image AUROC on labelled files, at least one of them good and one defective."""
    scores, defective = _labelled(model, items)
    found = image_metrics(defective, scores, 0.0).auroc
    assert found is not None
    return found


def rates_of(model: Path, items: Sequence[Item]) -> dict[str, Any]:
    """Return false alarms and misses on labelled files at the model's own threshold."""
    scores, defective = _labelled(model, items)
    threshold = Detector.load(model, "cpu").metadata.threshold
    found = image_metrics(defective, scores, threshold)
    assert found.false_alarm is not None
    assert found.miss is not None
    return {
        "threshold": threshold,
        "false_alarms": found.false_alarm.count,
        "good": found.false_alarm.total,
        "misses": found.miss.value,
        "auroc": found.auroc,
    }


def _labelled(model: Path, items: Sequence[Item]) -> tuple[Float64, npt.NDArray[np.bool_]]:
    files = [item.file for item in items if item.file is not None]
    assert len(files) == len(items)
    return scores_of(model, files), np.array([item.kind != GOOD for item in items])
