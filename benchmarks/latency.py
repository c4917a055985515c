"""How long does one image take in the model, and how much of that is the backbone's own?

All variants are opened first and take turns, so that whatever else the machine does falls on all of them alike. Ratios
to the bare backbone of the same run are what to compare; milliseconds belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from padim_edge import datasets

if TYPE_CHECKING:
    from padim_edge.presets import Preset
    from padim_edge_export.backbones import Trunk

BARE = "backbone, three stages"
LAST = "backbone, last stage"
EMBEDDING = "embedding graph"
SESSION = "fused, session"
DETECTOR = "fused, Detector"
COMPARISON = "shift and exposure"

TARGET = 1.8
"""Times the bare ResNet-18 that the fused `edge` model may take."""

WARM_UP = 10
"""Calls of each variant before anything is timed."""

REST = 0.03
"""Seconds before each variant's turn. onnxruntime's threads spin for a while after a call, so the session before would
take a core from this one (measured with four equal sessions in turn: 9.3 ms without a rest, 5.3 with one of 20 ms, as
for one session alone)."""

QUIET = 0.04
"""Share of the machine's processor time that other processes may take in a round that counts."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Variant:
    """One thing that is timed."""

    backbone: str
    preset: str
    """Blank for a bare backbone."""
    what: str


@dataclass(frozen=True)
class Measured:
    """All timed calls."""

    milliseconds: dict[Variant, list[float]]
    rounds: int
    """Taken in all, those that were not used included."""
    others: float
    """Mean share of the machine's processor time that other processes took in the used rounds."""


