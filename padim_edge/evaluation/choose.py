"""Choosing a threshold on labelled images, for the command `threshold --best-f1`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from padim_edge.datasets import GOOD, from_source
from padim_edge.evaluation.labelled import labelled_images
from padim_edge.evaluation.metrics import image_metrics
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.calibration import BEST_F1
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import bar

__all__ = ["best_f1"]


def best_f1(
    model: Path,
    data: Path,
    *,
    class_name: str | None = None,
    device: str = "auto",
    tell: Callable[[str], object] = lambda _: None,
) -> tuple[float, str]:
    """Find the threshold with the best F1 score on the labelled test images of a data set.

    Args:
        model: The `.onnx` file.
        data: The data set, as `evaluate` takes it.
        class_name: Class of the images. By default the model's own.
        device: `auto`, `cpu`, `cuda` or `tensorrt`.
        tell: Given a sentence for each note on the data, and for each image that is left out.

    Returns:
        The threshold, and its source in words.

    Raises:
        ArtifactError: The model is missing, damaged or of another version.
        PadimEdgeError: There are no good or no anomalous test images among those that can be read.
    """
    detector = Detector.load(model, device, tell=tell)
    dataset = from_source(data, class_name or detector.metadata.class_name)
    for note in dataset.notes:
        tell(f"{dataset.class_name}: {note}")
    # Masks play no part here, so they are not read.
    items = [replace(item, mask=None) for item in dataset.test]
    labels: list[bool] = []
    scores: list[float] = []
    unreadable: list[str] = []
    if items:
        with bar("judging", len(items)) as advance:
            for each in labelled_images(items, (detector.metadata.preprocessing,), unreadable, advance):
                labels.append(each.item.kind != GOOD)
                scores.append(float(detector(each.frames[0], color="rgb").score[0]))
    for sentence in unreadable:
        tell(f"left out: {sentence}")
    anomalous, good = sum(labels), len(labels) - sum(labels)
    if not good or not anomalous:
        raise PadimEdgeError(
            f"{data} has {good} good and {anomalous} anomalous test images of {dataset.class_name!r}, expected some of "
            "both, as evaluate reads them; without anomalous ones, choose a --false-alarm-rate"
        )
    found = image_metrics(np.array(labels), np.array(scores), detector.metadata.threshold)
    assert found.best_f1_threshold is not None
    return found.best_f1_threshold, f"{BEST_F1}{data.resolve().name}, {good} good and {anomalous} anomalous images"
