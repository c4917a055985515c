"""Good images that are new to a model: those that it was fitted on, and their repeats, are set aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.frames import frames_of
from padim_edge.rehearsal.where import SAMPLE
from padim_edge_artifact import ImageError, Metadata, PadimEdgeError
from padim_edge_artifact.relations import MOST_FINGERPRINTS
from padim_edge_model.repeats import fingerprint, repeats_of, unpacked
from padim_edge_runtime.progress import Report

__all__ = ["MOST_IMAGES", "NewImages", "good_items", "new_images"]

MOST_IMAGES = 2000
"""Largest number of good images that are looked at; of more, an even selection is."""

_KEPT_BYTES = 1 << 28
"""Memory for decoded images. Where they need more, they are decoded twice."""

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class NewImages:
    """Good images that are new to the model."""

    items: tuple[Item, ...]
    """The images, numbered from 0 in their order."""
    fitted: tuple[str, ...]
    """Names of the images that were set aside because the model was fitted on them, or on a repeat of them."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""
    notes: tuple[str, ...]
    """Remarks, one sentence each without a full stop; mostly empty."""
    kept: tuple[Frame, ...] | None
    """The decoded images; `None` where they need too much memory."""
    metadata: Metadata
    """Metadata of the model."""

    def frames(self) -> Iterator[tuple[int, str, Frame]]:
        """Yield number, name and pixels `(H, W, 3)` of each image, in order."""
        if self.kept is not None:
            for number, (item, frame) in enumerate(zip(self.items, self.kept, strict=True)):
                yield number, item.name, frame
            return
        for number, (item, found) in enumerate(frames_of(self.items, self.metadata.preprocessing)):
            if not isinstance(found, ImageError):  # the file may have gone since it was read
                yield number, item.name, found

    def sample(self) -> list[Frame]:
        """Return an even selection of the images `(H, W, 3)`, to learn where the part is."""
        numbers = np.unique(np.linspace(0, len(self.items) - 1, SAMPLE).round().astype(int)).tolist()
        if self.kept is not None:
            return [self.kept[number] for number in numbers]
        found = frames_of([self.items[number] for number in numbers], self.metadata.preprocessing)
        return [frame for _, frame in found if not isinstance(frame, ImageError)]


def good_items(dataset: Dataset) -> tuple[Item, ...]:
    """Return the good images of a data set, those of the test images included: these were never fitted on."""
    return (*dataset.good, *(each for each in dataset.test if each.kind == GOOD))


def new_images(items: Sequence[Item], metadata: Metadata, report: Report) -> NewImages:
    """Sort out the good images that a model was fitted on, by their fingerprints.

    Args:
        items: Good images.
        metadata: Metadata of the model.
        report: Progress bar.

    Raises:
        PadimEdgeError: No image is left.
    """
    some = list(items)
    if len(some) > MOST_IMAGES:
        some = [items[i] for i in np.linspace(0, len(items) - 1, MOST_IMAGES).round().astype(int)]
    known = unpacked(metadata.fingerprints)
    height, width = metadata.input_size
    small = len(some) * height * width * 3 <= _KEPT_BYTES
    new: list[Item] = []
    kept: list[Frame] = []
    fitted: list[str] = []
    unreadable: list[str] = []
    with report("looking for fitted images", len(some)) as advance:
        for item, frame in frames_of(some, metadata.preprocessing):
            advance(1)
            if isinstance(frame, ImageError):
                unreadable.append(str(frame))
            elif repeats_of(known, fingerprint(frame)[None])[0]:
                fitted.append(item.name)
            else:
                new.append(item)
                if small:
                    kept.append(frame)
    if not new:
        raise PadimEdgeError(_none_left(len(some), len(fitted), unreadable))
    return NewImages(
        tuple(new),
        tuple(fitted),
        tuple(unreadable),
        tuple(_notes(metadata, len(known), len(fitted), len(some))),
        tuple(kept) if small else None,
        metadata,
    )


def _none_left(images: int, fitted: int, unreadable: Sequence[str]) -> str:
    if not fitted:
        return (
            f"none of the {images} images can be read; the first: {unreadable[0]}"
            if images
            else ("there are no good images, expected some that the model was not fitted on; give a folder of them")
        )
    return (
        f"the model was fitted on {'all' if fitted == images else fitted} of the {images} good images, so they tell "
        "nothing about new ones; give images that it has not seen, or fit again without some of them: "
        "padim-edge rehearse MODEL --data DIR"
    )


def _notes(metadata: Metadata, known: int, fitted: int, images: int) -> Iterator[str]:
    if fitted:
        yield (
            f"{fitted} of {images} good images were fitted on, or repeat one that was; they are set aside, and "
            f"{images - fitted} are left"
        )
    if not known:
        yield "the model does not say which images it was fitted on; be sure to give it none of them"
    elif metadata.images > MOST_FINGERPRINTS:
        yield (
            f"the model remembers {known} of the {metadata.images} images that it was fitted on; be sure to give it "
            "none of the others"
        )
