"""Evaluation of a model on labelled images: how well scores and anomaly maps tell good from anomalous."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Dataset, Source, from_source
from padim_edge.evaluation.cases import Scored, defect_share
from padim_edge.evaluation.labelled import Advance, Labelled, Truth, labelled_images
from padim_edge.evaluation.metrics import PixelMetrics, image_metrics, pixel_metrics, rate
from padim_edge.evaluation.operating import Origin
from padim_edge.evaluation.result import Evaluation
from padim_edge.model import Model
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback, feedback_of
from padim_edge_runtime.regions import to_image

__all__ = ["Evaluation", "ModelFile", "conclude", "evaluate", "evaluate_detector", "open_data", "path_of"]

ModelFile: TypeAlias = "str | os.PathLike[str] | Model"
"""Path of an `.onnx` file, or the outcome of an export."""


def evaluate(
    model: ModelFile | Detector,
    data: Source = None,
    *,
    class_name: str | None = None,
    device: str = "auto",
    progress: bool | Feedback = True,
) -> Evaluation:
    """Judge labelled test images with a model and compare its answers with the labels.

    Args:
        model: The `.onnx` file, a `Model` as an export gives it, or a loaded `Detector`.
        data: Folder of a data set or one class of it, CSV list, or a `Dataset`; see `padim_edge.datasets.from_folder`.
            `None` takes the built-in sample.
        class_name: Class of the test images. By default the model's own.
        device: `auto`, `cpu`, `cuda` or `tensorrt`. A `Detector` stays on its own device.
        progress: Whether to show a progress bar on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        ArtifactError: The model is missing, damaged or of another version.
        DeviceError: The device is not there, or fails.
        PadimEdgeError: There are no test images, or none of them can be read.
    """
    feedback = feedback_of(progress)
    detector = model if isinstance(model, Detector) else Detector.load(path_of(model), device, tell=feedback.tell)
    dataset = open_data(data, class_name or detector.metadata.class_name, feedback)
    with feedback.report(f"evaluating {dataset.class_name}", len(dataset.test)) as advance:
        evaluation = evaluate_detector(detector, dataset, advance)
    path = "" if isinstance(model, Detector) else str(path_of(model))
    words = (os.fspath(data), *(("--class", class_name) if class_name else ())) if isinstance(data, str | Path) else ()
    return replace(evaluation, model=Path(path).name, origin=Origin(path, words))


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


def evaluate_detector(detector: Detector, dataset: Dataset, advance: Advance = lambda _: None) -> Evaluation:
    """Judge the test images of a data set and compare the answers with the labels.

    Maps are compared at the images' own resolution. Only the pixels that the model inspects count: inside the crop of
    the preset `paper`, as in the published figures, and inside a region of interest.

    Args:
        detector: The model.
        dataset: Data set with test images.
        advance: Called with 1 for each image.

    Raises:
        PadimEdgeError: The data set has no test images, or none of them can be read.
    """
    if not dataset.test:
        raise PadimEdgeError(
            f"the data set of {dataset.class_name!r} has no test images; expected them as MVTec AD has them, in "
            f"test/{GOOD} and test/<defect>, or in another layout that --data takes"
        )
    scored: list[Scored] = []
    unreadable: list[str] = []
    bad_masks: list[str] = []
    images = labelled_images(dataset.test, (detector.metadata.preprocessing,), unreadable, advance, bad_masks=bad_masks)
    pixel = pixel_metrics(_maps(detector, images, scored))
    found = conclude(dataset.class_name, detector.metadata.threshold, scored, pixel, unreadable)
    return replace(found, detector=detector, bad_masks=tuple(bad_masks))


def conclude(
    class_name: str, threshold: float, scored: Sequence[Scored], pixel: PixelMetrics, unreadable: Sequence[str]
) -> Evaluation:
    """Turn the scores of all test images and the metrics of their maps into an evaluation.

    Args:
        class_name: Class of the data set.
        threshold: Threshold of the model.
        scored: Every judged image, at least one.
        pixel: Metrics of the anomaly maps.
        unreadable: One sentence for each image that could not be judged.
    """
    labels = np.array([each.item.kind != GOOD for each in scored])
    scores = np.array([each.score for each in scored])
    kinds = dict.fromkeys(sorted({each.item.kind for each in scored}, key=lambda kind: (kind != GOOD, kind)))
    alarms = {kind: [each.score > threshold for each in scored if each.item.kind == kind] for kind in kinds}
    return Evaluation(
        class_name=class_name,
        threshold=threshold,
        image=image_metrics(labels, scores, threshold),
        pixel=pixel,
        kinds={kind: found for kind, events in alarms.items() if (found := rate(np.array(events))) is not None},
        scored=tuple(scored),
        without_mask=sum(each.item.kind != GOOD and each.item.mask is None for each in scored),
        unreadable=tuple(unreadable),
    )


def _maps(
    detector: Detector, images: Iterator[Labelled], scored: list[Scored]
) -> Iterator[tuple[npt.NDArray[np.float32], Truth | None]]:
    """Yield map and truth of each test image; `scored` is filled on the way."""
    preprocessing, inspected = detector.metadata.preprocessing, detector.metadata.inspected
    for each in images:
        result = detector(each.frames[0], color="rgb")
        scored.append(Scored(each.item, float(result.score[0]), defect_share(each.item, each.truth)))
        yield to_image(result.anomaly_map[0], preprocessing, *each.size, inspected=inspected), each.truth
