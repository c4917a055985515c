"""The main job: good images -> fitted, fused, calibrated, self-tested model file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge import gather, plan
from padim_edge.datasets import Dataset, Item
from padim_edge.presets import Preset
from padim_edge.roi import read_roi
from padim_edge_artifact import Metadata, PadimEdgeError, Statistics
from padim_edge_artifact.calibration import check_rate
from padim_edge_artifact.kept import Kept
from padim_edge_export.backbones import Trunk
from padim_edge_learn.assemble import Report, assemble, silent
from padim_edge_model.precision import Precision

__all__ = ["FEWEST", "Built", "build", "build_from", "check_output"]

FEWEST = 2
"""Good images without which there is no covariance."""


@dataclass(frozen=True)
class Built:
    """What `build` made."""

    model: Path
    bytes: int
    """Of the model and its data file together."""
    metadata: Metadata
    kept: Kept
    """The statistics, and all that is needed to go on with them."""
    scores: tuple[float, ...]
    """Of the good images in their order, as if each had been left out of the fit."""
    seconds: float
    unreadable: tuple[str, ...]
    """One sentence for each good image that could not be read and was left out."""

    @property
    def statistics(self) -> Statistics:
        """Of all patches."""
        return self.kept.statistics


def build(
    dataset: Dataset,
    output: Path,
    preset: Preset,
    trunk: Trunk,
    *,
    precision: Precision | None = None,
    seed: int = 0,
    false_alarm_rate: float = 0.01,
    roi: Path | None = None,
    device: str = "cpu",
    report: Report = silent,
    tell: Callable[[str], object] = lambda _: None,
) -> Built:
    """Fit, fuse, calibrate and write one model.

    Args:
        dataset: Its good images are used, nothing else.
        output: The `.onnx` file; constants go to `<output>.data`. Replaced only when all has succeeded.
        preset: The method.
        trunk: The backbone, as from `padim_edge_export.backbones.load`.
        precision: In which numbers the model computes, and how much of each Gaussian it keeps; exact float32 unless
            given. The Gaussians are fitted on the backbone in that precision.
        seed: Of the reduction, recorded in the metadata.
        false_alarm_rate: Share of good images that may raise an alarm, in (0, 1); sets the threshold.
        roi: Image of the region of interest, white (above half) where to inspect, in the images' own aspect.
        device: Where the backbone runs while fitting.
        report: Gives a progress callback for a stage of the work and its number of steps.
        tell: Called with a sentence on the memory and room that it needs, before the fit.

    Raises:
        PadimEdgeError: Fewer than two readable images, too little memory, or an output that cannot be written.
    """
    start = time.perf_counter()
    precision = precision or Precision()
    check_output(output)
    check_rate(false_alarm_rate)
    inspected = None if roi is None else read_roi(roi, preset.preprocessing, dataset)
    empty = gather.begin(dataset, preset, trunk, precision=precision, seed=seed, device=device, report=report)
    needed = plan.needs(empty, precision, len(dataset.good))
    tell(str(needed))
    plan.require(needed, output)
    with report("fitting", len(dataset.good)) as advance:
        kept, unreadable = gather.gather(empty, dataset.good, device=device, advance=advance)
    if kept.statistics.count < FEWEST:
        raise gather.few(kept.statistics.count, FEWEST, unreadable)
    readable = [item for item in dataset.good if item.name not in unreadable]
    return _finish(kept, readable, unreadable, output, precision, false_alarm_rate, inspected, device, report, start)


def build_from(
    kept: Kept,
    dataset: Dataset,
    output: Path,
    *,
    precision: Precision | None = None,
    false_alarm_rate: float = 0.01,
    roi: Path | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> Built:
    """Write a model from kept statistics, without fitting.

    Args:
        kept: The statistics.
        dataset: Its good images set the threshold; they must be among those that were fitted on, all or some.
        output: As in `build`.
        precision: How much of each Gaussian to keep; its numbers must be those that `kept` was fitted in, which are
            taken unless it is given.
        false_alarm_rate: As in `build`.
        roi: As in `build`.
        device: Where to judge the good images.
        report: As in `build`.

    Raises:
        PadimEdgeError: Another precision than that of `kept`, fewer than two images in the statistics, no readable
            image to calibrate with, or an output that cannot be written.
    """
    start = time.perf_counter()
    recipe = kept.recipe
    own = Precision(recipe.precision, recipe.target)
    precision = precision or own
    if (precision.name, precision.target) != (own.name, own.target):
        raise PadimEdgeError(
            f"the statistics were fitted in {own}, so the model cannot be in {precision.name} for {precision.target}; "
            "leave --precision and --target out, or fit again"
        )
    check_output(output)
    check_rate(false_alarm_rate)
    if kept.statistics.count < FEWEST:
        raise gather.few(kept.statistics.count, FEWEST, {})
    inspected = None if roi is None else read_roi(roi, recipe.preprocessing, dataset)
    return _finish(kept, dataset.good, {}, output, precision, false_alarm_rate, inspected, device, report, start)


def _finish(
    kept: Kept,
    items: Sequence[Item],
    unreadable: dict[str, str],
    output: Path,
    precision: Precision,
    false_alarm_rate: float,
    inspected: npt.NDArray[np.bool_] | None,
    device: str,
    report: Report,
    start: float,
) -> Built:
    found = assemble(
        kept,
        output,
        gather.frames(items, kept.recipe.preprocessing, unreadable),
        len(items),
        precision=precision,
        false_alarm_rate=false_alarm_rate,
        created_by=kept.recipe.created_by,
        inspected=inspected,
        device=device,
        report=report,
    )
    return Built(
        model=output,
        bytes=found.bytes,
        metadata=found.metadata,
        kept=Kept(kept.recipe, kept.graph, kept.statistics, found.seen),
        scores=found.scores,
        seconds=time.perf_counter() - start,
        unreadable=tuple(unreadable.values()),
    )


def check_output(output: Path) -> None:
    """Fail before minutes of work, not after them."""
    if output.suffix != ".onnx":
        raise PadimEdgeError(f"--output is {output}, expected a name that ends in .onnx")
    if not output.parent.is_dir():
        raise PadimEdgeError(f"the folder {output.parent} of --output does not exist; make it or choose another one")
    if output.is_dir():
        raise PadimEdgeError(f"--output {output} is a folder, expected the name of a file")
