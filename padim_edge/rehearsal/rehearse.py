"""`rehearse`: defects are drawn on good images that a model does not know, and the model judges them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset, Item, Source, class_names, from_source
from padim_edge.evaluation.evaluate import ModelFile, open_data, path_of
from padim_edge.evaluation.operating import Origin
from padim_edge.fitted import fit_dataset
from padim_edge.frames import numbered_frames
from padim_edge.planting import part_of
from padim_edge.rehearsal.folds import Made, rehearse_left_out
from padim_edge.rehearsal.held_out import good_items, new_images
from padim_edge.rehearsal.outcome import RehearsalOptions, conclude
from padim_edge.rehearsal.real import RealDefects, judge_real
from padim_edge.rehearsal.result import UNREAD, Rehearsal
from padim_edge.rehearsal.trials import Planting, Score, judge, per_image
from padim_edge.rehearsal.where import inside, shrink_of
from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_learn.assemble import options_of
from padim_edge_learn.held_out import GoodImages
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback, feedback_of

__all__ = [
    "Rehearsal",
    "RehearsalOptions",
    "rehearse",
    "rehearse_detector",
    "rehearse_fitted_again",
    "score_of",
    "with_real",
]

Frame = npt.NDArray[np.uint8]


def rehearse(
    model: ModelFile | Detector,
    images: Source = None,
    *,
    data: Source = None,
    defects: Source = None,
    options: RehearsalOptions | None = None,
    progress: bool | Feedback = True,
) -> Rehearsal:
    """Draw defects on good images, let a model judge them, and say how visible a defect must be to be found.

    Good images that the model was fitted on are set aside, because their scores are too low. Good test images of a data
    set count as good images.

    Args:
        model: The `.onnx` file, a `Model` as an export gives it, or a loaded `Detector`.
        images: Good images, in any form that `fit` takes; best some that the model was not fitted on.
        data: Data set that the model was fitted on, instead of `images`: the model's method is fitted again on parts
            of it, and judges the others.
        defects: Real defects with masks, such as a data set's folder: they are placed on the chart.
        options: Number of defects, random seed, device, and weights for `data`.
        progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        ArtifactError: The model is missing, damaged or of another version.
        DeviceError: The device is not there, or fails.
        PadimEdgeError: No good images are left, or `images` and `data` are both given or both missing.
    """
    feedback = feedback_of(progress)
    options = options or RehearsalOptions()
    if (images is None) == (data is None):
        given = "both are given" if images is not None else "neither is given"
        raise PadimEdgeError(
            f"{given}: good images and a data set to fit again on; expected good images that the model was not fitted "
            "on, or data (--data) with those that it was"
        )
    detector = (
        model if isinstance(model, Detector) else Detector.load(path_of(model), options.device, tell=feedback.tell)
    )
    name = detector.metadata.class_name
    dataset = _opened(data if images is None else images, name, feedback)
    # First, because it may refuse what was given.
    real = None if defects is None else _judged_real(detector, _opened(defects, name, feedback).test, feedback)
    if images is None:
        found = rehearse_fitted_again(detector.metadata, dataset, options, feedback)
    else:
        found = rehearse_detector(detector, good_items(dataset), options, feedback)
    if real is not None:
        found = with_real(found, real)
    path = "" if isinstance(model, Detector) else str(path_of(model))
    return replace(found, origin=Origin(path, (os.fspath(data),) if isinstance(data, str | os.PathLike) else ()))


def _opened(images: Source, name: str, feedback: Feedback) -> Dataset:
    """Open a data set and tell its notes. A folder of one class is that of the model, whatever its name."""
    if not isinstance(images, str | os.PathLike) or not Path(images).is_dir():
        return open_data(images, name, feedback)
    found = class_names(images)
    dataset = from_source(images, found[0] if len(found) == 1 else name)
    for note in dataset.notes:
        feedback.tell(f"{dataset.class_name}: {note}")
    return dataset


def rehearse_detector(
    detector: Detector, items: Sequence[Item], options: RehearsalOptions, feedback: Feedback
) -> Rehearsal:
    """Draw defects on the good images that a model does not know, and judge them.

    Args:
        detector: The model.
        items: Good images; those that the model was fitted on are set aside.
        options: Number of defects, and seed.
        feedback: Progress bars.

    Raises:
        PadimEdgeError: No good image is left, or no defect could be drawn.
    """
    metadata = detector.metadata
    new = new_images(items, metadata, feedback.report)
    planted, each = per_image(len(new.items), options.count)
    inspected = None if metadata.roi is None else metadata.inspected
    part = inside(part_of(new.sample()), inspected, metadata.input_size)
    planting = Planting(frozenset(planted), each, options.seed, part, shrink_of(metadata.preprocessing))
    with feedback.report("rehearsing", len(new.items) + len(planted) * each) as advance:
        judged = judge(score_of(detector), new.frames(), planting, advance)
    notes = (*new.notes, *(f"{UNREAD}{sentence}" for sentence in new.unreadable))
    return conclude(judged, metadata, options.seed, notes=notes)


def rehearse_fitted_again(
    metadata: Metadata, dataset: Dataset, options: RehearsalOptions, feedback: Feedback
) -> Rehearsal:
    """Fit a model's method again on its good images, leave parts of them out, and draw defects on these.

    Args:
        metadata: Metadata of the model.
        dataset: Data set with the good images that it was fitted on.
        options: Number of defects, seed, device and weights.
        feedback: Progress bars, and the function that is told what the fit needs.

    Raises:
        PadimEdgeError: As from `fit`; or the weights are not those of the model, or there are too few images.
    """
    # As for an export, a GPU must be asked for: it rounds differently, and the models would depend on the machine.
    device = "cpu" if options.device == "auto" else options.device
    weights = os.fspath(options.weights)
    again = fit_dataset(dataset, metadata.method, weights=weights, device=device, feedback=feedback)
    if again.kept.recipe.backbone.weights_digest != metadata.backbone.weights_digest:
        raise PadimEdgeError(
            f"the weights of {metadata.method.backbone} are not those that the model was made with "
            f"({metadata.backbone.weights}); give the same file with --weights"
        )
    readable = tuple(item for item in dataset.good if item.name not in again.unreadable)
    unreadable = dict(again.unreadable)
    images = GoodImages(numbered_frames(readable, again.method.preprocessing, unreadable), len(readable))
    made = Made(again.kept, images, options_of(metadata), tuple(item.name for item in readable))
    found = rehearse_left_out(made, metadata, options, device=device, report=feedback.report)
    return replace(found, notes=tuple(f"{UNREAD}{sentence}" for sentence in unreadable.values()))


def _judged_real(detector: Detector, items: Sequence[Item], feedback: Feedback) -> RealDefects:
    metadata = detector.metadata
    with feedback.report("judging real defects", len(items)) as advance:
        return judge_real(
            score_of(detector), items, metadata.preprocessing, shrink=shrink_of(metadata.preprocessing), advance=advance
        )


def with_real(found: Rehearsal, real: RealDefects) -> Rehearsal:
    """Return the rehearsal with real defects on its chart."""
    notes = [*found.notes, *(f"{UNREAD}{sentence}" for sentence in real.unreadable)]
    if real.without_mask:
        are = "1 defective image has" if real.without_mask == 1 else f"{real.without_mask} defective images have"
        notes.append(f"{are} no mask that can be used; they are not on the chart")
    return replace(found, real=real.trials, notes=tuple(notes))


def score_of(detector: Detector) -> Score:
    """Return the function that judges frames with a detector, a few at a time."""
    together = side_by_side(detector.metadata.input_size)
    size = together if detector.largest is None else min(together, detector.largest)

    def score(frames: Frame) -> npt.NDArray[np.float64]:
        found = [detector(np.stack(some), color="rgb").score for some in batches(list(frames), size)]
        return np.concatenate(found).astype(np.float64)

    return score
