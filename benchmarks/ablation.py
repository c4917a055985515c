"""The paper's Tables I and II on given classes: layers, reductions, ridges and numbers of images.

    python -m benchmarks.ablation --data ../shared/data/mvtec_ad --weights FILE

Every row is built and judged as a user's model is: exported, fitted, fused, run by onnxruntime. The sum of maps
(PaDiM, Table I) is no model of ours; it adds up the maps of three models of one layer each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report
from padim_edge import datasets

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.evaluation.evaluate import Evaluation
    from padim_edge.presets import Preset
    from padim_edge_export.backbones import Trunk

LAYERS = ("layer1", "layer2", "layer3")
METRICS = ("image_auroc", "pixel_auroc", "pro")
TIE = 0.002
"""Pixel AUROC by which the order of Table II may be missed and still count as kept."""

GROUPS = {
    "layers": "Table I: which layers",
    "reduction": "Table II: which dimensions",
    "ridge": "Number added to the diagonal of every covariance (the paper's epsilon)",
    "images": "Number of good images",
}


@dataclass(frozen=True)
class Variant:
    """One row of a table."""

    group: str
    name: str
    layers: tuple[str, ...] = LAYERS
    reduction: str = "random"
    dims: int = 100
    ridge: float | None = None
    """The preset's own unless given."""
    images: int | None = None
    """All unless given."""
    seeds: int = 1
    """How many to take; a reduction that draws nothing takes one."""
    summed: bool = False
    """Add up the maps of a model a layer."""


@dataclass(frozen=True)
class Figures:
    """One variant on one class with one seed."""

    group: str
    name: str
    class_name: str
    seed: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    megabytes: float
    seconds: float
    """Of building and judging."""


def variants(channels: tuple[int, ...], seeds: int) -> tuple[Variant, ...]:
    """All rows, for a backbone with so many channels by layer."""
    total = sum(channels)
    rows = [
        Variant("layers", f"layer {i + 1}", (layer,), dims=count)
        for i, (layer, count) in enumerate(zip(LAYERS, channels, strict=True))
    ]
    rows.append(Variant("layers", "sum of maps", dims=0, summed=True))
    rows.append(Variant("layers", f"joint {total}", dims=total))
    rows += [Variant("reduction", f"random {dims}", dims=dims, seeds=seeds) for dims in (100, 200)]
    rows += [Variant("reduction", f"PCA {dims}", reduction="pca", dims=dims) for dims in (100, 200)]
    rows.append(Variant("reduction", "semi-orthogonal 100", reduction="semi-orthogonal", seeds=seeds))
    rows.append(Variant("reduction", f"joint {total}", dims=total))
    rows += [Variant("ridge", f"{ridge:g}", ridge=ridge) for ridge in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)]
    rows += [Variant("images", str(count or "all"), images=count) for count in (1, 5, 16, 50, None)]
    return tuple(rows)


