"""Measure the time of one image in the model, and the backbone's own part of it.

All variants are opened first and take turns. Ratios to the bare backbone of the same run are what to compare, because
milliseconds belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks import report
from benchmarks.images import SIDE, Source, frames, probe_image, sample
from benchmarks.quiet import REST, Turns, take_turns
from padim_edge_runtime.bench.footprint import LEAD, WARM_UP

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from padim_edge_artifact.method import Method

    Pixels = npt.NDArray[np.uint8]

BARE = "backbone, three layers"
LAST = "backbone, last layer"
EMBEDDING = "embedding graph"
SESSION = "model, session"
DETECTOR = "model, Detector"
COMPARISON = "shift and exposure"
OWN = "int8, its own frame"
ARRAY = f"int8, {SIDE} x {SIDE} array"
RAW = f"int8, {SIDE} x {SIDE} in the graph"

QUICK = "edge"
"""Preset whose int8 model also judges large images."""

TARGET = 1.8
"""Largest ratio of the `edge` model's time to that of the bare ResNet-18."""
FRAME_TARGET = 1.6
"""Largest ratio of the time from a large array to the verdict, to that from a frame of the model's own size."""

Call = Callable[[], object]

K = TypeVar("K")


@dataclass(frozen=True)
class Variant:
    """One thing that is timed."""

    backbone: str
    """Name of the backbone."""
    preset: str
    """Name of the preset; blank for a bare backbone."""
    what: str
    """Part of the way from pixels to decision."""


@dataclass(frozen=True)
class Timing:
    """Times of one variant."""

    variant: Variant
    """The variant."""
    median: float
    """Median in milliseconds."""
    p10: float
    """Tenth percentile in milliseconds."""
    p90: float
    """Ninetieth percentile in milliseconds."""
    ratio: float
    """Median over the bare backbone's median."""
    ratio_p10: float
    """Ratio of the tenth percentiles, which other programs on the machine hardly touch."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", type=report.names, default=("resnet18", "builtin"), help="comma-separated")
    parser.add_argument(
        "--preset", type=report.names, default=("paper", "edge", "accurate", "free"), help="comma-separated"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of resnet18; random unless given")
    parser.add_argument("--threads", type=int, default=2, help="threads of onnxruntime, for all variants")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls of each variant")
    parser.add_argument("--lead", type=int, default=LEAD, help="untimed calls right before each timed one")
    parser.add_argument("--patience", type=float, default=240, help="seconds to wait for quiet rounds")
    parser.add_argument("--images", type=int, default=24, help="sample images that the models are fitted on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, options.preset)

    packages = ("padim-edge", "numpy", "onnxruntime", "onnx", "torch")
    environment = report.probe(packages, threads=options.threads)
    report.print_header("latency of one image, CPU", environment)
    with tempfile.TemporaryDirectory() as folder:
        calls = open_all(options, Path(folder))
        measured = measure(calls, options.rounds, lead=options.lead, patience=options.patience)
        del calls  # closes the models' files before their folder goes
    timings = summarise(measured.found)
    print(
        f"{options.rounds} of {measured.rounds} rounds used; other processes took {100 * measured.others:.1f} % of the "
        "processor time in them"
    )
    targets = targets_of(timings)
    report.print_table(
        ("backbone", "preset", "what", "median ms", "p10", "p90", "ratio", "ratio of p10"),
        [
            (
                *dataclasses.astuple(each.variant),
                *(f"{value:.2f}" for value in (each.median, each.p10, each.p90)),
                *(f"{value:.2f}" for value in (each.ratio, each.ratio_p10)),
            )
            for each in timings
        ],
        words=3,
    )
    report.print_targets(targets)
    settings = {
        "weights": options.weights.name if options.weights else "random",
        "rounds": options.rounds,
        "lead": options.lead,
        "images": options.images,
        "rounds_taken": measured.rounds,
        "others_share": round(measured.others, 4),
    }
    report.write_json(options.json, "latency", environment, settings, [_row(each) for each in timings], targets)


def open_all(options: argparse.Namespace, folder: Path) -> dict[Variant, Call]:
    """Build every model and open every session; each call judges the same sample image."""
    from benchmarks.networks import weights_for
    from padim_edge.presets import preset

    calls: dict[Variant, Call] = {}
    for name in options.backbone:
        weights = weights_for(name, options.weights, folder)
        for i, chosen in enumerate(options.preset):
            print(f"building {name} {chosen}", flush=True)
            method = preset(chosen, backbone=name)
            frame = _frame(method)
            if i == 0:  # the frame has the same size in all presets, so there is one floor
                calls |= _bare(method, weights, frame, options.threads)
            calls |= _models(method, weights, options.images, folder, options.threads)
        if QUICK in options.preset:
            print(f"building {name} {QUICK} in int8", flush=True)
            calls |= _large(name, weights, options.images, folder, options.threads)
    return calls


def _bare(method: Method, weights: str, frame: Pixels, threads: int) -> dict[Variant, Call]:
    from benchmarks.networks import last_stage_only, stage_outputs

    model = stage_outputs(method.backbone, weights, method.preprocessing.size)
    return {
        Variant(method.backbone, "", what): _run(
            each.SerializeToString(), [output.name for output in each.graph.output], frame, threads
        )
        for what, each in ((BARE, model), (LAST, last_stage_only(model)))
    }


def _models(method: Method, weights: str, images: int, folder: Path, threads: int) -> dict[Variant, Call]:
    from padim_edge.fitted import fit
    from padim_edge.network import exported
    from padim_edge_artifact import names
    from padim_edge_model.comparable import check_frame
    from padim_edge_model.graph import joined
    from padim_edge_runtime import Detector

    name, frame = method.backbone, _frame(method)
    fitted = fit(sample(images), method, weights=weights, progress=False)
    path = fitted.export(folder / f"{name}-{method.preset}.onnx", progress=False).path
    graph = joined(exported(method, weights).graph).SerializeToString()
    detector = Detector.load(path, "cpu", threads=threads)
    metadata = detector.metadata
    return {
        Variant(name, method.preset, EMBEDDING): _run(graph, [names.EMBEDDING], frame, threads),
        Variant(name, method.preset, SESSION): _run(path, list(names.OUTPUTS), frame, threads),
        Variant(name, method.preset, DETECTOR): lambda: detector(frame),
        Variant(name, method.preset, COMPARISON): lambda: check_frame(frame, metadata.reference, metadata.grid),
    }


def _large(name: str, weights: str, images: int, folder: Path, threads: int) -> dict[Variant, Call]:
    """Judge a large array by int8 models, whose host or whose graph resizes it, and a frame that needs no resize."""
    from padim_edge.fitted import fit
    from padim_edge.presets import preset
    from padim_edge_runtime import Detector

    def opened(frame: str | None) -> Detector:
        method = preset(QUICK, backbone=name, precision="int8", frame=frame)
        fitted = fit(sample(images), method, weights=weights, progress=False)
        path = folder / f"{name}-int8{'' if frame is None else '-raw'}.onnx"
        return Detector.load(fitted.export(path, progress=False).path, "cpu", threads=threads)

    host, graph = opened(None), opened(f"{SIDE}x{SIDE}")
    array = probe_image(Source(None, "bottle", images, None))
    own = host.prepare(array)
    return {
        Variant(name, QUICK, OWN): lambda: host(own),
        Variant(name, QUICK, ARRAY): lambda: host(host.prepare(array)),
        Variant(name, QUICK, RAW): lambda: graph(array),
    }


def _run(model: bytes | Path, outputs: list[str], frame: Pixels, threads: int) -> Call:
    from padim_edge_artifact import names
    from padim_edge_runtime.devices.providers import open_session

    session = open_session(model, "cpu", threads=threads).session
    feed = {names.IMAGE: frame[None]}
    return lambda: session.run(outputs, feed)


def _frame(method: Method) -> Pixels:
    """Return `(H, W, 3)` of an image that no model was fitted on."""
    import numpy as np

    (frame,) = frames(sample(1).test, method.preprocessing)
    return np.asarray(frame)


def measure(calls: dict[K, Call], rounds: int, *, lead: int, patience: float) -> Turns[K, float]:
    """Time all calls in milliseconds; they take turns.

    Args:
        calls: Functions to time.
        rounds: Timed calls of each.
        lead: Untimed calls before each timed one. They bring the constants back into the caches, as on a
            device, which runs one model over and over.
        patience: Seconds after which the quietest rounds so far are taken.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    gc.collect()
    gc.disable()
    try:
        return take_turns({what: partial(_time, call, lead) for what, call in calls.items()}, rounds, patience)
    finally:
        gc.enable()


