"""Kept statistics -> a model file: whitened, fused, calibrated by a second pass over good images, self-tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Metadata, PadimEdgeError, Preprocessing, names, self_test
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_artifact.method import Precision
from padim_edge_artifact.reference import Seen
from padim_edge_artifact.roi import to_runs
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_model import onnx_file, tensorrt_rules
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_model.comparable import Observed, reference_of
from padim_edge_model.fused import MapStage, fuse, map_stage
from padim_edge_model.graph import EmbeddingGraph, joined, of_kept
from padim_edge_model.leave_one_out import growth, leave_one_out
from padim_edge_model.whitening import Form, form_of
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import Report, none

__all__ = ["RULE", "RULE_UPDATED", "TOLERANCES", "Assembled", "GoodImages", "ModelOptions", "assemble"]

RULE = "leave-one-out scores of the good images that it was fitted on"
"""Source of the threshold of an export, in words."""

RULE_UPDATED = "leave-one-out scores of the good images of its updates; and before them, "
"""Source of the threshold of an update, in words; the rule of the model before follows."""

TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": 3e-2}
"""Relative difference that other machines and execution providers may show in the self-test. The measured differences
between x86 and ARM64 are in benchmarks/README.md; no GPU has been measured. x86 computes fp16 models in float32, ARM
and GPUs in float16. In int8, a sum between two codes may be rounded to either by another kernel."""


@dataclass(frozen=True, eq=False)
class GoodImages:
    """Good images for the calibration, all or some of those that were fitted on."""

    frames: Iterator[npt.NDArray[np.uint8]]
    """Images in the model's frame, `(H, W, 3)` uint8; read once."""
    count: int
    """Expected number of images, for the progress bar."""


@dataclass(frozen=True, eq=False)
class ModelOptions:
    """Options of a model that its statistics leave open."""

    precision: Precision
    """Form of the Gaussians; its number types must be those that the statistics were fitted in."""
    created_by: str
    """Name and version of the program."""
    false_alarm_rate: float = 0.01
    """Share of good images that may raise an alarm, in (0, 1)."""
    inspected: npt.NDArray[np.bool_] | None = None
    """`(H, W)` region of interest, True inside; `None` inspects the whole frame."""
    before: Metadata | None = None
    """Metadata of the model that this one is an update of; its calibration scores are counted in."""


@dataclass(frozen=True)
class Assembled:
    """Outcome of `assemble`."""

    metadata: Metadata
    """Metadata of the model that was written."""
    bytes: int
    """Size of the model and its data file together."""
    scores: tuple[float, ...]
    """Leave-one-out scores of the calibration images, in their order."""
    seen: Seen
    """Look of the good images, with the shifts of the calibration images."""