def main() -> None:
    """Parse the command line, build, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="MVTec AD")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ResNet-18; torchvision's unless given")
    parser.add_argument("--preset", default="paper", help="whose other choices to keep")
    parser.add_argument(
        "--size", metavar="N|HxW", help="of the whole frame, for a quick look; the preset's unless given"
    )
    parser.add_argument("--group", type=report.names, default=tuple(GROUPS), help="comma-separated")
    parser.add_argument("--seeds", type=int, default=3, help="of what is drawn at random")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write ablation.json and ablation.md there")
    options = parser.parse_args()
    report.refuse_unknown(parser, (options.preset,))
    for group in options.group:
        if group not in GROUPS:
            parser.error(f"there is no group {group!r}; choose from {', '.join(GROUPS)}")
    environment = report.probe(("padim-edge", "torch", "onnxruntime", "numpy"), threads=None)
    report.print_header("the paper's ablations", environment)
    figures = list(run(options))
    targets = order(figures)
    tables = {GROUPS[group]: table(figures, group) for group in options.group}
    for title, rows in tables.items():
        print(f"\n{title}")
        report.print_table(COLUMNS, rows)
    report.print_targets(targets)
    if options.output:
        content = {
            "benchmark": "ablation",
            "environment": dataclasses.asdict(environment),
            "settings": {"preset": options.preset, "seeds": options.seeds, "classes": options.classes},
            "results": [dataclasses.asdict(each) for each in figures],
            "targets": [target.to_json() for target in targets],
        }
        (options.output / "ablation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        page = markdown(tables, targets, report.header_lines(environment), options)
        (options.output / "ablation.md").write_text(page, encoding="utf-8")


def run(options: argparse.Namespace) -> Iterator[Figures]:
    """Every variant on every class."""
    from padim_edge.presets import choose

    weights = str(options.weights) if options.weights else "auto"

    @cache
    def trunk(layers: tuple[str, ...]) -> Trunk:
        from padim_edge_export import backbones

        return backbones.load("resnet18", weights, layers)

    channels = trunk(LAYERS).description.channels
    preset = choose(options.preset, size=options.size)
    done: dict[tuple[Any, ...], Figures] = {}
    for variant in variants(channels, options.seeds):
        if variant.group not in options.group:
            continue
        for class_name in options.classes:
            dataset = datasets.from_folder(options.data, class_name)
            for seed in range(variant.seeds):
                # The same model may stand in several tables.
                key = (dataclasses.replace(variant, group="", name=""), class_name, seed)
                found = done.get(key)
                if found is None:
                    print(f"{variant.group}: {variant.name}, {class_name}, seed {seed}", file=sys.stderr, flush=True)
                    found = judge(variant, dataset, preset, trunk, seed)
                    done[key] = found
                yield dataclasses.replace(found, group=variant.group, name=variant.name)


def judge(variant: Variant, dataset: Dataset, preset: Preset, trunk: Any, seed: int) -> Figures:
    """Build one variant and judge it."""
    start = time.perf_counter()
    if variant.images is not None:
        good = dataset.good[: variant.images]
        # Of one image there is no covariance; given twice, it leaves the ridge alone, which is what "1" means here.
        dataset = dataclasses.replace(dataset, good=good * 2 if len(good) == 1 else good)
    preset = dataclasses.replace(
        preset,
        reduction=variant.reduction,
        ridge=preset.ridge if variant.ridge is None else variant.ridge,
    )
    with tempfile.TemporaryDirectory() as folder:
        if variant.summed:
            found, size = _summed(dataset, preset, trunk, Path(folder), seed)
        else:
            chosen = dataclasses.replace(preset, dims=variant.dims)
            found, size = _single(dataset, chosen, trunk(variant.layers), Path(folder), seed)
    values = {name: found.metrics[name] for name in METRICS}
    seconds = time.perf_counter() - start
    return Figures(
        "", "", dataset.class_name, seed, **values, megabytes=round(size / 1e6, 1), seconds=round(seconds, 1)
    )


def _single(dataset: Dataset, preset: Preset, trunk: Trunk, folder: Path, seed: int) -> tuple[Evaluation, int]:
    from padim_edge.build import build
    from padim_edge.evaluation.evaluate import evaluate
    from padim_edge_runtime import Detector

    built = build(dataset, folder / "model.onnx", preset, trunk, seed=seed)
    assert not built.unreadable
    return evaluate(Detector.load(built.model, "cpu"), dataset), built.bytes


def _summed(dataset: Dataset, preset: Preset, trunk: Any, folder: Path, seed: int) -> tuple[Evaluation, int]:
    """Maps of three models, added up; the score is the maximum of that."""
    from padim_edge.build import build
    from padim_edge.evaluation.evaluate import Scored, conclude, load
    from padim_edge.evaluation.metrics import pixel_metrics
    from padim_edge_runtime import Detector
    from padim_edge_runtime.regions import to_image

    detectors, size = [], 0
    for layer in LAYERS:
        single = trunk((layer,))
        chosen = dataclasses.replace(preset, dims=single.description.channels[0])
        built = build(dataset, folder / f"{layer}.onnx", chosen, single, seed=seed)
        detectors.append(Detector.load(built.model, "cpu"))
        size += built.bytes
    scored: list[Scored] = []
    frame = preset.preprocessing

    def maps() -> Iterator[tuple[Any, Any]]:
        for each in load(dataset.test, (frame,), []):
            total = np.sum([detector(each.frames[0]).anomaly_map[0] for detector in detectors], axis=0)
            scored.append(Scored(each.item, float(total.max())))
            yield to_image(total, frame, *each.size), each.truth

    pixel = pixel_metrics(maps())
    return conclude(dataset.class_name, float("inf"), scored, pixel, []), size


COLUMNS = ("variant", "class", "image AUROC", "pixel AUROC", "PRO", "seeds", "MB", "s")


def table(figures: Sequence[Figures], group: str) -> list[tuple[str, ...]]:
    """The rows of one group: each class, and the mean over the classes where there are several."""
    rows = []
    own = [each for each in figures if each.group == group]
    for name in dict.fromkeys(each.name for each in own):
        of_name = [each for each in own if each.name == name]
        classes = list(dict.fromkeys(each.class_name for each in of_name))
        rows += [_row(name, each, [one for one in of_name if one.class_name == each]) for each in classes]
        if len(classes) > 1:
            rows.append(_row(name, "mean", _means(of_name)))
    return rows


def _means(figures: Sequence[Figures]) -> list[Figures]:
    """Of each seed, the mean over the classes."""
    found = []
    for seed in dict.fromkeys(each.seed for each in figures):
        own = [each for each in figures if each.seed == seed]
        values = {name: _mean([getattr(each, name) for each in own]) for name in METRICS}
        first = dataclasses.replace(own[0], **values)  # type: ignore[arg-type]
        size, seconds = max(each.megabytes for each in own), sum(each.seconds for each in own)
        found.append(dataclasses.replace(first, class_name="mean", megabytes=size, seconds=seconds))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


def _row(name: str, class_name: str, figures: Sequence[Figures]) -> tuple[str, ...]:
    def shown(metric: str) -> str:
        values = [getattr(each, metric) for each in figures]
        middle = _mean(values)
        if middle is None:
            return "-"
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        return f"{middle:.4f}{spread}"

    size, seconds = max(each.megabytes for each in figures), sum(each.seconds for each in figures)
    return (name, class_name, *map(shown, METRICS), str(len(figures)), f"{size:.1f}", f"{seconds:.0f}")


def order(figures: Sequence[Figures]) -> list[report.Target]:
    """Table II's order in pixel AUROC, mean over the classes: each at least as good as the next, but for a tie."""
    own = [each for each in figures if each.group == "reduction"]
    means = {
        name: _mean([each.pixel_auroc for each in own if each.name == name])
        for name in dict.fromkeys(each.name for each in own)
    }
    joint = next((name for name in means if name.startswith("joint")), "")
    wanted = [(joint, "random 200", -TIE), ("random 200", "random 100", -TIE), ("random 100", "PCA 100", 0.0)]
    found = []
    for better, worse, least in wanted:
        a, b = means.get(better), means.get(worse)
        if a is not None and b is not None:
            found.append(report.Target(f"pixel AUROC of {better} less that of {worse}", least, round(a - b, 5)))
    return found


def markdown(
    tables: dict[str, list[tuple[str, ...]]],
    targets: Sequence[report.Target],
    header: Sequence[str],
    options: argparse.Namespace,
) -> str:
    """The page."""
    lines = [
        "# The paper's ablations",
        "",
        "```",
        "python -m benchmarks.ablation --data MVTEC --weights FILE",
        "```",
        "",
    ]
    lines += [
        "```",
        *header,
        "```",
        "",
        f"Preset `{options.preset}`, ResNet-18; mean ± standard deviation over seeds.",
        "",
    ]
    for title, rows in tables.items():
        lines += [f"## {title}", "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * 2}{' --: |' * (len(COLUMNS) - 2)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    for target in targets:
        lines.append(
            f"- {target.what}: {target.found:+.4f}, wanted {target.wanted:+.4f} or more: "
            f"{'reached' if target.reached else 'NOT reached'}"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
