"""Measure how well each preset, precision and rival tells good from anomalous images, and the size of its files.

Every model is fitted, exported and evaluated as a user's model is. Rivals are fitted on the same frames and evaluated
by the same code (`benchmarks.judging`). The autoencoder of `benchmarks.methods` is left out unless it is asked for: it
is untrained, so its accuracy means nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import accuracy_table, report
from benchmarks.accuracy_table import Cost, Result, Row, title
from benchmarks.rivals import Missing, reason
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import TARGETS, Precision

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.evaluation.evaluate import Evaluation
    from padim_edge_artifact.method import Method

REFERENCE = Precision()
"""Precision that all others are measured against."""

RIVALS = ("spade", "patchcore-1", "patchcore-10", "anomalib")
"""Rivals that are measured unless others are asked for."""

PACKAGES = ("padim-edge", "numpy", "onnxruntime", "torch", "pillow", "scikit-learn")

SMALLEST = 1e-6
"""Scores below this are replaced by it where something is divided by them, as in `padim_edge.compare`."""


@dataclass(frozen=True)
class Model:
    """One model of ours to build."""

    preset: str
    """Name of the preset."""
    precision: Precision
    """Number types and form of the Gaussians."""


@dataclass(frozen=True)
class Judged:
    """A row before its losses are known, and the scores that they are computed from."""

    row: Row
    """The row."""
    scores: tuple[float, ...]
    """Scores of the test images, in the order of the data set."""


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = _parser()
    options = parser.parse_args()
    _refuse_unknown(parser, options)

    from padim_edge import datasets
    from padim_edge.network import exported

    environment = report.probe(PACKAGES, threads=None)
    report.print_header("accuracy on real images", environment)
    description = exported(_method(options.backbone), options.weights).description
    models = models_of(options.preset, options.precision, options.also)
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    versions: dict[str, str] = {}
    # Rivals have one network, and no way to fetch its weights.
    weights = Path(options.weights) if options.backbone == "resnet18" and options.weights != "auto" else None
    for class_name in options.classes:
        dataset = datasets.from_folder(options.data, class_name)
        rows += run(dataset, models, options, left_out)
        rows += run_rivals(dataset, options.methods, weights, left_out, versions)
    others = {name: number for name, number in versions.items() if name not in environment.versions}
    environment = dataclasses.replace(environment, versions={**environment.versions, **others})
    # The targets belong to one backbone and one set of weights.
    promised = options.backbone == "resnet18"
    targets = [target for row in rows for target in accuracy_table.targets_of(row)] if promised else []
    accuracy_table.show(rows, targets, left_out)
    settings = {
        "command": report.command("accuracy"),
        "backbone": options.backbone,
        "weights": description.weights,
        "weights_digest": description.weights_digest,
        "left_out": left_out,
    }
    result = Result(environment, settings, rows, targets)
    accuracy_table.write(result, options.json)
    write_pages(result, options.markdown, options.plot)


def write_pages(result: Result, page: Path | None, plot: Path | None) -> None:
    """Write the page and the figure of a result, where they are asked for."""
    if page:
        link = None if plot is None else Path(os.path.relpath(plot, page.parent)).as_posix()
        page.write_text(accuracy_table.markdown(result, link), encoding="utf-8")
    if plot and result.rows:
        from benchmarks import accuracy_plot

        accuracy_plot.draw(result.rows, plot, result.settings["backbone"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="root of MVTec AD")
    parser.add_argument("--weights", metavar="FILE", default="auto", help="torchvision's unless given; rivals need it")
    parser.add_argument("--class", dest="classes", type=report.names, default=("bottle", "screw"))
    parser.add_argument("--preset", type=report.names, default=("paper", "edge", "accurate"), help="'' for none")
    parser.add_argument(
        "--precision",
        type=precisions,
        default="fp32,fp16,int8",
        help="NAME, NAME-TARGET, each also with :rank=N or :diagonal, comma-separated, for every preset",
    )
    parser.add_argument(
        "--also", type=also, default="", metavar="PRESET/PRECISION,...", help="further single models, such as edge/int8"
    )
    parser.add_argument("--methods", type=report.names, default=RIVALS, help="rivals, comma-separated, '' for none")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--seeds", type=report.names, default=("0",), help="seeds of our reduction, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page for people")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw accuracy against size; PNG beside it")
    return parser


def _refuse_unknown(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from benchmarks.methods import METHODS

    report.refuse_unknown(parser, (*options.preset, *(model.preset for model in options.also)))
    known = (*METHODS, "anomalib")
    for method in options.methods:
        if method not in known:
            parser.error(f"there is no method {method!r}; choose from {', '.join(known)}")
    if options.plot and options.plot.suffix != ".svg":
        parser.error(f"--plot is {options.plot}, expected a name that ends in .svg")
    for file in (options.json, options.markdown, options.plot):
        if file and not file.parent.is_dir():  # said now, not after half an hour
            parser.error(f"there is no folder {file.parent}; make it or choose another one")


def precision(word: str) -> Precision:
    """Parse `NAME`, `NAME-TARGET`, or either with `:rank=N` or `:diagonal` behind.

    Raises:
        argparse.ArgumentTypeError: The word is anything else; the message is the reason.
    """
    numbers, *form = word.split(":")
    name, _, target = numbers.partition("-")
    rank = re.fullmatch(r"rank=([1-9]\d*)", form[0]) if form else None
    if len(form) > 1 or (form and form[0] != "diagonal" and rank is None):
        raise argparse.ArgumentTypeError(f"{word!r} has an unknown form; expected :rank=N or :diagonal after {numbers}")
    if numbers.endswith("-"):
        raise argparse.ArgumentTypeError(f"{word!r} lacks a target; choose from {', '.join(TARGETS)}")
    try:
        return Precision(name, target or "cpu", int(rank[1]) if rank else None, diagonal=form == ["diagonal"])
    except PadimEdgeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def precisions(text: str) -> tuple[Precision, ...]:
    """Parse comma-separated words for `precision`."""
    return tuple(precision(word) for word in report.names(text))


def also(text: str) -> tuple[Model, ...]:
    """Parse comma-separated `PRESET/PRECISION`."""
    models = []
    for word in report.names(text):
        preset, slash, rest = word.partition("/")
        if not slash:
            raise argparse.ArgumentTypeError(f"{word!r} is no model; expected PRESET/PRECISION, as edge/int8")
        models.append(Model(preset, precision(rest)))
    return tuple(models)


def word_of(chosen: Precision) -> str:
    """Return the shortest word that `precision` parses as `chosen`."""
    target = "" if chosen.target == REFERENCE.target else f"-{chosen.target}"
    form = ":diagonal" if chosen.diagonal else "" if chosen.rank is None else f":rank={chosen.rank}"
    return f"{chosen.name}{target}{form}"


def models_of(presets: Iterable[str], chosen: Sequence[Precision], single: Sequence[Model]) -> list[Model]:
    """List every preset in every precision, and single models behind the others of their preset; each once."""
    grid = [Model(preset, each) for preset in presets for each in chosen]
    order = dict.fromkeys(model.preset for model in (*grid, *single))
    return list(dict.fromkeys(model for preset in order for model in (*grid, *single) if model.preset == preset))


def run(dataset: Dataset, models: Sequence[Model], options: argparse.Namespace, left_out: dict[str, str]) -> list[Row]:
    """Build and evaluate our models on one class; one that fails is left out with its reason."""
    judged = []
    for model in models:
        for seed in map(int, options.seeds):
            what = f"{model.preset} {word_of(model.precision)}, {dataset.class_name}, seed {seed}"
            print(what, file=sys.stderr, flush=True)
            try:
                judged.append(judge(dataset, _method(options.backbone, model, seed), options.weights))
            except PadimEdgeError as error:
                # After many minutes, one failure must not lose the others.
                left_out[what] = reason(str(error))
    return with_costs(judged)


def _method(backbone: str, model: Model | None = None, seed: int = 0) -> Method:
    import padim_edge

    if model is None:
        return padim_edge.preset(backbone=backbone)
    return padim_edge.preset(model.preset, backbone=backbone, seed=seed, precision=model.precision)


def judge(dataset: Dataset, method: Method, weights: str) -> Judged:
    """Build one model in a temporary folder and evaluate it."""
    import padim_edge

    with tempfile.TemporaryDirectory() as folder:
        fitted = padim_edge.fit(dataset, method, weights=weights, progress=False)
        model = fitted.export(Path(folder) / f"{dataset.class_name}.onnx", progress=False)
        found = padim_edge.evaluate(model, dataset, device="cpu", progress=False)
    assert not model.unreadable
    row = dataclasses.replace(
        row_of(found, "padim-edge", model.metadata.images, model.bytes, model.seconds),
        preset=method.preset,
        precision=word_of(method.precision),
        seed=method.seed,
        threshold=model.threshold,
        false_alarm_rate=found.metrics["false_alarm_rate"],
        miss_rate=found.metrics["miss_rate"],
    )
    return Judged(row, tuple(each.score for each in found.scored))


def row_of(found: Evaluation, method: str, images: int, size: int, seconds: float) -> Row:
    """Return the part of a row that all methods share: figures, bytes and seconds, without any threshold."""
    assert not found.unreadable
    return Row(
        class_name=found.class_name,
        method=method,
        preset="",
        precision="fp32",
        seed=0,
        image_auroc=found.metrics["image_auroc"],
        pixel_auroc=found.metrics["pixel_auroc"],
        pro=found.metrics["pro"],
        image_ap=found.metrics["image_ap"],
        threshold=None,
        false_alarm_rate=None,
        miss_rate=None,
        images=images,
        good=found.good,
        anomalous=found.anomalous,
        megabytes=round(size / 1e6, 2),
        fit_seconds=round(seconds, 1),
    )


def with_costs(judged: Sequence[Judged]) -> list[Row]:
    """Return the rows with their losses against the exact fp32 model of the same class, preset and seed, if built."""
    references = {_group(each.row): each for each in judged if each.row.precision == word_of(REFERENCE)}
    return [
        each.row
        if (base := references.get(_group(each.row))) is None or base is each
        else dataclasses.replace(each.row, cost=cost_of(base, each))
        for each in judged
    ]


def _group(row: Row) -> tuple[str, str, int]:
    return row.class_name, row.preset, row.seed


def cost_of(base: Judged, other: Judged) -> Cost:
    """Compute the losses of `other` against `base`, and how far the scores move."""
    import numpy as np

    a, b = np.array(base.scores), np.array(other.scores)
    assert a.shape == b.shape

    def lost(name: str) -> float | None:
        before, after = getattr(base.row, name), getattr(other.row, name)
        return None if before is None or after is None else float(before - after)

    moved = float(np.median(np.abs(b - a) / a.clip(SMALLEST)))
    return Cost(lost("image_auroc"), lost("pixel_auroc"), lost("pro"), moved)


def run_rivals(
    dataset: Dataset,
    chosen: Sequence[str],
    weights: Path | None,
    left_out: dict[str, str],
    versions: dict[str, str],
) -> Iterator[Row]:
    """Fit and evaluate the rivals on one class; one that is not available here is left out with its reason."""
    from benchmarks import accuracy_rivals
    from benchmarks.judging import evaluate_judge

    for method in chosen:
        what = f"{title(method)}, {dataset.class_name}"
        print(what, file=sys.stderr, flush=True)
        try:
            if weights is None:
                raise Missing("rivals are fitted with resnet18 and weights from a file; give --weights FILE")
            with tempfile.TemporaryDirectory() as folder:
                rival = accuracy_rivals.fit(method, dataset, weights, Path(folder))
                found = evaluate_judge(rival.judge, dataset, accuracy_rivals.FRAME)
        except (Missing, PadimEdgeError) as error:
            left_out[what] = reason(str(error))
            continue
        versions |= rival.versions
        row = row_of(found, method, len(dataset.good), rival.bytes, rival.seconds)
        yield dataclasses.replace(row, notes=rival.notes)


if __name__ == "__main__":
    main()
