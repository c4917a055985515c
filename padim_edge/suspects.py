"""Good images that look unlike the others: drawn for a person, or left out of the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from padim_edge.datasets import Dataset
from padim_edge.datasets.excluding import without
from padim_edge.model import Model, Suspect
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.files import make_folder, refuse_inputs, replacing
from padim_edge_runtime.progress import Feedback

__all__ = ["draw", "export_without"]

_MOST_SHARE = 0.1
"""Largest share of the good images that is left out without being asked image by image."""


def export_without(
    dataset: Dataset, export: Callable[[Dataset], Model], feedback: Feedback
) -> tuple[Model, tuple[Suspect, ...]]:
    """Export a model, and again without the suspects, until the rest look alike.

    An odd image hides others, because it widens what passes for usual. So the images that are left are looked at again.

    Args:
        dataset: Data set with all good images.
        export: Fits a data set and writes its model.
        feedback: Gets a sentence for each image that is left out.

    Returns:
        The last model, and the images that it was not fitted on, in the order in which they were found.

    Raises:
        PadimEdgeError: More than a tenth of the images look unlike the others.
    """
    left_out: list[Suspect] = []
    groups, independent = 0, 0
    rest = dataset
    while True:
        model = export(rest)
        found = model.suspects
        if not found:
            return model, tuple(left_out)
        groups += len({each.group for each in found})  # repeats of an odd image are one odd image
        independent = independent or model.metadata.independent or model.metadata.images
        if groups > max(1, _MOST_SHARE * independent):
            raise PadimEdgeError(
                f"{groups} of the {independent} independent good images look unlike the others, expected "
                "a tenth at most; look at them with --suspects DIR, and list the wrong ones in a file for --exclude"
            )
        for each in found:
            feedback.tell(f"left out: {each.item.name} looks unlike the others (score {each.score:.1f})")
        left_out += found
        rest = without(rest, {each.item.name for each in found})


def draw(
    folder: Path, model: Model, found: Sequence[Suspect], tell: Callable[[str], object] = lambda _: None
) -> tuple[Path, ...]:
    """Write a heat map of each of these images, drawn by the model; the oddest comes first by name.

    Args:
        folder: Folder for the heat maps, made if need be.
        model: Model that judges the images.
        found: Images to draw.
        tell: Gets a sentence for each image that cannot be read any more.

    Raises:
        PadimEdgeError: The folder or a file cannot be written.
    """
    from padim_edge_runtime.detector import Detector

    make_folder(folder)
    detector = Detector.load(model.path, "cpu")
    levels = model.metadata.preprocessing.levels
    written = []
    for rank, suspect in enumerate(found, 1):
        try:
            image = suspect.item.decoded(levels).image
        except ImageError as error:  # it was read before, and has gone since
            tell(f"not drawn: {error}")
            continue
        # Names of frames of a video hold slashes, and names of images in two folders may be the same.
        stem = Path((suspect.item.key or suspect.item.name).replace(" ", "_")).stem
        target = folder / f"{rank:02d}-{stem}.png"
        refuse_inputs([target], [] if suspect.item.file is None else [suspect.item.file])
        with replacing(target) as temporary:
            detector.inspect(image).overlay().save(temporary, format="PNG", compress_level=1)
        written.append(target)
    return tuple(written)
