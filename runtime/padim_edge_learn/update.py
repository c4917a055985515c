"""Updating a model with more good images, without its old ones and without torch: statistics add up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ArtifactError, ImageError, Metadata, PadimEdgeError, read_metadata, read_verified
from padim_edge_artifact.files import (
    flush,
    refuse_inputs,
    replacing,
    require_folder,
    reserved,
    settle,
    staging,
    written,
)
from padim_edge_artifact.kept import Kept, pack_kept, read_kept
from padim_edge_artifact.publishing import publish
from padim_edge_artifact.unfinished import PAIR
from padim_edge_learn.accumulate import BATCH, accumulate, learner_of
from padim_edge_learn.assemble import Assembled, assemble, options_of
from padim_edge_learn.folds import Folds
from padim_edge_learn.held_out import Frames, GoodImages
from padim_edge_learn.intake import Intake, SetAside, counted, in_words, look, nothing_taken, reasons_of, sort_out
from padim_edge_model.calibration import check_rate
from padim_edge_model.comparable import Observed
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.repeats import Recorder
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.pipeline import threads_for
from padim_edge_runtime.prefetch import decoded
from padim_edge_runtime.progress import Report, none

__all__ = ["UpdateFiles", "Updated", "next_name", "update", "update_files"]


@dataclass(frozen=True)
class UpdateFiles:
    """Files that an update reads and writes."""

    model: Path
    """Model to update; it is not changed."""
    statistics: Path
    """Statistics that were kept when the model was made."""
    output: Path
    """New model."""
    output_statistics: Path
    """New model's statistics, for the next update."""


