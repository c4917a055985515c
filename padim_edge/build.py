"""The main job: good pictures -> fitted, fused, calibrated, self-tested model file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.calibrate import growth, leave_one_out
from padim_edge.datasets import Dataset, Item
from padim_edge.fit import BATCH, batches, fit
from padim_edge.lower import OBSERVED, in_precision
from padim_edge.presets import Preset
from padim_edge.roi import read_roi
from padim_edge_artifact import ImageError, Metadata, PadimEdgeError, Preprocessing, Statistics, names, self_test
from padim_edge_artifact.calibration import calibrate, check_rate
from padim_edge_artifact.comparable import Observed
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_artifact.roi import to_runs
from padim_edge_export import embedding, onnx_file, tensorrt_rules
from padim_edge_export.backbones import Trunk
from padim_edge_export.embedding import EmbeddingGraph
from padim_edge_export.fused import MapStage, fuse, map_stage
from padim_edge_export.precision import TOLERANCES, Precision
from padim_edge_export.whitening import Form, form_of
from padim_edge_runtime import images
from padim_edge_runtime.prefetch import in_order
from padim_edge_runtime.providers import open_session

__all__ = ["FEWEST", "Built", "build", "check_output"]

FEWEST = 2
"""Good pictures without which there is no covariance."""

RULE = "leave-one-out scores of the good pictures that it was fitted on"
"""Where the threshold comes from, for people."""

Report = Callable[[str, int | None], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class Built:
    """What `build` made."""

    model: Path
    bytes: int
    """Of the model and its data file together."""
    metadata: Metadata
    statistics: Statistics
    scores: tuple[float, ...]
    """Of the good pictures in their order, as if each had been left out of the fit."""
    seconds: float
    unreadable: tuple[str, ...]
    """One sentence for each good picture that could not be read and was left out."""


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
    report: Report = lambda *_: nullcontext(lambda _: None),
) -> Built:
    """Fit, fuse, calibrate and write one model.

    Args:
        dataset: Its good pictures are used, nothing else.
        output: The `.onnx` file; constants go to `<output>.data`. Replaced only when all has succeeded.
        preset: The method.
        trunk: The backbone, as from `padim_edge_export.backbones.load`.
        precision: In which numbers the model computes, and how much of each Gaussian it keeps; exact float32 unless
            given. The Gaussians are fitted on the backbone in that precision.
        seed: Of the reduction, recorded in the metadata.
        false_alarm_rate: Share of good pictures that may raise an alarm, in (0, 1); sets the threshold.
        roi: Picture of the region of interest, white (above half) where to inspect, in the pictures' own aspect.
        device: Where the backbone runs while fitting.
        report: Gives a progress callback for a stage of the work and its number of steps.

    Raises:
        PadimEdgeError: Fewer than two readable pictures, or an output that cannot be written.
    """
    start = time.perf_counter()
    precision = precision or Precision()
    size = preset.preprocessing.size
    check_output(output)
    check_rate(false_alarm_rate)
    inspected = None if roi is None else read_roi(roi, preset.preprocessing, dataset)
    with report("exporting the backbone", None):
        graph = embedding.build(
            trunk,
            size,
            kind=preset.reduction,
            dims=preset.dims,
            seed=seed,
            pooling=preset.pooling,
            pool_patches=preset.pool_patches,
            shares=preset.shares,
        )
    with report(f"preparing {precision.name}", None):
        step = max(1, len(dataset.good) // OBSERVED)
        tried = _frames(dataset.good[::step][:OBSERVED], preset.preprocessing, {})
        graph = in_precision(graph, precision, tried, device)
    unreadable: dict[str, str] = {}
    with report("fitting", len(dataset.good)) as advance:
        observed = Observed(graph.grid)
        frames = _seen(_frames(dataset.good, preset.preprocessing, unreadable), observed.add)
        statistics = fit(
            embedding.joined(graph).SerializeToString(),
            _at_least(FEWEST, frames, unreadable),
            device=device,
            progress=advance,
        )
    readable = [item for item in dataset.good if item.name not in unreadable]
    with report("whitening", None):
        form = form_of(statistics, preset.ridge, graph.parts, precision)
        fused = fuse(graph, form, size, preset.sigma, inspected)
    if precision.target == "tensorrt":
        tensorrt_rules.require(fused.model)
    with onnx_file.staged(fused, output) as stage:
        del fused
        session = open_session(stage.path, device).session
        with report("calibrating", statistics.count) as advance:
            frames = _seen(_frames(readable, preset.preprocessing, {}), observed.add_shift)
            to_map = map_stage(size, graph.grid, preset.sigma, inspected)
            without = _Without(session, statistics.count, form, graph, precision, device)
            scores = _leave_one_out_scores(without, frames, to_map, advance)
        calibration = calibrate(scores)
        metadata = stage.finish(
            Metadata(
                class_name=dataset.class_name,
                created_by=f"padim-edge {version('padim-edge')}",
                preset=preset.name,
                preprocessing=preset.preprocessing,
                backbone=trunk.description,
                reduction=graph.reduction,
                pooling=preset.pooling,
                pool_patches=preset.pool_patches,
                ridge=preset.ridge,
                sigma=preset.sigma,
                grid=graph.grid,
                pictures=statistics.count,
                precision=precision.name,
                target=precision.target,
                rank=precision.rank,
                diagonal=precision.diagonal,
                threshold=calibration.threshold(false_alarm_rate),
                threshold_rule=RULE,
                false_alarm_rate=false_alarm_rate,
                extrapolated=false_alarm_rate < calibration.resolution,
                calibration=calibration,
                reference=observed.reference(),
                roi=None if inspected is None else to_runs(inspected),
                digests=Digests("", None, None, 0),
                self_test=_self_test(session, size, TOLERANCES[precision.name]),
            )
        )
        del session, without
    return Built(
        model=output,
        bytes=output.stat().st_size + metadata.digests.data_bytes,
        metadata=metadata,
        statistics=statistics,
        scores=tuple(scores.tolist()),
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


def _frames(
    items: Sequence[Item], preprocessing: Preprocessing, unreadable: dict[str, str]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The readable pictures in the model's frame, in order; the others' sentences go to `unreadable`, by name."""

    def load(item: Item) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return images.prepare(item.read().image, preprocessing)
        except ImageError as error:
            return error

    for item, frame in zip(items, in_order(load, items, ahead=2 * BATCH), strict=True):
        if isinstance(frame, ImageError):
            unreadable[item.name] = str(frame)
        else:
            yield frame