def _time(call: Call, lead: int) -> float:
    time.sleep(REST)
    for _ in range(lead):
        call()
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def summarise(milliseconds: dict[Variant, list[float]]) -> list[Timing]:
    """Compute median and percentiles of each variant, and its ratio to the bare backbone."""
    import numpy as np

    percentiles = {variant: np.percentile(values, (50, 10, 90)).tolist() for variant, values in milliseconds.items()}
    timings = []
    for variant, (median, p10, p90) in percentiles.items():
        floor = percentiles[Variant(variant.backbone, "", BARE)]
        timings.append(Timing(variant, median, p10, p90, median / floor[0], p10 / floor[1]))
    return timings


def targets_of(timings: list[Timing]) -> list[report.Target]:
    """Return the promises about ResNet-18 with `edge`, as far as its variants were measured."""
    found = {each.variant: each for each in timings}
    detector, own, array = (found.get(Variant("resnet18", QUICK, what)) for what in (DETECTOR, OWN, ARRAY))
    targets = []
    if detector is not None:
        name = f"resnet18 {QUICK}, model through Detector / bare backbone"
        targets.append(report.Target(name, TARGET, detector.ratio, at_most=True))
    if own is not None and array is not None:
        name = f"resnet18 {QUICK}, {ARRAY} to verdict / {OWN}"
        targets.append(report.Target(name, FRAME_TARGET, array.median / own.median, at_most=True))
    return targets


def _row(timing: Timing) -> dict[str, Any]:
    figures = {key: round(value, 4) for key, value in dataclasses.asdict(timing).items() if key != "variant"}
    return {**dataclasses.asdict(timing.variant), **figures}


if __name__ == "__main__":
    main()
