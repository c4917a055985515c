"""Kept statistics -> a model file: whitened, fused, calibrated by a second pass over good images, self-tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Metadata, PadimEdgeError, Preprocessing, names, self_test
from padim_edge_artifact.calibration import Calibration, calibrate
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_artifact.roi import to_runs
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_model import onnx_file, tensorrt_rules
from padim_edge_model.comparable import Observed, Seen
from padim_edge_model.fused import MapStage, fuse, map_stage
from padim_edge_model.graph import EmbeddingGraph, joined, of_kept
from padim_edge_model.leave_one_out import growth, leave_one_out
from padim_edge_model.precision import TOLERANCES, Precision
from padim_edge_model.whitening import Form, form_of
from padim_edge_runtime.devices.providers import open_session

__all__ = ["RULE", "RULE_UPDATED", "Assembled", "Report", "assemble", "silent"]

RULE = "leave-one-out scores of the good images that it was fitted on"
"""Where the threshold comes from, for people."""

RULE_UPDATED = "leave-one-out scores of the good images of its updates; and before them, "
"""The same of an update, which the rule of what was updated follows."""

Report = Callable[[str, int | None], AbstractContextManager[Callable[[int], object]]]
"""Gives a progress callback for a stage of the work and its number of steps."""

Frames = Iterator[npt.NDArray[np.uint8]]


def silent(_: str, __: int | None) -> AbstractContextManager[Callable[[int], object]]:
    """Reports nothing."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Assembled:
    """What `assemble` made."""

    metadata: Metadata
    bytes: int
    """Of the model and its data file together."""
    scores: tuple[float, ...]
    """Of the images of the second pass in their order, as if each had been left out of the fit."""
    seen: Seen
    """With their shifts."""


def assemble(
    kept: Kept,
    output: Path,
    frames: Frames,
    count: int,
    *,
    precision: Precision,
    false_alarm_rate: float,
    created_by: str,
    inspected: npt.NDArray[np.bool_] | None = None,
    before: Metadata | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> Assembled:
    """Write one model.

    Args:
        kept: What was fitted, and how.
        output: The `.onnx` file; constants go to `<output>.data`. Replaced only when all has succeeded.
        frames: `(H, W, 3)` uint8 good images that are in the fit, in the model's frame; they set the threshold.
        count: How many, for the progress bar.
        precision: The form of the Gaussians is its to choose; its numbers must be those of `kept`.
        false_alarm_rate: Share of good images that may raise an alarm, in (0, 1).
        created_by: Name and version of the program.
        inspected: `(H, W)` region of interest.
        before: Of the model that this one is an update of; its calibration scores are counted in.
        device: Where to judge the images.
        report: Of the stages.

    Raises:
        PadimEdgeError: Fewer than two images in the statistics, none to calibrate with, a graph that the target does
            not take, or an output that cannot be written.
    """
    recipe, statistics = kept.recipe, kept.statistics
    size = recipe.preprocessing.size
    graph = of_kept(kept)
    with report("whitening", None):
        form = form_of(statistics, recipe.ridge, graph.parts, precision)
        fused = fuse(graph, form, size, recipe.sigma, inspected)
    if precision.target == "tensorrt":
        tensorrt_rules.require(fused.model)
    with onnx_file.staged(fused, output) as stage:
        del fused
        session = open_session(stage.path, device).session
        with report("calibrating", count) as advance:
            observed = Observed(kept.seen)
            to_map = map_stage(size, graph.grid, recipe.sigma, inspected)
            without = _Without(session, statistics.count, form, graph, precision, device)
            passing = batches(_seen(frames, observed.add_shift), side_by_side(recipe.preprocessing.input_size))
            scores = _leave_one_out_scores(without, passing, to_map, advance)
        if not len(scores):
            raise PadimEdgeError("none of the good images can be read; expected some of those that were fitted on")
        calibration = calibrate(scores if before is None else np.concatenate([_expanded(before.calibration), scores]))
        metadata = stage.finish(
            Metadata(
                class_name=recipe.class_name,
                created_by=created_by,
                preset=recipe.preset,
                preprocessing=recipe.preprocessing,
                backbone=recipe.backbone,
                reduction=recipe.reduction,
                pooling=recipe.pooling,
                pool_patches=recipe.pool_patches,
                ridge=recipe.ridge,
                sigma=recipe.sigma,
                grid=graph.grid,
                images=statistics.count,
                precision=precision.name,
                target=precision.target,
                rank=precision.rank,
                diagonal=precision.diagonal,
                threshold=calibration.threshold(false_alarm_rate),
                threshold_rule=RULE if before is None else _updated(before.threshold_rule),
                false_alarm_rate=false_alarm_rate,
                extrapolated=false_alarm_rate < calibration.resolution,
                calibration=calibration,
                reference=observed.seen.reference(),
                roi=None if inspected is None else to_runs(inspected),
                digests=Digests("", None, None, 0),
                self_test=_self_test(session, recipe.preprocessing, TOLERANCES[precision.name]),
                revision=1 if before is None else before.revision + 1,
                parent=None if before is None else before.digests.model,
                statistics=statistics.digest(),
            )
        )
        del session, without
    return Assembled(
        metadata, output.stat().st_size + metadata.digests.data_bytes, tuple(scores.tolist()), observed.seen
    )


def _seen(frames: Frames, look: Callable[[npt.NDArray[np.uint8]], object]) -> Frames:
    """The same frames, each looked at on its way."""
    for frame in frames:
        look(frame)
        yield frame


def _updated(rule: str) -> str:
    return rule if rule.startswith(RULE_UPDATED) else RULE_UPDATED + rule


def _expanded(calibration: Calibration) -> npt.NDArray[np.float64]:
    """One score an image, also where only quantiles of them were kept."""
    scores = np.array(calibration.scores)
    if len(scores) == calibration.images:
        return scores
    at = np.linspace(0, 1, calibration.images)
    return np.asarray(np.interp(at, np.linspace(0, 1, len(scores)), scores))


class _Without:
    """Patch distances that images would have outside the fit, from the very graph that ships."""

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
        exact = precision.rank is None and not precision.diagonal
        self.embedding = (
            None
            if exact and precision.name == "fp32"
            else open_session(joined(graph).SerializeToString(), device).session
        )

    def __call__(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """`(N, H, W, 3)` -> `(N, h, w)`."""
        feed = {names.IMAGE: frames}
        distance = self.session.run([names.PATCH_DISTANCE], feed)[0]
        if self.embedding is None:
            return leave_one_out(distance, self.count)
        return np.asarray(distance * growth(self.form, self.embedding.run([names.EMBEDDING], feed)[0], self.count))


def _leave_one_out_scores(
    without: _Without,
    frames: Iterator[list[npt.NDArray[np.uint8]]],
    to_map: MapStage,
    progress: Callable[[int], object],
) -> npt.NDArray[np.float64]:
    """`(n,)` score that each good image would have had outside the fit."""
    scores: list[npt.NDArray[np.float64]] = [np.empty(0)]
    for batch in frames:
        scores.append(to_map(without(np.stack(batch))).max(axis=(1, 2)))
        progress(len(batch))
    return np.concatenate(scores)


def _self_test(session: Any, preprocessing: Preprocessing, tolerance: float) -> SelfTest:
    feed = {names.IMAGE: self_test.probe_image(preprocessing.input_size)[None]}
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], feed)
    samples = outputs[1][0][self_test.sample_points(preprocessing.size)]
    return SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), tolerance)
