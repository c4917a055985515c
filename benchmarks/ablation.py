"""Repeat the paper's Tables I and II on given classes: layers, reductions, ridges and numbers of images.

    python -m benchmarks.ablation --data ../shared/data/mvtec_ad --weights FILE

Every row is fitted, exported and evaluated as a user's model is. The sum of anomaly maps (PaDiM, Table I) is no model
of ours; it adds up the maps of three models of one layer each.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks import report

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.evaluation.evaluate import Evaluation
    from padim_edge_artifact.method import Method

BACKBONE = "resnet18"

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
    """Key of `GROUPS`."""
    name: str
    """Name of the row."""
    layers: tuple[str, ...] = LAYERS
    """Layers of the backbone."""
    reduction: str = "random"
    """Kind of reduction."""
    dims: int = 100
    """Number of embedding dimensions."""
    ridge: float | None = None
    """Number added to the diagonal of every covariance; `None` keeps the preset's."""
    images: int | None = None
    """Number of good images; `None` takes all."""
    seeds: int = 1
    """Number of random seeds; a reduction that draws nothing takes one."""
    summed: bool = False
    """Whether the maps of one model per layer are added up."""


@dataclass(frozen=True)
class Figures:
    """Figures of one variant on one class with one seed."""

    group: str
    """Key of `GROUPS`."""
    name: str
    """Name of the variant."""
    class_name: str
    """Name of the class."""
    seed: int
    """Random seed of the reduction."""
    image_auroc: float | None
    """Image AUROC; `None` where it is undefined, as the next two."""
    pixel_auroc: float | None
    """Pixel AUROC."""
    pro: float | None
    """PRO."""
    megabytes: float
    """Size of the model files in MB."""
    seconds: float
    """Duration of export and evaluation."""


def variants(channels: tuple[int, ...], seeds: int) -> tuple[Variant, ...]:
    """Return all rows, for a backbone with so many channels in each layer."""
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
    parser.add_argument("--weights", default="auto", metavar="FILE", help="ResNet-18's; torchvision's unless given")
    parser.add_argument("--preset", default="paper", help="preset whose other options are kept")
    parser.add_argument("--size", metavar="N|HxW", help="size of the whole frame, for a quick look")
    parser.add_argument("--group", type=report.names, default=tuple(GROUPS), help="comma-separated")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of what is drawn at random")
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
        settings = {"preset": options.preset, "seeds": options.seeds, "classes": options.classes}
        results = [dataclasses.asdict(each) for each in figures]
        report.write_json(options.output / "ablation.json", "ablation", environment, settings, results, targets)
        page = markdown(tables, targets, report.header_lines(environment), options)
        (options.output / "ablation.md").write_text(page, encoding="utf-8")


def run(options: argparse.Namespace) -> Iterator[Figures]:
    """Build and evaluate every variant on every class."""
    from padim_edge import datasets
    from padim_edge_export.backbones import channels_of

    channels = tuple(channels_of(BACKBONE, LAYERS).values())
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
                    found = judge(variant, dataset, options, seed)
                    done[key] = found
                yield dataclasses.replace(found, group=variant.group, name=variant.name)


def judge(variant: Variant, dataset: Dataset, options: argparse.Namespace, seed: int) -> Figures:
    """Build one variant and evaluate it."""
    start = time.perf_counter()
    if variant.images is not None:
        good = dataset.good[: variant.images]
        # One image has no covariance. Given twice, it leaves the ridge alone, which is what the row "1" means.
        dataset = dataclasses.replace(dataset, good=good * 2 if len(good) == 1 else good)
    with tempfile.TemporaryDirectory() as folder, _copies() if variant.images == 1 else nullcontext():
        if variant.summed:
            methods = [_method(variant, options, seed, layers=(layer,)) for layer in LAYERS]
            found, size = _summed(dataset, methods, options.weights, Path(folder))
        else:
            method = _method(variant, options, seed, layers=variant.layers)
            found, size = _single(dataset, method, options.weights, Path(folder))
    values = {name: found.metrics[name] for name in METRICS}
    seconds = time.perf_counter() - start
    return Figures(
        "", "", dataset.class_name, seed, **values, megabytes=round(size / 1e6, 1), seconds=round(seconds, 1)
    )


@contextmanager
def _copies() -> Iterator[None]:
    """Fit and judge copies as if they were images; a user's would be refused."""
    with (
        mock.patch("padim_edge.fitted.require_enough"),
        mock.patch("padim_edge_learn.matching.groups_of", lambda evidence: np.arange(len(evidence.named))),
    ):
        yield


def _method(variant: Variant, options: argparse.Namespace, seed: int, *, layers: tuple[str, ...]) -> Method:
    import padim_edge
    from padim_edge_export.backbones import channels_of

    method = padim_edge.preset(
        options.preset,
        backbone=BACKBONE,
        layers=layers,
        reduction=variant.reduction,
        dims=sum(channels_of(BACKBONE, layers).values()) if variant.summed else variant.dims,
        size=options.size,
        seed=seed,
    )
    return dataclasses.replace(method, ridge=method.ridge if variant.ridge is None else variant.ridge)


def _single(dataset: Dataset, method: Method, weights: str, folder: Path) -> tuple[Evaluation, int]:
    import padim_edge

    fitted = padim_edge.fit(dataset, method, weights=weights, progress=False)
    model = fitted.export(folder / "model.onnx", progress=False)
    assert not model.unreadable
    return padim_edge.evaluate(model, dataset, device="cpu", progress=False), model.bytes


def _summed(dataset: Dataset, methods: Sequence[Method], weights: str, folder: Path) -> tuple[Evaluation, int]:
    """Evaluate the sum of the maps of several models; the score is its maximum."""
    import padim_edge
    from benchmarks.judging import Float32, evaluate_judge
    from padim_edge_runtime import Detector

    detectors, size = [], 0
    for i, method in enumerate(methods):
        fitted = padim_edge.fit(dataset, method, weights=weights, progress=False)
        model = fitted.export(folder / f"{i}.onnx", progress=False)
        detectors.append(Detector.load(model.path, "cpu"))
        size += model.bytes

    def judge_image(_: int, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[float, Float32]:
        total = np.sum([detector(frame).anomaly_map[0] for detector in detectors], axis=0)
        return float(total.max()), total

    return evaluate_judge(judge_image, dataset, methods[0].preprocessing), size


COLUMNS = ("variant", "class", "image AUROC", "pixel AUROC", "PRO", "seeds", "MB", "s")


def table(figures: Sequence[Figures], group: str) -> list[tuple[str, ...]]:
    """Return the rows of one group: each class, and the mean over the classes where there are several."""
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
    """Average over the classes, for each seed."""
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
    """Check Table II's order in pixel AUROC, mean over the classes: each at least as good as the next, or nearly."""
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
    """Write the page."""
    about = f"Preset `{options.preset}`, ResNet-18; mean ± standard deviation over seeds."
    parts = ["# The paper's ablations", f"```\n{report.command('ablation', without=('--output',))}\n```"]
    parts += ["```\n{}\n```".format("\n".join(header)), about]
    for title, rows in tables.items():
        parts += [f"## {title}", report.markdown_table(COLUMNS, rows, words=2)]
    if targets:
        verdicts = [report.verdict(target, "+.4f") for target in targets]
        parts += ["## Targets", report.markdown_table(("target", "wanted", "found", "verdict"), verdicts)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
