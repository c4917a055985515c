"""A model learns from more good images, without its old ones and without torch: statistics add up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ArtifactError, ImageError, Metadata, PadimEdgeError, kept, read_verified
from padim_edge_artifact.calibration import check_rate
from padim_edge_learn.accumulate import BATCH, fit
from padim_edge_learn.assemble import Report, assemble, silent
from padim_edge_model.comparable import Observed
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.precision import Precision
from padim_edge_runtime import image_files
from padim_edge_runtime.prefetch import in_order

__all__ = ["Updated", "next_name", "update"]


@dataclass(frozen=True)
class Updated:
    """What `update` made."""

    metadata: Metadata
    before: Metadata
    bytes: int
    """Of the model and its data file together."""
    scores: tuple[float, ...]
    """Of the new images, as if each had been left out of the fit."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read and was left out."""


def next_name(model: Path, revision: int) -> Path:
    """What an update is called unless the user says: `bottle-r2.onnx`, `bottle-r3.onnx`."""
    stem = re.sub(r"-r\d+$", "", model.stem)
    return model.with_name(f"{stem}-r{revision}{model.suffix}")


def update(
    model: Path,
    images: Sequence[Path],
    *,
    statistics: Path,
    output: Path,
    output_statistics: Path,
    false_alarm_rate: float | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> Updated:
    """Add good images to a model whose statistics were kept, and write both anew.

    The Gaussians are those of one fit on all images, old and new. The threshold rests on the new images' scores
    as if each had been left out, and on those of the old images as they were before: nearly what they are now,
    rather higher, since each new image brings the Gaussians nearer to its like.

    Args:
        model: What to update; it is not changed.
        images: Good images that it was not fitted on.
        statistics: What was kept when it was made.
        output: The new model.
        output_statistics: Its statistics, for the next update.
        false_alarm_rate: Share of good images that may raise an alarm; the old model's unless given.
        device: Where the backbone runs.
        report: Of the stages.

    Raises:
        ArtifactError: A file is missing, damaged or of another model.
        PadimEdgeError: No readable image, or a file cannot be written.
    """
    before = read_verified(model)
    rate = before.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    check_rate(rate)
    for path in (output, output_statistics):
        if not path.resolve().parent.is_dir():
            raise PadimEdgeError(f"the folder of {path} does not exist; make it or choose another one")
    with report("reading the statistics", None):
        old = kept.load(statistics)
        if before.statistics is None or old.statistics.digest() != before.statistics:
            raise ArtifactError(
                f"{statistics} was not kept with {model}; name the file that padim-edge export --keep-statistics or "
                "the last update wrote, or export again"
            )
    recipe, unreadable = old.recipe, list[str]()

    def frames(sentences: list[str]) -> Iterator[npt.NDArray[np.uint8]]:
        def decode(path: Path) -> npt.NDArray[np.uint8] | ImageError:
            try:
                return image_files.prepare(image_files.read(path).image, recipe.preprocessing)
            except ImageError as error:
                return error

        for found in in_order(decode, images, ahead=2 * BATCH):
            if isinstance(found, ImageError):
                sentences.append(str(found))
            else:
                yield found

    observed = Observed(old.seen)
    with report("fitting", len(images)) as advance:
        graph = joined(of_kept(old)).SerializeToString()
        passing = _looked_at(frames(unreadable), observed.add)
        added = fit(graph, passing, start=old.statistics, device=device, progress=advance)
    if added.count == old.statistics.count:
        first = f"; the first of them: {unreadable[0]}" if unreadable else ""
        raise ImageError(f"there is no readable image to learn from, expected one or more{first}")
    grown = replace(old, statistics=added, seen=observed.seen, progress=None)
    made = assemble(
        grown,
        output,
        frames([]),
        len(images) - len(unreadable),
        precision=Precision(before.precision, before.target, before.rank, before.diagonal),
        false_alarm_rate=rate,
        created_by=f"padim-edge-runtime {version('padim-edge-runtime')}",
        inspected=None if before.roi is None else before.inspected,
        before=before,
        device=device,
        report=report,
    )
    with report("keeping the statistics", None):
        kept.save(output_statistics, replace(grown, seen=made.seen))
    return Updated(made.metadata, before, made.bytes, made.scores, tuple(unreadable))


def _looked_at(
    frames: Iterator[npt.NDArray[np.uint8]], look: Callable[[npt.NDArray[np.uint8]], object]
) -> Iterator[npt.NDArray[np.uint8]]:
    for frame in frames:
        look(frame)
        yield frame
