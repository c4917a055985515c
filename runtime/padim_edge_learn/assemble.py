"""Kept statistics -> a model file: whitened, fused, calibrated by a second pass over good images, self-tested."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Memory, Metadata, Preprocessing, Statistics, names, self_test
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_artifact.method import Method, Precision
from padim_edge_artifact.reference import Seen
from padim_edge_artifact.roi import to_runs
from padim_edge_learn.cross_validated import Refit, cross_validated
from padim_edge_learn.held_out import GoodImages, HeldOut, Shipped, judged
from padim_edge_learn.thresholds import history_with, rule_of_scores
from padim_edge_model import onnx_file, tensorrt_rules
from padim_edge_model.calibration import calibrate, expanded, representatives, threshold
from padim_edge_model.comparable import Observed, reference_of
from padim_edge_model.fused import fuse, map_stage
from padim_edge_model.graph import EmbeddingGraph, of_kept
from padim_edge_model.memory import Nearest, nearest_of
from padim_edge_model.repeats import groups_of, packed
from padim_edge_model.whitening import Form, form_of
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import Report, none

__all__ = ["RULE", "RULE_UPDATED", "TOLERANCES", "Assembled", "ModelOptions", "assemble"]

RULE = "good images that it was fitted on, each judged as if it and its repeats were not"
"""Source of the threshold of an export, in words."""

RULE_UPDATED = "good images of its updates, judged likewise; and before them, "
"""Source of the threshold of an update, in words; the rule of the model before follows."""

TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": 3e-2}
"""Relative difference that other machines and execution providers may show in the self-test. The measured differences
between x86 and ARM64 are in benchmarks/README.md; no GPU has been measured. x86 computes fp16 models in float32, ARM
and GPUs in float16. In int8, a sum between two codes may be rounded to either by another kernel."""


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


@dataclass(frozen=True, eq=False)
class Assembled:
    """Outcome of `assemble`."""

    metadata: Metadata
    """Metadata of the model that was written."""
    bytes: int
    """Size of the model and its data file together."""
    held: HeldOut
    """Scores of the good images outside the fit."""
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
    with report("whitening" if method.bank is None else "choosing prototypes", None):
        form = _form(statistics, method, graph)
        fused = fuse(graph, form, size, method.sigma, options.inspected)
        prototypes = len(form.prototypes) if isinstance(form, Nearest) else None
    if method.precision.target == "tensorrt":
        tensorrt_rules.require(fused.model)
    with onnx_file.staged(fused, output) as stage:
        del fused
        session = open_session(stage.path, device).session
        observed = Observed(kept.seen)
        if isinstance(form, Nearest):
            held = cross_validated(kept, images, _refit(kept, method, options, device), observed, report)
        else:
            to_map = map_stage(size, graph.grid, method.sigma, options.inspected)
            rounded = not method.precision.exact or method.precision.name != "fp32"
            shipped = Shipped(kept, session, form if rounded else None, method.precision, to_map, device)
            del form  # which takes as much memory as the model
            held = judged(shipped, images, observed, report)
        calibration = _calibration(held, kept, before)
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
                threshold_rule=RULE if before is None else _updated(rule_of_scores(before)),
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
                independent=len(np.unique(groups_of(kept.evidence))) or statistics.count,
                fingerprints=packed(kept.evidence.fingerprints),
                drift=1.0 if held.drift is None else round(held.drift.factor, 3),
                history=() if before is None else history_with(before, "update"),
                prototypes=prototypes,
            )
        )
        del session
    return Assembled(metadata, output.stat().st_size + metadata.digests.data_bytes, held, observed.seen)


def _form(
    statistics: Statistics | Memory, method: Method, graph: EmbeddingGraph, without: Collection[int] = ()
) -> Form | Nearest:
    """Compute the constants of the distance; of a memory, without some folds."""
    if isinstance(statistics, Memory):
        return nearest_of(statistics, method, without)
    return form_of(statistics, method.ridge, graph.parts, method.precision)


def _refit(kept: Kept, method: Method, options: ModelOptions, device: str) -> Refit:
    """Return a function that opens the model of a memory without some folds."""
    graph = of_kept(kept)

    def refit(left_out: frozenset[int]) -> Any:
        form = _form(kept.statistics, method, graph, left_out)
        fused = fuse(graph, form, method.preprocessing.size, method.sigma, options.inspected)
        return open_session(onnx_file.whole(fused), device).session

    return refit


def _updated(rule: str) -> str:
    return rule if rule.startswith(RULE_UPDATED) else RULE_UPDATED + rule


def _calibration(held: HeldOut, kept: Kept, before: Metadata | None) -> Calibration:
    """Return the scores behind the threshold: of independent images, with those of the model before the update."""
    if before is None:
        return calibrate(held.scores, held.groups)
    groups = groups_of(kept.evidence)
    old = set(groups[: before.images].tolist())
    new = np.array([group not in old for group in held.groups], np.bool_)  # repeats of old images are nothing new
    earlier = expanded(before.calibration)
    if not new.any():
        return calibrate(earlier)
    return calibrate(np.concatenate([earlier, representatives(held.scores[new], held.groups[new])]))


def _self_test(session: Any, preprocessing: Preprocessing, tolerance: float) -> SelfTest:
    feed = {names.IMAGE: self_test.probe_image(preprocessing.input_size)[None]}
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], feed)
    samples = outputs[1][0][self_test.sample_points(preprocessing.size)]
    return SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), tolerance)