@dataclass(frozen=True)
class Updated:
    """Outcome of `update`."""

    files: UpdateFiles
    """Files that were read and written."""
    metadata: Metadata
    """Metadata of the new model."""
    before: Metadata
    """Metadata of the old model."""
    bytes: int
    """Size of the new model and its data file together."""
    scores: tuple[float, ...]
    """Leave-one-out scores of the new images."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read and was left out."""
    set_aside: tuple[SetAside, ...]
    """Images that were not learned from, with their reasons."""

    @property
    def taken(self) -> int:
        """Number of images that were learned from."""
        return self.metadata.images - self.before.images

    def __str__(self) -> str:
        after, before = self.metadata, self.before
        others = f", {len(self.set_aside)} set aside ({in_words(self.set_aside)})" if self.set_aside else ""
        return (
            f"{self.files.output}: revision {after.revision}, {after.images} good images, {before.images} before; "
            f"{self.taken} taken{others}; threshold {after.threshold:.2f}, {before.threshold:.2f} before"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `update --json` prints."""
        return {
            "model": str(self.files.output),
            "statistics": str(self.files.output_statistics),
            "bytes": self.bytes,
            "revision": self.metadata.revision,
            "parent": self.metadata.parent,
            "images_before": self.before.images,
            "images": self.metadata.images,
            "threshold_before": self.before.threshold,
            "threshold": self.metadata.threshold,
            "taken": self.taken,
            "set_aside_by_reason": counted(self.set_aside),
            "set_aside": [each.to_json() for each in self.set_aside],
            "unreadable": self.unreadable,
        }


def update_files(model: Path, statistics: Path | None = None, output: Path | None = None) -> UpdateFiles:
    """Name the files of an update, with their usual names where none is given.

    Raises:
        PadimEdgeError: The output is the model itself, or its name does not end in `.onnx`.
    """
    new = output or next_name(model, read_metadata(model).revision + 1)
    if new.resolve() == model.resolve():
        raise PadimEdgeError(
            f"--output is the model itself, {model}; choose another name, so that both can be compared"
        )
    if new.suffix != ".onnx":
        raise PadimEdgeError(f"--output is {new}, expected a name that ends in .onnx")
    found = UpdateFiles(model, statistics or model.with_suffix(".npz"), new, new.with_suffix(".npz"))
    refuse_inputs([found.output_statistics], [found.statistics])
    return found


def next_name(model: Path, revision: int) -> Path:
    """Name an update unless the user does: `bottle-r2.onnx`, `bottle-r3.onnx`."""
    stem = re.sub(r"-r\d+$", "", model.stem)
    return model.with_name(f"{stem}-r{revision}{model.suffix}")


def update(
    files: UpdateFiles,
    images: Sequence[Path],
    *,
    false_alarm_rate: float | None = None,
    take: Iterable[str] = (),
    device: str = "cpu",
    report: Report = none,
) -> Updated:
    """Add good images to a model whose statistics were kept, and write both anew.

    The old model looks at them first. Images that it was fitted on, repeats, anomalous ones and those that are not
    comparable are set aside, unless `take` says otherwise.

    The Gaussians are those of one fit on all images, old and new. The threshold rests on the leave-one-out scores of
    the new images, and on the scores that the old images had before. The latter are nearly what they are now, and
    rather higher, because each new image brings the Gaussians nearer to its like.

    Args:
        files: Files to read and to write.
        images: Good images that the model was not fitted on.
        false_alarm_rate: Share of good images that may raise an alarm; `None` keeps the old model's.
        take: Reasons for which no image is set aside: words of `intake.REASONS`, or `all`.
        device: Device that runs the backbone.
        report: Progress bar for each stage.

    Raises:
        ArtifactError: A file is missing, damaged or of another model.
        NothingTakenError: All images were set aside.
        PadimEdgeError: No image can be read, or a file cannot be written.
    """
    for path in (files.output, files.output_statistics):
        require_folder(path)
    with reserved([files.output, files.output_statistics]):
        return _updated(files, images, false_alarm_rate, reasons_of(take), device=device, report=report)


def _updated(
    files: UpdateFiles,
    images: Sequence[Path],
    false_alarm_rate: float | None,
    reasons: frozenset[str],
    *,
    device: str,
    report: Report,
) -> Updated:
    before = read_verified(files.model)
    rate = before.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    check_rate(rate)
    with report("reading the statistics", None):
        old = _statistics_of(files, before)
    found, torn = _look(files.model, images, old, reasons, device=device, report=report)
    unreadable: dict[Path, str] = {}
    grown = _grown(old, found.taken, unreadable, device=device, report=report)
    if grown.statistics.count == old.statistics.count:
        raise _nothing_readable(tuple(unreadable.values()))
    created_by = f"padim-edge-runtime {version('padim-edge-runtime')}"
    options = replace(options_of(before), created_by=created_by, false_alarm_rate=rate, before=before)
    readable = [path for path in found.taken if path not in unreadable]
    good = GoodImages(_frames_of(readable, old, {}), len(readable))
    made = _written(files, grown, lambda path: assemble(grown, path, good, options, device=device, report=report))
    return Updated(
        files,
        made.metadata,
        before,
        made.bytes,
        tuple(made.held.scores.tolist()),
        (*torn, *unreadable.values()),
        found.set_aside,
    )


def _grown(old: Kept, images: Sequence[Path], unreadable: dict[Path, str], *, device: str, report: Report) -> Kept:
    """Add images to statistics; `unreadable` gains a sentence for each that cannot be read."""
    observed, recorder, folds = Observed(old.seen), Recorder(old.evidence), Folds(old)
    learner = learner_of(old.statistics, old.recipe.method)

    def passing() -> Iterator[npt.NDArray[np.uint8]]:
        for number, frame in _frames_of(images, old, unreadable)(range(len(images))):
            observed.add(frame)
            learner.expect(folds.choose(recorder.add(frame), number, len(images)))
            yield frame

    with report("fitting", len(images)) as advance:
        graph = joined(of_kept(old)).SerializeToString()
        accumulate(graph, passing(), learner, device=device, after=lambda _, count: advance(count))
    return replace(old, statistics=learner.finish(), seen=observed.seen, evidence=recorder.evidence, progress=None)


def _written(files: UpdateFiles, grown: Kept, make: Callable[[Path], Assembled]) -> Assembled:
    """Write model and statistics as one: the statistics get their name behind the model.

    What a kill between both leaves, the next update of this model finishes.
    """
    model = files.output
    with replacing(files.output_statistics, PAIR) as statistics, written(model), staging(model) as folder:
        made = make(folder / model.name)
        pack_kept(statistics, replace(grown, seen=made.seen))
        flush(statistics)
        data = made.metadata.digests.data_file
        publish(folder / model.name, None if data is None else folder / data, model)
        return made


def _look(
    model: Path, images: Sequence[Path], old: Kept, reasons: frozenset[str], *, device: str, report: Report
) -> tuple[Intake, tuple[str, ...]]:
    """Sort the images, and return with them a sentence for each that cannot be read."""
    detector = Detector.load(model, device, threads=threads_for(len(images)))
    with report("looking", len(images)) as advance:
        looks = look(detector, images, advance)
    if not looks.paths:
        raise _nothing_readable(looks.unreadable)
    limit = detector.metadata.threshold

    def unusual(_: npt.NDArray[np.float64]) -> tuple[float, str]:
        return limit, f"above the threshold of {limit:.2f}"

    found = sort_out(looks, old.evidence.fingerprints, unusual, reasons)
    if not found.taken:
        raise nothing_taken(found, "some that are good and new to the model")
    return found, looks.unreadable


def _nothing_readable(unreadable: tuple[str, ...]) -> ImageError:
    first = f"; the first of them: {unreadable[0]}" if unreadable else ""
    return ImageError(f"there is no readable image to learn from, expected one or more{first}")


def _statistics_of(files: UpdateFiles, before: Metadata) -> Kept:
    def belongs(unfinished: Path) -> bool:
        try:
            return read_kept(unfinished).statistics.digest() == before.statistics
        except ArtifactError:
            return False

    settle(files.statistics, belongs)
    if not files.statistics.exists():
        raise ArtifactError(
            f"{files.statistics} does not exist, and update adds to the statistics that {files.model} was made from; "
            "name the file that padim-edge export --keep-statistics or the last update wrote with --statistics, or "
            "export again with --keep-statistics (padim-edge recalibrate sets a new threshold without them)"
        )
    kept = read_kept(files.statistics)
    if before.statistics is None or kept.statistics.digest() != before.statistics:
        raise ArtifactError(
            f"{files.statistics} was not kept with {files.model}; name the file that padim-edge export "
            "--keep-statistics or the last update wrote, or export again"
        )
    return kept


def _frames_of(images: Sequence[Path], kept: Kept, unreadable: dict[Path, str]) -> Frames:
    """Return a function that decodes some of the images; `unreadable` gains a sentence for each that it cannot read."""
    preprocessing = kept.recipe.method.preprocessing

    def decode(path: Path) -> npt.NDArray[np.uint8]:
        return image_files.prepare(image_files.read(path, levels=preprocessing.levels).image, preprocessing)

    def read(numbers: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        found = decoded([images[number] for number in numbers], decode, ahead=2 * BATCH)
        for number, (path, frame) in zip(numbers, found, strict=True):
            if isinstance(frame, ImageError):
                unreadable[path] = str(frame)
            else:
                yield number, frame

    return read
