"""`--budget` takes the most accurate form that fits, says what it lost, and refuses what cannot fit."""

from __future__ import annotations

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
from padim_edge.fitted import Fitted, fit_dataset
from padim_edge.presets import parse_bytes, preset
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Precision
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.progress import SILENT

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
    estimated = plan.model_bytes(graph, precision, COUNT)
    assert model.bytes <= estimated <= model.bytes + plan._REST + 0.2 * model.bytes


def test_candidates_go_from_exact_to_variances_alone(graph: EmbeddingGraph) -> None:
    found = [each.precision for each in budget.candidates(graph, 100, "cpu")]
    assert found[:3] == [Precision(name) for name in ("fp32", "fp16", "int8")]
    ranks = [each.rank for each in found[3:-1]]
    assert ranks == sorted(ranks, reverse=True)  # type: ignore[type-var]
    assert max(ranks) < 20  # type: ignore[type-var]
    assert found[-1].diagonal
    assert all(each.rank is None or each.rank < 5 for each in (c.precision for c in budget.candidates(graph, 5, "cpu")))


def test_what_is_chosen_fits_and_nothing_more_accurate_does(graph: EmbeddingGraph) -> None:
    all_forms = list(budget.candidates(graph, COUNT, "cpu"))
    for form in all_forms:
        chosen = budget.choose(form.bytes, SMALL, "auto", COUNT)
        first = next(each for each in all_forms if each.bytes <= form.bytes)
        assert chosen == first.precision
    with pytest.raises(PadimEdgeError, match="the smallest form"):
        budget.choose(min(each.bytes for each in all_forms) - 1, SMALL, "auto", COUNT)


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
