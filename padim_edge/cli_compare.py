"""The command `compare`, and its table. Heavy imports stand inside, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge.cli_options import DataOption
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, print_json, warn

if TYPE_CHECKING:
    from padim_edge.evaluation.compare import Comparison, Spread
    from padim_edge_runtime.bench.footprint import Cost

__all__ = ["compare", "text"]

NAMED = 5
"""Images with differing decisions that are named; `--json` names all."""

_METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "best_f1": "best F1",
    "pixel_auroc": "pixel AUROC",
    "pro": "PRO",
    "false_alarm_rate": "false alarms",
    "miss_rate": "misses",
}
_RATES = ("false_alarm_rate", "miss_rate")


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference, such as the model in fp32.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The model to measure against it, such as the one in int8.")],
    data: DataOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the images; the models' own unless given.")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads for one image; one a core unless given.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls of each model; they take turns.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Say what model B costs against model A: scores, maps, metrics, size, time and memory, side by side."""
    from padim_edge import datasets
    from padim_edge.evaluation.compare import compare as run
    from padim_edge.evaluation.compare import to_json
    from padim_edge_artifact.container import read_metadata
    from padim_edge_runtime import progress
    from padim_edge_runtime.bench.footprint import costs
    from padim_edge_runtime.detector import Detector

    classes = [read_metadata(model).class_name for model in (a, b)]
    if class_name is None and classes[0] != classes[1]:
        raise PadimEdgeError(
            f"{a} is for {classes[0]!r} and {b} for {classes[1]!r}, expected models of one class; choose two such, or "
            "say with --class whose images both are to judge"
        )
    name = class_name or classes[0]
    dataset = datasets.from_source(data, name)
    for note in dataset.notes:
        warn(f"{dataset.class_name}: {note}")
    before, after = (Detector.load(each, device, threads=threads, tell=warn) for each in (a, b))
    with progress.bar(f"comparing on {name}", len(dataset.test or dataset.good)) as advance:
        comparison = run(before, after, dataset, advance)
    for sentence in comparison.unreadable:
        warn(f"left out: {sentence}")
    if comparison.a is not None and comparison.a.without_mask:
        warn(f"{comparison.a.without_mask} anomalous images have no mask; they count in the image metrics only")
    with progress.bar("timing", rounds) as advance:
        cost_a, cost_b = costs((a, b), (before, after), rounds, threads=threads, progress=advance)
    if as_json:
        print_json(to_json(comparison, (cost_a, cost_b)))
    else:
        typer.echo(text(comparison, (cost_a, cost_b)))


def text(comparison: Comparison, costs: tuple[Cost, Cost]) -> str:
    """A table with a column for A, B and the difference; below it scores, maps and decisions, and what to know."""
    from padim_edge.evaluation.summary import columns

    table: list[tuple[str, ...]] = [
        ("", "A", "B", "B against A"),
        *_models(costs),
        *_metrics(comparison),
        *_costs(costs),
    ]
    spreads: list[tuple[str, ...]] = [
        ("relative difference", "median", "largest"),
        ("scores", *_spread(comparison.score)),
        ("maps, to A's highest value", *_spread(comparison.map)),
    ]
    return "\n".join([*columns(table), "", *columns(spreads), "", *_sentences(comparison, costs)])


def _models(costs: tuple[Cost, Cost]) -> list[tuple[str, ...]]:
    """What the models are."""
    a, b = (each.metadata for each in costs)
    paths = [each.model for each in costs]
    files = [path.name for path in paths] if paths[0].name != paths[1].name else [str(path) for path in paths]
    inputs = []
    for preprocessing in (a.preprocessing, b.preprocessing):
        height, width = preprocessing.size
        crop = " out of {}x{}".format(*preprocessing.resize) if preprocessing.crop else ""
        inputs.append(f"{height}x{width}{crop}")
    return [
        ("model", *files, ""),
        ("preset, precision", f"{a.preset}, {a.precision}", f"{b.preset}, {b.precision}", ""),
        ("backbone", a.backbone.name, b.backbone.name, ""),
        ("input", *inputs, ""),
        ("device", costs[0].device, costs[1].device, ""),
        ("threshold", f"{a.threshold:.2f}", f"{b.threshold:.2f}", f"{b.threshold - a.threshold:+z.2f}"),
    ]


def _metrics(comparison: Comparison) -> list[tuple[str, ...]]:
    """How well they tell good from bad; none where there is nothing to tell."""
    from padim_edge.evaluation.compare import deltas

    if comparison.a is None or comparison.b is None:
        return []
    rows: list[tuple[str, ...]] = []
    for name, delta in deltas(comparison).items():
        factor, digits, unit = (100, 1, " %") if name in _RATES else (1, 4, "")
        both = (comparison.a.metrics[name], comparison.b.metrics[name])
        cells = ["-" if value is None else f"{factor * value:.{digits}f}{unit}" for value in both]
        difference = "-" if delta is None else f"{factor * delta:+z.{digits}f}{unit and ' points'}"
        rows.append((_METRICS[name], *cells, difference))
    return rows


def _costs(costs: tuple[Cost, Cost]) -> list[tuple[str, ...]]:
    """What they take."""
    a, b = costs
    memories = [(None, None) if each.memory is None else (each.memory.private, each.memory.mapped) for each in costs]
    rows: list[tuple[str, ...]] = [
        ("size", *_megabytes(a.bytes, b.bytes)),
        ("memory, private", *_megabytes(memories[0][0], memories[1][0])),
        ("memory, mapped files", *_megabytes(memories[0][1], memories[1][1])),
    ]
    times = [each.latency.milliseconds for each in costs]
    for name in times[0]:
        both = [each[name] for each in times]
        rows.append((f"latency, {name}", *(f"{each:.2f} ms" for each in both), f"{both[0] / both[1]:.2f} x as fast"))
    return rows


def _megabytes(a: int | None, b: int | None) -> tuple[str, str, str]:
    if a is None or b is None:
        return "-", "-", "-"
    times = f" ({b / a:.2f} x)" if a else ""
    return f"{a / 1e6:.1f} MB", f"{b / 1e6:.1f} MB", f"{(b - a) / 1e6:+z.1f} MB{times}"


def _spread(spread: Spread | None) -> tuple[str, str]:
    return ("-", "-") if spread is None else (_percent(spread.median), _percent(spread.maximum))


def _percent(share: float) -> str:
    """Two digits that count, as differences of fp32 and of another method are worlds apart."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _sentences(comparison: Comparison, costs: tuple[Cost, Cost]) -> list[str]:
    """What does not fit into a table."""
    from padim_edge.evaluation.compare import notes, reasons

    images, differing, rank = comparison.images, comparison.differing, comparison.rank_correlation
    kind = "test" if comparison.test else "good"
    lines = [
        f"{images} {kind} images; rank correlation of the scores {'-' if rank is None else f'{rank:.5f}'}",
        f"{len(differing)} of {images} decisions differ, each model at its own threshold",
    ]
    if differing:
        lines[-1] += f": {', '.join(differing[:NAMED])}{', ...' if len(differing) > NAMED else ''}"
    lacking: dict[str, list[str]] = {}
    for name, reason in reasons(comparison, costs).items():
        lacking.setdefault(reason, []).append(_METRICS.get(name, name.replace("_", " ")))
    lines += [f"{', '.join(names)}: undefined, {reason}" for reason, names in lacking.items()]
    lines.append(
        f"latency of one image, from pixels to decision, {costs[0].latency.rounds} times in turns; memory is what a "
        "fresh process grows by, at its peak"
    )
    return lines + notes(comparison, costs)