def _seen(
    frames: Iterator[npt.NDArray[np.uint8]], look: Callable[[npt.NDArray[np.uint8]], object]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The same frames, each looked at on its way."""
    for frame in frames:
        look(frame)
        yield frame


def _at_least(
    fewest: int, frames: Iterator[npt.NDArray[np.uint8]], unreadable: dict[str, str]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The same frames, or an error where there are fewer."""
    count = 0
    for frame in frames:
        count += 1
        yield frame
    if count < fewest:
        first = next(iter(unreadable.values()), "")
        raise PadimEdgeError(
            f"there {'is' if count == 1 else 'are'} {count} readable good picture{'' if count == 1 else 's'}, expected "
            f"at least {fewest}, better 20 or more" + (f"; of the others: {first}" if first else "; add pictures")
        )


class _Without:
    """Patch distances that pictures would have outside the fit, from the very graph that ships."""

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
            else open_session(embedding.joined(graph).SerializeToString(), device).session
        )

    def __call__(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """`(N, H, W, 3)` -> `(N, h, w)`."""
        feed = {names.IMAGE: frames}
        distance = self.session.run([names.PATCH_DISTANCE], feed)[0]
        if self.embedding is None:
            return leave_one_out(distance, self.count)
        return np.asarray(distance * growth(self.form, self.embedding.run([names.EMBEDDING], feed)[0], self.count))


def _leave_one_out_scores(
    without: _Without, frames: Iterator[npt.NDArray[np.uint8]], to_map: MapStage, progress: Callable[[int], object]
) -> npt.NDArray[np.float64]:
    """`(n,)` score that each good picture would have had outside the fit."""
    scores: list[npt.NDArray[np.float64]] = []
    for batch in batches(frames, BATCH):
        scores.append(to_map(without(np.stack(batch))).max(axis=(1, 2)))
        progress(len(batch))
    return np.concatenate(scores)


def _self_test(session: Any, size: tuple[int, int], tolerance: float) -> SelfTest:
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], {names.IMAGE: self_test.picture(size)[None]})
    samples = outputs[1][0][self_test.sample_points(size)]
    return SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), tolerance)
