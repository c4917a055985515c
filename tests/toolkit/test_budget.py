"""`--budget` takes the most accurate form that fits, says what it lost, and refuses what cannot fit."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest
from commands import run
from counted import count_exports
from hypothesis import given
from hypothesis import strategies as st
from small_models import dataset, exported, rounded_to_nearest, weave

from padim_edge import budget, plan, sample
from padim_edge.exports import Job, export_class
from padim_edge.fitted import Fitted, fit_dataset
from padim_edge.presets import parse_bytes, preset
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.progress import SILENT, Feedback

COUNT = 40
SMALL = preset("edge", backbone="builtin", size=64, dims=20, seed=3)


@pytest.fixture(scope="module")
def graph() -> EmbeddingGraph:
    return exported(SMALL)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """An export of a small data set, without an output."""
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=80, train=24, test_good=3, per_defect=1), folder)
    how = ("--backbone", "builtin", "--size", 64, "--dims", 20, "--seed", 3)
    return ("export", "--class", "weave", "--data", folder, *how)


@cache
def fitted(numbers: Precision) -> Fitted:
    """The fit that all forms of the Gaussians share; how int8 weights are rounded does not change a size."""
    method = preset("edge", backbone="builtin", size=64, dims=20, seed=3, precision=numbers)
    with rounded_to_nearest():
        return fit_dataset(dataset(weave(COUNT)), method, feedback=SILENT)


@pytest.mark.parametrize(
    ("text", "size"),
    [("20MB", 20_000_000), ("1.5 GB", 1_500_000_000), ("500kB", 500_000), ("7", 7), ("2MiB", 2 << 20), ("3m", None)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(PadimEdgeError, match="expected a size such as 20MB"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size


@given(st.text(max_size=8).filter(lambda text: not text.strip()[:1].isdecimal()))
def test_what_is_no_size_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(PadimEdgeError, match="expected a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "precision",
    [
        Precision(),
        Precision("fp16"),
        Precision("int8"),
        Precision("int8", "tensorrt"),
        Precision("int8", rank=8),
        Precision(rank=8),
        Precision("int8", diagonal=True),
    ],
    ids=str,
)
def test_the_estimate_is_an_upper_bound_and_a_close_one(
    precision: Precision, graph: EmbeddingGraph, tmp_path: Path
) -> None:
    model = fitted(precision.numbers).export(tmp_path / "m.onnx", precision=precision, progress=False)
    estimated = plan.model_bytes(graph, dataclasses.replace(SMALL, precision=precision), COUNT)
    assert model.bytes <= estimated <= model.bytes + plan._REST + 0.2 * model.bytes


def test_candidates_go_from_exact_to_variances_alone(graph: EmbeddingGraph) -> None:
    found = [each.method.precision for each in budget.candidates(graph, SMALL, 100)]
    assert found[:3] == [Precision(name) for name in ("fp32", "fp16", "int8")]
    ranks = [each.rank for each in found[3:-1]]
    assert ranks == sorted(ranks, reverse=True)  # type: ignore[type-var]
    assert max(ranks) < 20  # type: ignore[type-var]
    assert found[-1].diagonal
    few = [each.method.precision.rank for each in budget.candidates(graph, SMALL, 5)]
    assert all(rank is None or rank < 5 for rank in few)


def test_what_is_chosen_fits_and_nothing_more_accurate_does(graph: EmbeddingGraph) -> None:
    all_forms = list(budget.candidates(graph, SMALL, COUNT))
    for form in all_forms:
        chosen = budget.choose(form.bytes, SMALL, "auto", COUNT)
        first = next(each for each in all_forms if each.bytes <= form.bytes)
        assert chosen == first.method
    with pytest.raises(PadimEdgeError, match="the smallest form"):
        budget.choose(min(each.bytes for each in all_forms) - 1, SMALL, "auto", COUNT)


@cache
def remembering(prototypes: int | None = 900, share: float | None = None, neighbours: int = 1) -> Method:
    """A memory on small frames."""
    method = preset("free", backbone="builtin", size=64, dims=20, seed=3)
    return dataclasses.replace(method, bank=Bank(prototypes=prototypes, share=share, neighbours=neighbours))


@pytest.fixture(scope="module")
def embedding() -> EmbeddingGraph:
    return exported(remembering())


@pytest.mark.parametrize(
    "precision", [Precision(), Precision("fp16"), Precision("int8"), Precision("int8", "tensorrt")], ids=str
)
@pytest.mark.parametrize("prototypes", [64, 900, 10**6])
def test_the_estimate_of_a_memory_is_an_upper_bound(
    precision: Precision, prototypes: int, embedding: EmbeddingGraph, tmp_path: Path
) -> None:
    """In int8 for the CPU, norms of prototypes can take half as many rows as there are dimensions; mostly fewer."""
    method = dataclasses.replace(remembering(prototypes), precision=precision)
    with rounded_to_nearest():
        model = fit_dataset(dataset(weave(COUNT)), method, feedback=SILENT).export(tmp_path / "m.onnx", progress=False)
    estimated = plan.model_bytes(embedding, method, COUNT)
    patches = 8 * 8 * COUNT
    unused = (min(prototypes, patches) - (model.metadata.prototypes or 0)) * (20 + 1) * 4  # as copies of other patches
    assert model.bytes <= estimated <= model.bytes + unused + plan._REST + 0.5 * model.bytes


def test_candidates_of_a_memory_are_number_types_and_then_fewer_prototypes(embedding: EmbeddingGraph) -> None:
    found = [each.method for each in budget.candidates(embedding, remembering(), COUNT)]
    assert [each.precision.name for each in found[:3]] == ["fp32", "fp16", "int8"]
    assert all(each.bank == remembering().bank for each in found[:3])
    assert {each.precision for each in found[3:]} == {Precision("int8")}
    counts = [each.bank.prototypes for each in found[3:] if each.bank]
    assert counts == sorted(counts, reverse=True)  # type: ignore[type-var]
    assert counts[0] < 900  # type: ignore[operator]
    sizes = [each.bytes for each in budget.candidates(embedding, remembering(), COUNT)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_share_of_the_patches_becomes_a_number_where_it_is_too_large(embedding: EmbeddingGraph) -> None:
    """And re-weighting, which int8 does not have, keeps float16."""
    share = remembering(prototypes=None, share=0.5, neighbours=9)
    found = [each.method for each in budget.candidates(embedding, share, COUNT)]
    assert [each.precision.name for each in found[:3]] == ["fp32", "fp16", "fp16"]
    assert "50 % of the patches as prototypes" in budget.form_words(found[0])
    bank = found[2].bank
    assert bank is not None
    assert (bank.share, bank.neighbours) == (None, 9)
    assert bank.prototypes is not None
    assert bank.prototypes < 0.5 * 8 * 8 * COUNT


def test_what_is_chosen_of_a_memory_fits_and_nothing_more_accurate_does(embedding: EmbeddingGraph) -> None:
    forms = list(budget.candidates(embedding, remembering(), COUNT))
    for form in forms:
        chosen = budget.choose(form.bytes, remembering(), "auto", COUNT)
        assert chosen == next(each.method for each in forms if each.bytes <= form.bytes)
    with pytest.raises(
        PadimEdgeError, match=r"the smallest form \(int8 for cpu, 64 prototypes\) takes about"
    ) as refused:
        budget.choose(forms[-1].bytes - 1, remembering(), "auto", COUNT)
    assert "--size" not in str(refused.value), "a memory's constants do not grow with the image"


def test_the_budget_of_a_memory_is_kept_and_what_it_cost_is_told(tmp_path: Path) -> None:
    forms = list(budget.candidates(exported(remembering()), remembering(), 16))
    limit = forms[-2].bytes  # too little for all prototypes
    said: list[str] = []
    job = Job(remembering(), budget=limit)
    with rounded_to_nearest():
        made = export_class(dataset(weave(16)), tmp_path / "m.onnx", job, Feedback(SILENT.report, said.append))
    assert made.model.bytes <= limit
    told = made.to_json()
    assert told["budget"] == limit
    assert told["precision"] == "int8 for cpu"
    assert told["prototypes"] == made.model.metadata.prototypes == 128
    assert made.cost is not None
    assert made.cost.exact_bytes > forms[1].bytes / 2, "compared with all prototypes in float32"
    sentence = made.cost.sentence(made.model.metadata.method)
    assert sentence.startswith("int8 for cpu, 128 prototypes is the most accurate form that fits; against the whole ")
    assert "scores outside the fit of the 16 good images move by" in sentence
    assert any("with 128 prototypes will take about" in each for each in said)


def test_the_command_keeps_the_budget_and_says_what_it_cost(
    common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choosing a form, fitting in it and fitting the exact model to compare with take one export through torch."""
    calls = count_exports(monkeypatch)
    common = (*common, "--output", tmp_path / "m.onnx")
    out, err = run(*common, "--budget", "2MB", "--json")
    told = json.loads(out)
    assert told["bytes"] <= told["budget"] == 2_000_000
    assert told["precision"].startswith(("fp16", "int8"))
    assert told["cost"]["score_median"] < 0.2
    assert "the most accurate form that fits" in err
    out, err = run(*common, "--budget", "1GB", "--json")
    assert json.loads(out)["precision"] == "fp32 for cpu"
    assert "most accurate form" not in err
    assert len(calls) == 1
    assert "the smallest form" in run(*common, "--budget", "10kB", code=1)[1]
    assert "leave --precision" in run(*common, "--budget", "1MB", "--precision", "int8", code=1)[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--precision", "int4"), "there is no precision 'int4'"),
        (("--target", "npu"), "there is no target 'npu'"),
        (("--rank", 4, "--diagonal"), "exclude each other"),
        (("--rank", 20), "the rank is 20, expected 1 to 19"),
        (("--budget", "many"), "expected a size"),
    ],
)
def test_impossible_numbers_are_refused(
    options: tuple[object, ...], sentence: str, common: tuple[object, ...], tmp_path: Path
) -> None:
    assert sentence in run(*common, "--output", tmp_path / "m.onnx", *options, code=1)[1]
    assert not any(tmp_path.iterdir())
