"""The main job in Python: `fit` good images, then `Fitted.export` a model file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from padim_edge import plan
from padim_edge.datasets import Dataset, Source, from_source
from padim_edge.frames import numbered_frames
from padim_edge.gather import gather, require_enough
from padim_edge.model import Good, Model, check_output
from padim_edge.presets import preset as preset_of
from padim_edge.roi import read_roi
from padim_edge.settled import settled
from padim_edge.start import begin
from padim_edge.weighing import PLANTS, Compared, combination_of, compared
from padim_edge_artifact import Both, PadimEdgeError
from padim_edge_artifact.kept import Kept, read_kept, write_kept
from padim_edge_artifact.method import Method, Precision
from padim_edge_learn.assemble import ModelOptions, assemble
from padim_edge_learn.held_out import GoodImages
from padim_edge_model.calibration import check_rate
from padim_edge_runtime.progress import Feedback, feedback_of

__all__ = ["ExportOptions", "Fitted", "check_share", "fit", "fit_dataset", "load_fitted"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export that the fit leaves open."""

    precision: str | Precision | None = None
    """Number types and form of the Gaussians; `None` keeps the method's."""
    false_alarm_rate: float = 0.01
    """Share of good images that may raise an alarm, in (0, 1); sets the threshold."""
    roi: str | os.PathLike[str] | None = None
    """Image of the region to inspect, white inside, in the good images' own aspect; `None` inspects everything."""
    device: str = "cpu"
    """Device that judges the good images."""
    memory_share: float | None = None
    """Share of the memory beside Gaussians, 0 to 1; `None` lets planted defects choose it."""
    fast: bool = False
    """Whether no defects are drawn: Gaussians and memory count alike, and nothing says what the model sees."""


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """Gaussian statistics of good images, or a memory of them, ready to be exported as a model.

    It refers to the good images, because an export judges them to set the threshold.
    """

    kept: Kept
    """Statistics with the embedding graph and its origin."""
    dataset: Dataset
    """Data set whose good images were fitted on."""
    method: Method
    """Method of the fit, with the form of the Gaussians that was asked for."""
    weights: str | None
    """Source of the weights for another fit; `None` where the statistics came from a file."""
    unreadable: Mapping[str, str]
    """Error sentence of each image that could not be read and was left out, by its name."""
    seconds: float
    """Duration of the fit."""

    def __repr__(self) -> str:
        left_out = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return (
            f"<Fitted on {self.images} good images{left_out}: {self.method.backbone}, preset {self.method.preset}, "
            f"{self.method.precision}>"
        )

    @property
    def images(self) -> int:
        """Number of good images that were fitted on."""
        return self.kept.statistics.count

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics to a `.npz` file, for `load_fitted`, `padim-edge merge` and `padim-edge update`.

        Raises:
            PadimEdgeError: The file cannot be written.
        """
        write_kept(Path(path), self.kept)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        precision: str | Precision | None = None,
        false_alarm_rate: float = 0.01,
        roi: str | os.PathLike[str] | None = None,
        progress: bool | Feedback = True,
    ) -> Model:
        """Write a model: one ONNX file, with a `.data` file beside it where the constants are large.

        The good images are judged once more, and the scores that they have outside the fit set the threshold. A
        precision other than that of the fit changes the backbone, so the images are fitted again on the backbone in
        that precision.

        Args:
            path: The `.onnx` file. It is replaced only when all has succeeded.
            precision: `fp32`, `fp16` or `int8`, or a `Precision` with target and rank; `None` keeps that of the fit.
            false_alarm_rate: Share of good images that may raise an alarm, in (0, 1).
            roi: Image of the region to inspect, white inside, in the good images' own aspect.
            progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

        Raises:
            PadimEdgeError: A value is outside its range, the images of the fit cannot be read any more, or the file
                cannot be written.
        """
        return self.export_with(path, ExportOptions(precision, false_alarm_rate, roi), feedback_of(progress))

    def export_with(self, path: str | os.PathLike[str], options: ExportOptions, feedback: Feedback) -> Model:
        """Write a model as `export` does, with all options in one value."""
        start = time.perf_counter()
        output = Path(path)
        check_output(output)
        check_rate(options.false_alarm_rate)
        precision = _precision(options.precision, self.method.precision)
        if precision.numbers != self.kept.recipe.method.precision:
            return self._refitted(precision, options.device, feedback).export_with(path, options, feedback)
        require_enough(self.kept, self.unreadable)
        preprocessing = self.method.preprocessing
        inspected = None if options.roi is None else read_roi(Path(options.roi), preprocessing, self.dataset)
        readable = [item for item in self.dataset.good if item.name not in self.unreadable]
        unreadable = dict(self.unreadable)
        images = GoodImages(numbered_frames(readable, preprocessing, unreadable), len(readable))
        settings = ModelOptions(precision, self.kept.recipe.created_by, options.false_alarm_rate, inspected)
        seen = self._compared(images, settings, options, feedback)
        if seen is not None:
            if not len(seen.good):
                feedback.tell(
                    "no good image could be left out (too few, or repeats all over the list), so Gaussians and memory "
                    "count as they are, without a common unit"
                )
            settings = replace(settings, combination=combination_of(seen, weight=options.memory_share))
        found = assemble(self.kept, output, images, settings, device=options.device, report=feedback.report)
        kept = replace(self.kept, seen=found.seen, progress=None)
        seconds = self.seconds + time.perf_counter() - start
        return Model(
            output,
            found.bytes,
            found.metadata,
            kept,
            Good(tuple(readable), found.held),
            tuple(unreadable.values()),
            seconds,
            seen,
        )

    def _compared(
        self, images: GoodImages, settings: ModelOptions, options: ExportOptions, feedback: Feedback
    ) -> Compared | None:
        """Return what Gaussians and memory see of images that they do not know; `None` for one kind of distance."""
        check_share(self.method, options)
        if not isinstance(self.kept.statistics, Both):
            return None
        plan.require_memory_to_leave_out(self.kept)
        plants = 0 if options.fast else PLANTS
        return compared(self.kept, images, settings, plants=plants, device=options.device, report=feedback.report)

    def _refitted(self, precision: Precision, device: str, feedback: Feedback) -> Fitted:
        if self.weights is None:
            raise PadimEdgeError(
                f"the statistics were fitted in {self.kept.recipe.method.precision}, so the model cannot be in "
                f"{precision.name} for {precision.target}; leave the precision out, or fit again"
            )
        method = replace(self.method, precision=precision)
        return fit_dataset(self.dataset, method, weights=self.weights, device=device, feedback=feedback)


def fit(
    images: Source,
    preset: str | Method = "edge",
    *,
    class_name: str | None = None,
    weights: str | os.PathLike[str] = "auto",
    device: str = "cpu",
    progress: bool | Feedback = True,
) -> Fitted:
    """Fit good images: one Gaussian per patch, or a memory of prototypes.

    The memory that this needs does not depend on the number of images, as long as they are files, and prototypes are
    no share of their patches.

    Args:
        images: A folder of good images, a data set's folder, a CSV list or a video; or a list of paths; or an iterable
            of uint8 RGB arrays `(H, W, 3)`, which are kept in memory. `None` takes the built-in sample. Videos that are
            thinned otherwise, and images in named groups, come as a `Dataset` of `padim_edge.datasets.from_source`.
        preset: Key of `padim_edge.presets.PRESETS`, such as `edge` or `free`; or a `Method`, as `padim_edge.preset`
            makes it.
        class_name: Class to take from a data set of several, or name of the part.
        weights: `auto` (torchvision's weights, from its cache or a download), or the path of a weights file.
        device: Device that runs the backbone.
        progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        PadimEdgeError: Fewer than two images can be read, an option or the weights do not fit, or memory is too small.
    """
    dataset = from_source(images, class_name)
    if isinstance(preset, Method):
        method = preset
    else:
        method = preset_of(preset, backbone="builtin") if images is None else preset_of(preset)
    return fit_dataset(dataset, method, weights=os.fspath(weights), device=device, feedback=feedback_of(progress))


def fit_dataset(
    dataset: Dataset,
    method: Method,
    *,
    weights: str = "auto",
    device: str = "cpu",
    room_for: plan.Outputs | None = None,
    feedback: Feedback,
) -> Fitted:
    """Fit on the good images of a data set: the lower storey of `fit`.

    Args:
        dataset: Data set with good images.
        method: Method of the fit.
        weights: As in `fit`.
        device: As in `fit`.
        room_for: Files that will be written; their disks must have room. `None` checks memory only.
        feedback: Progress bars, and the function that is told what the fit needs.

    Raises:
        PadimEdgeError: As from `fit`; or the disk is too full.
    """
    start = time.perf_counter()
    method = settled(dataset, method, feedback.tell)
    empty = begin(dataset, method, weights, device=device, report=feedback.report)
    needed = plan.needs(empty, method.precision, len(dataset.good))
    feedback.tell(str(needed))
    plan.require_memory(needed)
    if room_for is not None:
        plan.require_room(needed, room_for)
    with feedback.report("fitting", len(dataset.good)) as advance:
        kept, unreadable = gather(empty, dataset.good, device=device, advance=advance)
    require_enough(kept, unreadable)
    return Fitted(kept, dataset, method, weights, unreadable, time.perf_counter() - start)


def load_fitted(path: str | os.PathLike[str], images: Source, *, class_name: str | None = None) -> Fitted:
    """Read statistics that `Fitted.save`, `padim-edge fit` or `padim-edge merge` wrote.

    Args:
        path: The `.npz` file.
        images: Good images that are in the statistics, all or some, in any form that `fit` takes. An export judges
            them to set the threshold.
        class_name: Class to take from a data set of several.

    Raises:
        ArtifactError: The file is missing, damaged or of another version.
        PadimEdgeError: The images are not found.
    """
    kept = read_kept(Path(path))
    return Fitted(kept, from_source(images, class_name), kept.recipe.method, None, {}, 0.0)


def check_share(method: Method, options: ExportOptions) -> None:
    """Refuse a share of the memory where there is none, or where there is nothing else.

    Raises:
        PadimEdgeError: The method has one kind of distance.
    """
    if options.memory_share is not None and method.beside is None:
        raise PadimEdgeError(
            f"--memory-share is for two kinds of distance, and preset {method.preset} has one; choose --preset auto, "
            "or leave it out"
        )


def _precision(asked: str | Precision | None, own: Precision) -> Precision:
    if asked is None:
        return own
    return asked if isinstance(asked, Precision) else Precision(asked, own.target)
