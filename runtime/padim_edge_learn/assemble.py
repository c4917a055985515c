"""Kept statistics -> a model file: whitened, fused, calibrated by a second pass over good images, self-tested."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Both, Memory, Metadata, Preprocessing, names, self_test
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_artifact.method import Precision
from padim_edge_artifact.reference import Seen
from padim_edge_artifact.roi import to_runs
from padim_edge_learn.cross_validated import Refit, cross_validated
from padim_edge_learn.held_out import Beside, GoodImages, HeldOut, Shipped, judged
from padim_edge_learn.thresholds import history_with, rule_of_scores
from padim_edge_model import onnx_file, tensorrt_rules
from padim_edge_model.calibration import calibrate, expanded, representatives, threshold
from padim_edge_model.comparable import Observed, reference_of
from padim_edge_model.fused import Pair, fuse, map_stage
from padim_edge_model.graph import of_kept
from padim_edge_model.memory import Nearest, nearest_of
from padim_edge_model.repeats import groups_of, packed
from padim_edge_model.whitening import Form, form_of
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import Report, none

__all__ = ["RULE", "RULE_UPDATED", "TOLERANCES", "Assembled", "ModelOptions", "assemble", "constants_of", "options_of"]

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
    combination: Combination | None = None
    """Weights of Gaussians and memory; needed where the statistics hold both."""


def options_of(metadata: Metadata) -> ModelOptions:
    """Return the options that a model was made with."""
    return ModelOptions(
        metadata.precision,
        metadata.created_by,
        metadata.false_alarm_rate,
        None if metadata.roi is None else metadata.inspected,
        combination=metadata.combination,
    )


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
    before = options.before
    method = replace(kept.recipe.method, precision=options.precision)
    used = kept
    if isinstance(kept.statistics, Both):
        assert options.combination is not None, "both kinds of distance need their weights"
        if (left := options.combination.kept) is not None:
            used, method = kept.heads[left], method.heads[left]
    size = method.preprocessing.size
    graph, grid = of_kept(used), kept.statistics.grid
    with report("whitening" if used.recipe.method.bank is None else "choosing prototypes", None):
        form = constants_of(used, options)
        fused = fuse(graph, form, size, method.sigma, options.inspected, None if grid == graph.grid else grid)
        prototypes = _prototypes(form)
    if method.precision.target == "tensorrt":
        tensorrt_rules.require(fused.model)
    with onnx_file.staged(fused, output) as stage:
        del fused
        session = open_session(stage.path, device).session
        observed = Observed(kept.seen)
        outside = _outside(used, form, options, session, device, grid)
        del form  # which takes as much memory as the model
        held = outside(images, observed, report)
        calibration = _calibration(held, kept, before)
        metadata = stage.finish(
            Metadata(
                class_name=kept.recipe.class_name,
                created_by=options.created_by,
                method=method,
                backbone=used.recipe.backbone,
                reduction=used.recipe.reduction,
                grid=grid,
                images=kept.statistics.count,
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
                statistics=kept.statistics.digest(),
                independent=len(np.unique(groups_of(kept.evidence))) or kept.statistics.count,
                fingerprints=packed(kept.evidence.fingerprints),
                drift=1.0 if held.drift is None else round(held.drift.factor, 3),
                history=() if before is None else history_with(before, "update"),
                prototypes=prototypes,
                combination=options.combination,
            )
        )
        del session
    return Assembled(metadata, output.stat().st_size + metadata.digests.data_bytes, held, observed.seen)


def constants_of(kept: Kept, options: ModelOptions, without: Collection[int] = ()) -> Form | Nearest | Pair:
    """Compute the constants of the distance.

    Args:
        kept: Statistics of the kinds of distance that the model has.
        options: Options of the model.
        without: Folds of a memory that are left out.

    Raises:
        PadimEdgeError: Nothing is left of the memory, or it is not finite.
    """
    statistics, method = kept.statistics, kept.recipe.method
    if isinstance(statistics, Both):
        assert options.combination is not None
        gaussians, memory = (constants_of(head, options, without) for head in kept.heads)
        assert isinstance(memory, Nearest), "a memory stands beside the Gaussians"
        assert not isinstance(gaussians, Nearest | Pair), "Gaussians come first"
        return Pair(gaussians, memory, options.combination.factors)
    if isinstance(statistics, Memory):
        return nearest_of(statistics, method, without)
    return form_of(statistics, method.ridge, of_kept(kept).parts, options.precision)


def _prototypes(form: Form | Nearest | Pair) -> int | None:
    memory = form.memory if isinstance(form, Pair) else form
    return len(memory.prototypes) if isinstance(memory, Nearest) else None


def _outside(
    kept: Kept,
    form: Form | Nearest | Pair,
    options: ModelOptions,
    session: Any,
    device: str,
    grid: tuple[int, int],
) -> Callable[[GoodImages, Observed, Report], HeldOut]:
    """Return a function that judges good images as if they had not been fitted on.

    It holds the constants only where it needs them, since they take as much memory as the model.
    """
    if isinstance(form, Nearest):
        return lambda images, observed, report: cross_validated(
            kept, images, _refit(kept, options, device, grid), observed, report
        )
    factors, memory, position = None, kept, kept
    if isinstance(form, Pair):
        factors, form = form.factors, form.gaussians
        position, memory = kept.heads
    method, precision = position.recipe.method, options.precision
    to_map = map_stage(method.preprocessing.size, of_kept(position).grid, method.sigma, options.inspected)
    rounded = not precision.exact or precision.name != "fp32"
    shipped = Shipped(position, session, form if rounded else None, precision, to_map, device)

    def both(images: GoodImages, observed: Observed, report: Report) -> HeldOut:
        if factors is None:
            return judged(shipped, images, observed, report)
        distances: dict[int, npt.NDArray[np.float32]] = {}
        looked = Observed(memory.seen)  # `judged` looks at the images once more
        cross_validated(memory, images, _refit(memory, options, device), looked, report, distances)
        return judged(replace(shipped, beside=Beside(distances, factors)), images, observed, report)

    return both


def _refit(kept: Kept, options: ModelOptions, device: str, grid: tuple[int, int] | None = None) -> Refit:
    """Return a function that opens the model of a memory without some folds, its distances spread to a grid."""
    graph, method = of_kept(kept), kept.recipe.method
    spread = None if grid == graph.grid else grid

    def refit(left_out: frozenset[int]) -> Any:
        form = constants_of(kept, options, left_out)
        fused = fuse(graph, form, method.preprocessing.size, method.sigma, options.inspected, spread)
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
    feed = {preprocessing.input_name: self_test.probe_image(preprocessing.input_size)[None]}
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], feed)
    samples = outputs[1][0][self_test.sample_points(preprocessing.size)]
    return SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), tolerance)