def assemble(
    kept: Kept,
    output: Path,
    images: GoodImages,
    options: ModelOptions,
    *,
    device: str = "cpu",
    report: Report = none,
) -> Assembled:
    """Write one model.

    Args:
        kept: Statistics and their origin.
        output: The `.onnx` file; constants go to `<output>.data`. It is replaced only when all has succeeded.
        images: Good images that are in the fit; they set the threshold.
        options: Options that the statistics leave open.
        device: Device that judges the images.
        report: Progress bar for each stage.

    Raises:
        PadimEdgeError: The statistics hold fewer than two images, no image can be read to calibrate with, the target
            does not take the graph, or the output cannot be written.
    """
    recipe, statistics, before = kept.recipe, kept.statistics, options.before
    method = replace(recipe.method, precision=options.precision)
    size = method.preprocessing.size
    graph = of_kept(kept)
    with report("whitening", None):
        form = form_of(statistics, method.ridge, graph.parts, method.precision)
        fused = fuse(graph, form, size, method.sigma, options.inspected)
    if method.precision.target == "tensorrt":
        tensorrt_rules.require(fused.model)
    with onnx_file.staged(fused, output) as stage:
        del fused
        session = open_session(stage.path, device).session
        with report("calibrating", images.count) as advance:
            observed = Observed(kept.seen)
            to_map = map_stage(size, graph.grid, method.sigma, options.inspected)
            without = _Without(session, statistics.count, form, graph, method.precision, device)
            passing = batches(
                looked_at(images.frames, observed.compare), side_by_side(method.preprocessing.input_size)
            )
            scores = _leave_one_out_scores(without, passing, to_map, observed, advance)
        if not len(scores):
            raise PadimEdgeError("none of the good images can be read; expected some of those that were fitted on")
        calibration = calibrate(scores if before is None else np.concatenate([_expanded(before.calibration), scores]))
        metadata = stage.finish(
            Metadata(
                class_name=recipe.class_name,
                created_by=options.created_by,
                method=method,
                backbone=recipe.backbone,
                reduction=recipe.reduction,
                grid=graph.grid,
                images=statistics.count,
                threshold=threshold(calibration, options.false_alarm_rate),
                threshold_rule=RULE if before is None else _updated(before.threshold_rule),
                false_alarm_rate=options.false_alarm_rate,
                extrapolated=options.false_alarm_rate < calibration.resolution,
                calibration=calibration,
                reference=reference_of(observed.seen),
                roi=None if options.inspected is None else to_runs(options.inspected),
                digests=Digests("", None, None, 0),
                self_test=_self_test(session, method.preprocessing, TOLERANCES[method.precision.name]),
                revision=1 if before is None else before.revision + 1,
                parent=None if before is None else before.digests.model,
                statistics=statistics.digest(),
            )
        )
        del session, without
    return Assembled(
        metadata, output.stat().st_size + metadata.digests.data_bytes, tuple(scores.tolist()), observed.seen
    )


def looked_at(
    frames: Iterator[npt.NDArray[np.uint8]], look: Callable[[npt.NDArray[np.uint8]], object]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Pass the frames on, and call `look` with each of them on its way."""
    for frame in frames:
        look(frame)
        yield frame


def _updated(rule: str) -> str:
    return rule if rule.startswith(RULE_UPDATED) else RULE_UPDATED + rule


def _expanded(calibration: Calibration) -> npt.NDArray[np.float64]:
    """Return one score per image, also where only quantiles were kept."""
    scores = np.array(calibration.scores)
    if len(scores) == calibration.images:
        return scores
    at = np.linspace(0, 1, calibration.images)
    return np.asarray(np.interp(at, np.linspace(0, 1, len(scores)), scores))


class _Without:
    """Patch distances that images would have outside the fit, computed from the graph that ships."""

    def __init__(
        self,
        session: Any,
        count: int,
        form: Form,
        graph: EmbeddingGraph,
        precision: Precision,
        device: str,
    ) -> None:
        self.session, self.count, self.form = session, count, form
        self.embedding = (
            None
            if precision.exact and precision.name == "fp32"
            else open_session(joined(graph).SerializeToString(), device).session
        )

    def __call__(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute `(N, h, w)` distances of frames `(N, H, W, 3)`."""
        feed = {names.IMAGE: frames}
        distance = self.session.run([names.PATCH_DISTANCE], feed)[0]
        if self.embedding is None:
            return leave_one_out(distance, self.count)
        return np.asarray(distance * growth(self.form, self.embedding.run([names.EMBEDDING], feed)[0], self.count))


def _leave_one_out_scores(
    without: _Without,
    frames: Iterator[list[npt.NDArray[np.uint8]]],
    to_map: MapStage,
    observed: Observed,
    progress: Callable[[int], object],
) -> npt.NDArray[np.float64]:
    """Compute the score `(n,)` that each good image would have had outside the fit; their distances are observed."""
    scores: list[npt.NDArray[np.float64]] = [np.empty(0)]
    for batch in frames:
        distances = without(np.stack(batch))
        observed.add_distances(distances)
        scores.append(to_map(distances).max(axis=(1, 2)))
        progress(len(batch))
    return np.concatenate(scores)


def _self_test(session: Any, preprocessing: Preprocessing, tolerance: float) -> SelfTest:
    feed = {names.IMAGE: self_test.probe_image(preprocessing.input_size)[None]}
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], feed)
    samples = outputs[1][0][self_test.sample_points(preprocessing.size)]
    return SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), tolerance)
