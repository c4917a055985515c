"""`rehearse`: defects are drawn on good images that a model does not know, and the model judges them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Dataset, Item, Source, from_source
from padim_edge.evaluation.evaluate import ModelFile, open_data, path_of
from padim_edge.evaluation.operating import Origin
from padim_edge.planting import Part, part_of
from padim_edge.rehearsal.held_out import NewImages, good_items, new_images
from padim_edge.rehearsal.real import judge_real
from padim_edge.rehearsal.result import HELD_OUT, Rehearsal, chosen_examples
from padim_edge.rehearsal.trials import Judged, Score, judge, per_image
from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback, feedback_of

__all__ = ["COUNT", "Plan", "conclude", "inside", "rehearse", "rehearse_detector", "score_of", "shrink_of"]

COUNT = 360
"""Usual number of drawn defects."""

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """Options of a rehearsal."""

    count: int = COUNT
    """Number of defects to draw, 1 or more; a few more are drawn, so that each image gains as many."""
    seed: int = 0
    """Random seed of the defects, 0 or more."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PadimEdgeError(f"the count is {self.count}, expected 1 or more defects; {COUNT} are usual")
        if self.seed < 0:
            raise PadimEdgeError(f"the seed is {self.seed}, expected 0 or more")


def rehearse(
    model: ModelFile | Detector,
    images: Source = None,
    *,
    data: Source = None,
    defects: Source = None,
    seed: int = 0,
    count: int = COUNT,
    device: str = "auto",
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
        seed: Random seed of the defects.
        count: Number of defects to draw.
        device: `auto`, `cpu`, `cuda` or `tensorrt`. A `Detector` stays on its own device.
        progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        ArtifactError: The model is missing, damaged or of another version.
        DeviceError: The device is not there, or fails.
        PadimEdgeError: No good images are left, or `images` and `data` are both given or both missing.
    """
    feedback = feedback_of(progress)
    plan = Plan(count, seed)
    if (images is None) == (data is None):
        given = "both are given" if images is not None else "neither is given"
        raise PadimEdgeError(
            f"{given}: good images and a data set to fit again on; expected good images that the model was not fitted "
            "on, or data (--data) with those that it was"
        )
    detector = model if isinstance(model, Detector) else Detector.load(path_of(model), device, tell=feedback.tell)
    name = detector.metadata.class_name
    if images is None:
        raise PadimEdgeError("--data alone is not possible yet; give good images that the model was not fitted on")
    dataset = _opened(images, name, feedback)
    real = None if defects is None else open_data(defects, name, feedback)
    found = rehearse_detector(detector, good_items(dataset), plan, feedback, real=real.test if real else ())
    path = "" if isinstance(model, Detector) else str(path_of(model))
    return replace(found, origin=Origin(path))


def _opened(images: Source, name: str, feedback: Feedback) -> Dataset:
    """Open good images; a data set of several classes is asked for the model's own."""
    if not isinstance(images, str | os.PathLike):
        return from_source(images, name)
    from padim_edge.datasets import class_names

    several = Path(images).is_dir() and len(class_names(images)) > 1
    return open_data(images, name, feedback) if several else open_data(from_source(images, None), name, feedback)


def rehearse_detector(
    detector: Detector, items: Sequence[Item], plan: Plan, feedback: Feedback, *, real: Sequence[Item] = ()
) -> Rehearsal:
    """Draw defects on the good images that a model does not know, and judge them.

    Args:
        detector: The model.
        items: Good images; those that the model was fitted on are set aside.
        plan: Number of defects, and seed.
        feedback: Progress bars, and the function that is told of images that are left out.
        real: Real defects with masks; good images among them are passed over.

    Raises:
        PadimEdgeError: No good image is left, or no real defect has a mask.
    """
    metadata = detector.metadata
    new = new_images(items, metadata, feedback.report)
    score = score_of(detector)
    planted, each = per_image(len(new.items), plan.count)
    with feedback.report("rehearsing", len(new.items) + len(planted) * each) as advance:
        judged = judge(
            score,
            new.frames(),
            frozenset(planted),
            each,
            seed=plan.seed,
            shrink=shrink_of(metadata),
            part=inside(metadata, part_of(new.sample())),
            advance=advance,
        )
    result = conclude(judged, metadata, plan.seed, notes=_notes(new))
    if not real:
        return result
    with feedback.report("judging real defects", len(real)) as advance:
        found = judge_real(score, real, metadata.preprocessing, shrink=shrink_of(metadata), advance=advance)
    left = (f"{found.without_mask} defective images have no mask that can be used; they are left out",)
    notes = (*result.notes, *(f"left out: {each}" for each in found.unreadable), *(left if found.without_mask else ()))
    return replace(result, real=found.trials, notes=notes)


def conclude(
    judged: Judged, metadata: Metadata, seed: int, *, how: str = HELD_OUT, notes: Sequence[str] = (), scale: float = 1.0
) -> Rehearsal:
    """Turn judged images into the outcome of a rehearsal, and choose the defects that a report shows.

    Args:
        judged: Scores of good images with and without drawn defects, in units of the model's own.
        metadata: Metadata of the model.
        seed: Random seed of the defects.
        how: Origin of the good images, in words.
        notes: Remarks, one sentence each.
        scale: Factor by which the scores were divided.

    Raises:
        PadimEdgeError: No defect could be drawn.
    """
    if not judged.crops:
        raise PadimEdgeError(
            "no defect could be drawn on the good images, expected some room on the part; check the region of interest "
            "and the images"
        )
    found = Rehearsal(
        metadata, judged.good, judged.trials, seed, how, mean=judged.mean, notes=tuple(notes), scale=scale
    )
    counted = set(map(id, found.counted))
    crops = [each for each in judged.crops if id(each.trial) in counted]
    return replace(found, examples=chosen_examples(crops, metadata.threshold, found.chart))


def score_of(detector: Detector) -> Score:
    """Return the function that judges frames with a detector, a few at a time."""
    together = side_by_side(detector.metadata.input_size)
    size = together if detector.largest is None else min(together, detector.largest)

    def score(frames: Frame) -> npt.NDArray[np.float64]:
        found = [detector(np.stack(some)).score for some in batches(list(frames), size)]
        return np.concatenate(found).astype(np.float64)

    return score


def shrink_of(metadata: Metadata) -> float:
    """Return the pixels of the model's frame per pixel of what it takes; not 1 where the graph shrinks the images."""
    preprocessing = metadata.preprocessing
    if preprocessing.camera is None:
        return 1.0
    (height, width), (tall, wide) = preprocessing.resize, preprocessing.camera
    return float(np.sqrt(height * width / (tall * wide)))


def inside(metadata: Metadata, part: Part) -> Part:
    """Return the function that tells where defects may lie: on the part, and inside the region of interest.

    Args:
        metadata: Metadata of the model.
        part: Function that finds the part on an image.
    """
    if metadata.roi is None:
        return part
    inspected = metadata.inspected
    height, width = metadata.input_size
    rows = np.arange(height) * inspected.shape[0] // height
    columns = np.arange(width) * inspected.shape[1] // width
    region = inspected[rows[:, None], columns[None]]

    def both(image: Frame) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = part(image) & region
        return found if found.any() else region

    return both


def _notes(new: NewImages) -> tuple[str, ...]:
    return (*new.notes, *(f"left out: {sentence}" for sentence in new.unreadable))
