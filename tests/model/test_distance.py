"""The distance stage of the graph, run by onnxruntime, in every form and precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import heads
import numpy as np
import onnx
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import Statistics
from padim_edge_export.quantise import integers
from padim_edge_model.distance import LARGEST_WEIGHT, quantise_columns
from padim_edge_model.graph import Part
from padim_edge_model.whitening import Form, LowRank, diagonal, exact_numbers, low_rank, squared_distance, whiten

RIDGE = 0.01

FORMS: dict[str, Callable[[Statistics, tuple[Part, ...]], Form]] = {
    "exact": lambda statistics, parts: whiten(statistics, RIDGE, parts),
    "low rank": lambda statistics, _: low_rank(statistics, RIDGE, statistics.dims // 2),
    "diagonal": lambda statistics, _: diagonal(statistics, RIDGE),
}

NUMBERS = ("fp32", "fp16", "int8 cpu", "int8 tensorrt")

TOLERANCE = {"fp32": 2e-4, "fp16": 1e-2, "int8 cpu": 5e-2, "int8 tensorrt": 5e-2}
"""Relative error of a distance. fp32: as for the factors themselves, see test_whitening. fp16: 11 binary digits,
magnified by sums of 20 numbers of either sign. int8: a column of a factor has 63 steps on each side."""

CANCELLED = {"fp32": 1e-5, "fp16": 2e-3, "int8 cpu": 1e-2, "int8 tensorrt": 1e-2}
"""Error of a squared low-rank distance relative to `tail |c|^2`, from which it is left after a subtraction."""

ZERO = {"fp32": 1e-4, "fp16": 1e-4, "int8 cpu": 2e-2, "int8 tensorrt": 1e-4}
"""Absolute error, where other distances are about 5. The mean is subtracted first, except for integers: there two
products of 1e5 steps each are subtracted in float32."""

NESTED = heads.parts_of([(5, (4, 6)), (8, (2, 3)), (7, (1, 1))])
NOT_NESTED = heads.parts_of([(5, (4, 5)), (4, (3, 3)), (6, (3, 3))])
WIDE = heads.parts_of([(70, (2, 2)), (40, (1, 2))])
"""Parts with more dimensions than one triangular block has columns."""


def prepared(parts: tuple[Part, ...], values: list[np.ndarray], numbers: str) -> tuple[tuple[Part, ...], str]:
    """Parts and precision in the form that `append_distance` takes."""
    return (heads.with_codes(parts, values) if numbers == "int8 cpu" else parts), numbers.split(" ", 1)[0]


def dense(form: str, statistics: Statistics, others: np.ndarray) -> np.ndarray:
    """Distances `(N, h, w)` in float64, from dense matrices."""
    covariance = statistics.scatter / (statistics.count - 1) + RIDGE * np.eye(statistics.dims)
    if form == "diagonal":
        covariance = np.stack([np.diag(np.diag(each)) for each in covariance])
    elif form == "low rank":
        values, vectors = np.linalg.eigh(covariance)
        beyond = statistics.dims - statistics.dims // 2
        values[:, :beyond] = values[:, :beyond].mean(axis=1, keepdims=True)
        covariance = (vectors * values[:, None]) @ vectors.transpose(0, 2, 1)
    gaussians = reference.Gaussians(statistics.mean, np.linalg.inv(covariance))
    return reference.distance(gaussians, others.astype(np.float64))


@pytest.mark.parametrize("parts", [NESTED, NOT_NESTED, WIDE], ids=["nested", "not nested", "wide"])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_gives_the_distance_of_its_form(form: str, numbers: str, parts: tuple[Part, ...]) -> None:
    values, others = heads.draw(parts, 160, 0), heads.draw(parts, 6, 1)
    parts, precision = prepared(parts, values, numbers)
    values, others = heads.coded(parts, values), heads.coded(parts, others)
    statistics = heads.statistics_of(values)
    built = FORMS[form](statistics, parts)
    found = heads.run(parts, built, precision, others)
    assert found.dtype == np.float32
    expected = dense(form, statistics, heads.joined(others))
    allowed = TOLERANCE[numbers] * expected
    if isinstance(built, LowRank):
        away = heads.joined(others) - statistics.mean.T.reshape(1, -1, *statistics.grid)
        whole = built.tail.reshape(statistics.grid) * np.square(away).sum(axis=1)
        allowed += np.sqrt(np.square(expected) + CANCELLED[numbers] * whole) - expected
    assert (np.abs(found - expected) <= allowed).all(), np.abs(found / expected - 1).max()
    assert np.ptp(expected) > 1  # they are not all alike


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    n=st.integers(2, 12),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    form=st.sampled_from(sorted(FORMS)),
    numbers=st.sampled_from(NUMBERS),
)
def test_a_distance_is_never_negative_and_always_a_number(
    seed: int, n: int, scale: float, form: str, numbers: str
) -> None:
    """This holds for images that are all alike, far away, or fewer than the dimensions, too."""
    values = [each * np.float32(scale) for each in heads.draw(NESTED, n, seed)]
    others = [*heads.draw(NESTED, 2, seed + 1)]
    parts, precision = prepared(NESTED, values, numbers)
    statistics = heads.statistics_of(heads.coded(parts, values))
    for judged in (values, others, [np.zeros_like(each) for each in others], [each * 100 for each in others]):
        found = heads.run(parts, FORMS[form](statistics, parts), precision, judged)
        assert np.isfinite(found).all()
        assert (found >= 0).all()


@pytest.mark.parametrize("parts", [NESTED, NOT_NESTED, WIDE], ids=["nested", "not nested", "wide"])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_distance_of_the_mean_is_zero(form: str, numbers: str, parts: tuple[Part, ...]) -> None:
    values = heads.draw(parts, 160, 0)
    parts, precision = prepared(parts, values, numbers)
    mean = heads.coded(parts, [each.mean(axis=0, keepdims=True) for each in values])  # one that exists in codes
    embedding = heads.joined(mean)[0]
    statistics = dataclasses.replace(heads.statistics_of(values), mean=embedding.reshape(len(embedding), -1).T)
    built = FORMS[form](statistics, parts)
    assert heads.run(parts, built, precision, mean).max() < ZERO[numbers]
    assert heads.run(parts, built, precision, values).min() > 1


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_constants_are_what_the_form_says_in_as_many_bytes_as_the_precision_says(numbers: str) -> None:
    values = heads.draw(NESTED, 30, 0)
    parts, precision = prepared(NESTED, values, numbers)
    model, editor = heads.head(parts, FORMS["exact"](heads.statistics_of(values), parts), precision)
    onnx.checker.check_model(model, full_check=True)
    assert sum(each.size for each in editor.large.values()) == exact_numbers(parts)
    assert {each.dtype for each in editor.large.values()} == {
        np.dtype({"fp32": np.float32, "fp16": np.float16, "int8": np.int8}[precision])
    }
    assert all(each.startswith("head/") for each in editor.large)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_triangular_blocks_are_cut_from_the_coarsest_level_only_and_change_nothing(numbers: str) -> None:
    """One level has one block; the other has four, without most of its zero half."""
    parts = heads.parts_of([(4, (2, 2)), (110, (1, 1))])
    values = heads.draw(parts, 160, 0)
    parts, precision = prepared(parts, values, numbers)
    model, editor = heads.head(parts, FORMS["exact"](heads.statistics_of(values), parts), precision)
    assert [each.shape for each in editor.large.values()] == [
        (1, 46, 46),
        (1, 78, 32),
        (1, 110, 32),
        (4, 114, 4),
    ]
    assert sum(node.op_type == "Slice" for node in model.graph.node) == 2


def test_integers_multiply_integers_and_the_other_precisions_floats() -> None:
    values = heads.draw(NESTED, 30, 0)
    statistics = heads.statistics_of(values)
    for numbers, product, other in (
        ("fp32", "MatMul", "MatMulInteger"),
        ("fp16", "MatMul", "MatMulInteger"),
        ("int8 cpu", "MatMulInteger", "MatMul"),
        ("int8 tensorrt", "MatMul", "MatMulInteger"),
    ):
        parts, precision = prepared(NESTED, values, numbers)
        model, _ = heads.head(parts, FORMS["exact"](statistics, parts), precision)
        kinds = [node.op_type for node in model.graph.node]
        assert kinds.count(product) == 3
        assert other not in kinds


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_distance_of_a_thousand_is_right(form: str, numbers: str) -> None:
    """Its square is 15 times the largest number of float16."""
    values, others = heads.draw(NESTED, 160, 0), heads.draw(NESTED, 2, 1)
    statistics = heads.statistics_of(values)
    far = [200 * each for each in others]
    expected = dense(form, statistics, heads.joined(far))
    assert expected.max() > 1000
    parts, precision = prepared(NESTED, far, numbers)
    if parts[0].codes is not None:
        expected = dense(form, statistics, heads.joined(heads.coded(parts, far)))
    found = heads.run(parts, FORMS[form](statistics, parts), precision, far)
    np.testing.assert_allclose(found, expected, rtol=1e-2 if precision == "fp16" else TOLERANCE[numbers])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 9), columns=st.integers(1, 9), tiny=st.booleans())
@pytest.mark.parametrize("largest", LARGEST_WEIGHT.values())
def test_a_factor_keeps_all_steps_of_a_side_in_each_column(
    seed: int, rows: int, columns: int, tiny: bool, largest: int
) -> None:
    factor = np.random.default_rng(seed).standard_normal((3, rows, columns)).astype(np.float32)
    factor *= np.float32(10.0) ** np.arange(columns)
    factor[0, :, 0] = 0
    if tiny:
        factor *= np.float32(1e-12)
    unit = np.float32(2.0) ** np.arange(rows)  # exact, so that the quotient is
    codes, scale = quantise_columns(factor / unit[:, None], unit, largest)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() <= largest
    assert (np.abs(codes.astype(int)).max(axis=1) == largest).sum() == 3 * columns - 1  # all but the empty one use them
    assert (scale > 0).all()
    away = np.abs(codes * scale[:, None].astype(np.float64) - factor)
    assert (away <= 0.501 * scale[:, None]).all()


def test_two_products_of_integers_fit_into_16_bits() -> None:
    """Processors with AVX2 but without VNNI add them in 16 bits, and silently cut off larger sums."""
    largest = np.iinfo(np.int16).max
    weights = LARGEST_WEIGHT["MatMulInteger"], integers.LARGEST_WEIGHT["cpu"]
    assert all(2 * 255 * weight <= largest for weight in weights)
    values = heads.draw(NESTED, 60, 0)
    parts, _ = prepared(NESTED, values, "int8 cpu")
    _, editor = heads.head(parts, FORMS["exact"](heads.statistics_of(values), parts), "int8")
    assert max(np.abs(each.astype(int)).max() for each in editor.large.values()) == weights[0]


def test_dimensions_a_thousand_times_as_large_as_others_cost_no_steps() -> None:
    """One stage has them, as in deep networks. (Low rank is then a small difference of large numbers, in any type.)"""
    values, others = heads.draw(NESTED, 160, 0), heads.draw(NESTED, 6, 1)
    away = []
    for factor in (1, 1000):
        scaled, judged = ([each[0], each[1], factor * each[2]] for each in (values, others))
        statistics = heads.statistics_of(scaled)
        found = heads.run(NESTED, whiten(statistics, RIDGE, NESTED), "int8", judged)
        away.append(np.abs(found / dense("exact", statistics, heads.joined(judged)) - 1).mean())
    assert away[1] < 2 * away[0] < 0.02


def test_calibration_takes_the_very_distance_of_the_graph() -> None:
    """`squared_distance` gives the same as the fp32 graph."""
    values = heads.draw(NESTED, 60, 0)
    form = whiten(heads.statistics_of(values), RIDGE, NESTED)
    vectors = heads.joined(values).reshape(60, 20, -1).transpose(2, 0, 1)
    squared = squared_distance(form, np.ascontiguousarray(vectors), (4, 6))
    found = heads.run(NESTED, form, "fp32", values)
    np.testing.assert_allclose(np.sqrt(squared).T.reshape(60, 4, 6), found, rtol=TOLERANCE["fp32"])
