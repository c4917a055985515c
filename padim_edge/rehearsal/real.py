"""Real defects with masks, measured in the model's frame as drawn ones are, and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge.datasets import GOOD, Item
from padim_edge.evaluation.labelled import Labelled, labelled_images
from padim_edge.planting import Measured, measure
from padim_edge.rehearsal.trials import Crop, Score, Trial, crop
from padim_edge_artifact import PadimEdgeError, Preprocessing
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_runtime import image_files

__all__ = ["RealDefects", "in_frame", "judge_real", "main_region"]

_COVERED = 64
"""Value of 255 from which a shrunken mask's pixel counts: a quarter of it is defective. Thin scratches stay whole."""
_MOST_REGIONS = 8
"""Number of regions of a mask that are measured, the largest ones."""

Mask = npt.NDArray[np.bool_]
Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RealDefects:
    """Real defects that the model judged."""

    crops: tuple[Crop, ...]
    """Each defect with its surroundings, in the order of the data set."""
    without_mask: int
    """Number of defective images without a usable mask, or with one outside of what the model sees."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The defects."""
        return tuple(each.trial for each in self.crops)


def judge_real(
    score: Score,
    items: Sequence[Item],
    preprocessing: Preprocessing,
    *,
    shrink: float = 1.0,
    advance: Callable[[int], object] = lambda _: None,
) -> RealDefects:
    """Judge the defective images that have masks.

    Args:
        score: The model.
        items: Test images; good ones are passed over.
        preprocessing: Way of an image into the model's frame.
        shrink: As for `judge`.
        advance: Called with 1 for each image.

    Raises:
        PadimEdgeError: There are no defective images, or none of them has a mask that can be used.
    """
    defective = [each for each in items if each.kind != GOOD]
    if not defective:
        raise PadimEdgeError(
            "--defects has no defective images, expected some with masks, such as test/crack and ground_truth/crack; "
            "see the data layouts"
        )
    crops: list[Crop] = []
    unreadable: list[str] = []
    without = 0
    images = enumerate(labelled_images(defective, (preprocessing,), unreadable, advance))
    for batch in batches(images, side_by_side(preprocessing.input_size)):
        scores = score(np.stack([each.frames[0] for _, each in batch]))
        for (number, each), value in zip(batch, scores, strict=True):
            found = _trial(each, number, float(value), preprocessing, shrink)
            if found is None:
                without += 1
            else:
                crops.append(found)
    if not crops:
        raise PadimEdgeError(
            f"none of the {len(defective)} defective images in --defects has a mask that can be used, expected masks "
            "as in MVTec AD's ground_truth; leave --defects out, or add masks"
        )
    return RealDefects(tuple(crops), without, tuple(unreadable))


def _trial(each: Labelled, number: int, score: float, preprocessing: Preprocessing, shrink: float) -> Crop | None:
    truth = each.truth
    mask = None if truth is None else in_frame(truth, preprocessing)
    if mask is None or not mask.any():
        return None
    frame = each.frames[0]
    region, measured = main_region(frame, mask)
    rows, columns = np.nonzero(region)
    place = ((rows.mean() + 0.5) / region.shape[0], (columns.mean() + 0.5) / region.shape[1])
    trial = Trial(
        each.item.kind,
        max(float(measured.extent), 1.0) * shrink,
        float(measured.contrast),
        float(measured.levels),
        (float(place[0]), float(place[1])),
        score,
        number,
        area=float(measured.area) * shrink**2,
    )
    return Crop(trial, *crop(frame, mask))


def in_frame(truth: Mask, preprocessing: Preprocessing) -> Mask:
    """Bring a mask `(height, width)` of an image into the frame `(H, W)` that the model takes."""
    grey = Image.fromarray(truth.astype(np.uint8) * 255).convert("RGB")
    return np.asarray(image_files.prepare(grey, preprocessing)[..., 0] >= _COVERED)


def main_region(frame: Frame, mask: Mask) -> tuple[Mask, Measured]:
    """Return the region of a mask that is easiest to see, by contrast times extent, and its measures.

    The score of an image is that of its most anomalous place, so one region decides.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    largest = np.argsort(-sizes, kind="stable")[: min(count, _MOST_REGIONS)] + 1
    measured = [(labels == label, measure(frame, labels == label)) for label in largest.tolist()]
    return max(measured, key=lambda each: each[1].contrast * each[1].extent)