@dataclass(frozen=True)
class Timing:
    """Of one variant."""

    variant: Variant
    median: float
    """Milliseconds, as p10 and p90."""
    p10: float
    p90: float
    ratio: float
    """Median over the bare backbone's median."""
    ratio_p10: float
    """The same of the tenth percentiles, which others' work on the machine hardly touches."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", type=report.names, default=("resnet18", "builtin"), help="comma-separated")
    parser.add_argument("--preset", type=report.names, default=("paper", "edge", "accurate"), help="comma-separated")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="for resnet18; random unless given")
    parser.add_argument("--threads", type=int, default=2, help="of onnxruntime, for all variants")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls of each variant")
    parser.add_argument("--lead", type=int, default=2, help="untimed calls right before each timed one")
    parser.add_argument("--patience", type=float, default=240, help="seconds to wait for quiet rounds")
    parser.add_argument("--images", type=int, default=24, help="sample images that the models are fitted on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, options.preset)

    packages = ("padim-edge", "numpy", "onnxruntime", "onnx", "torch")
    environment = report.probe(packages, threads=options.threads)
    report.print_header("latency of one image, CPU, fp32", environment)
    with tempfile.TemporaryDirectory() as folder:
        calls = open_all(
            options.backbone, options.preset, options.weights, Path(folder), options.images, options.threads
        )
        measured = measure(calls, options.rounds, lead=options.lead, patience=options.patience)
        del calls  # closes the models' files before their folder goes
    timings = summarise(measured.milliseconds)
    print(
        f"{options.rounds} of {measured.rounds} rounds used; other processes took {100 * measured.others:.1f} % of the "
        "processor time in them"
    )
    targets = [
        report.Target("resnet18 edge, fused through Detector / bare backbone", TARGET, each.ratio, at_most=True)
        for each in timings
        if each.variant == Variant("resnet18", "edge", DETECTOR)
    ]
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


def open_all(
    backbones: tuple[str, ...],
    presets: tuple[str, ...],
    weights: Path | None,
    folder: Path,
    images: int,
    threads: int,
) -> dict[Variant, Call]:
    """Build every model and open every session; each call judges the same sample image."""
    from benchmarks.backbone import load
    from padim_edge.presets import PRESETS

    calls: dict[Variant, Call] = {}
    for name in backbones:
        trunk = load(name, weights, folder)
        for i, preset in enumerate(presets):
            print(f"building {name} {preset}", flush=True)
            if i == 0:
                calls |= _bare(name, trunk, PRESETS[preset], threads)
            assert PRESETS[preset].preprocessing.size == PRESETS[presets[0]].preprocessing.size  # else another floor
            calls |= _models(name, trunk, PRESETS[preset], folder, images, threads)
    return calls


def _bare(name: str, trunk: Trunk, preset: Preset, threads: int) -> dict[Variant, Call]:
    from benchmarks.backbone import last_stage_only, stage_outputs
    from padim_edge_artifact import names
    from padim_edge_runtime.devices.providers import open_session

    model = stage_outputs(trunk, preset.preprocessing.size)
    feed = {names.IMAGE: _frame(preset)[None]}
    calls: dict[Variant, Call] = {}
    for what, each in ((BARE, model), (LAST, last_stage_only(model))):
        session = open_session(each.SerializeToString(), "cpu", threads=threads).session
        calls[Variant(name, "", what)] = _run(session, [output.name for output in each.graph.output], feed)
    return calls


def _models(name: str, trunk: Trunk, preset: Preset, folder: Path, images: int, threads: int) -> dict[Variant, Call]:
    from padim_edge.build import build
    from padim_edge_artifact import names
    from padim_edge_export import embedding
    from padim_edge_model.comparable import compare
    from padim_edge_model.graph import joined
    from padim_edge_runtime import Detector
    from padim_edge_runtime.devices.providers import open_session

    sample = datasets.from_sample("bottle")
    dataset = dataclasses.replace(sample, good=sample.good[:images])
    built = build(dataset, folder / f"{name}-{preset.name}.onnx", preset, trunk)
    graph = embedding.build(
        trunk,
        preset.preprocessing.size,
        kind=preset.reduction,
        dims=preset.dims,
        seed=0,
        pooling=preset.pooling,
        pool_patches=preset.pool_patches,
        shares=preset.shares,
    )
    frame = _frame(preset)
    feed = {names.IMAGE: frame[None]}
    session = open_session(joined(graph).SerializeToString(), "cpu", threads=threads).session
    detector = Detector.load(built.model, "cpu", threads=threads)
    return {
        Variant(name, preset.name, EMBEDDING): _run(session, [names.EMBEDDING], feed),
        Variant(name, preset.name, SESSION): _run(detector.session, list(names.OUTPUTS), feed),
        Variant(name, preset.name, DETECTOR): lambda: detector(frame),
        Variant(name, preset.name, COMPARISON): lambda: compare(
            frame, detector.metadata.reference, detector.metadata.grid
        ),
    }


def _run(session: Any, outputs: list[str], feed: dict[str, Any]) -> Call:
    return lambda: session.run(outputs, feed)


def _frame(preset: Preset) -> Any:
    """`(H, W, 3)` uint8: an image that no model was fitted on."""
    from PIL import Image

    from padim_edge.sample import draw_good
    from padim_edge_runtime import image_files

    return image_files.prepare(Image.fromarray(draw_good("bottle", 0, split="test")), preset.preprocessing)


def measure(calls: dict[Variant, Call], rounds: int, *, lead: int, patience: float) -> Measured:
    """Time all variants; they take turns, in another order each round.

    A round in which other processes took more than `QUIET` of the machine is not used: a preempted thread keeps
    onnxruntime's other one spinning, so that one busy neighbour can treble a time. The choice looks at the neighbours'
    processor time only, never at what was measured.

    Args:
        calls: What to time.
        rounds: Timed calls of each variant.
        lead: Untimed calls before each timed one. They bring the variant's constants back into the caches, as on a
            device, which runs one model over and over.
        patience: Seconds after which the quietest rounds so far are taken.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    taken: list[tuple[float, dict[Variant, float]]] = []
    turns = list(calls)
    shuffler = random.Random(0)
    deadline = time.monotonic() + patience
    gc.collect()
    gc.disable()
    try:
        while sum(others <= QUIET for others, _ in taken) < rounds:
            if len(taken) >= rounds and time.monotonic() > deadline:
                break
            shuffler.shuffle(turns)
            clock = report.Neighbours()
            milliseconds = {variant: _time(calls[variant], lead) for variant in turns}
            taken.append((clock.share(), milliseconds))
            if taken[-1][0] > QUIET:
                _wait_for_quiet(deadline)
    finally:
        gc.enable()
    used = sorted(taken, key=lambda each: each[0])[:rounds]
    if used[-1][0] <= QUIET:
        used = [each for each in taken if each[0] <= QUIET]
    return Measured(
        milliseconds={variant: [each[variant] for _, each in used] for variant in calls},
        rounds=len(taken),
        others=sum(others for others, _ in used) / len(used),
    )


def _wait_for_quiet(deadline: float) -> None:
    """Idle until the neighbours do too; so they are sooner done."""
    while time.monotonic() < deadline:
        clock = report.Neighbours()
        time.sleep(1)
        if clock.share() <= QUIET:
            return


def _time(call: Call, lead: int) -> float:
    time.sleep(REST)
    for _ in range(lead):
        call()
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def summarise(milliseconds: dict[Variant, list[float]]) -> list[Timing]:
    """Median and percentiles of each variant, and its ratio to the bare backbone."""
    import numpy as np

    percentiles = {variant: np.percentile(values, (50, 10, 90)).tolist() for variant, values in milliseconds.items()}
    timings = []
    for variant, (median, p10, p90) in percentiles.items():
        floor = percentiles[Variant(variant.backbone, "", BARE)]
        timings.append(Timing(variant, median, p10, p90, median / floor[0], p10 / floor[1]))
    return timings


def _row(timing: Timing) -> dict[str, Any]:
    figures = {key: round(value, 4) for key, value in dataclasses.asdict(timing).items() if key != "variant"}
    return {**dataclasses.asdict(timing.variant), **figures}


if __name__ == "__main__":
    main()
