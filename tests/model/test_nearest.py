"""The distance stage of a memory against float64, written straight from the equations, in every number type."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import heads
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from padim_edge_artifact.method import Precision
from padim_edge_model import tensorrt_rules
from padim_edge_model.graph import Part
from padim_edge_model.memory import Nearest
from padim_edge_model.nearest import most_extra
from padim_edge_runtime.devices.providers import open_session

TOLERANCE = 3e-6
"""Error of a squared distance, relative to |z|^2 + |c|^2, of which it is a difference in float32; 1.1e-6 is the most
seen. A prototype comes out up to 4e-4 of its length away from itself."""

RELATIVE = 1e-4
"""Error relative to the distance of patches that are as far from their prototype as it is from the mean."""

NUMBERS = {
    str(each): each for each in (Precision(), Precision("fp16"), Precision("int8"), Precision("int8", "tensorrt"))
}

PARTS = heads.parts_of([(5, (6, 7)), (4, (6, 7))])
DIMS = 9

Values = list[npt.NDArray[np.float32]]


def form(prototypes: int, *, seed: int = 0, frequent: int | None = None, searched: float = 0.25) -> Nearest:
    """A memory with a drawn metric, far from the identity, and drawn prototypes."""
    draw = np.random.default_rng(seed)
    spread = np.exp(draw.uniform(-2, 2, DIMS))
    directions, _ = np.linalg.qr(draw.standard_normal((DIMS, DIMS)))
    points = draw.standard_normal((prototypes, DIMS)).astype(np.float32)
    return Nearest(
        mean=draw.standard_normal(DIMS).astype(np.float32),
        whitening=(directions / spread).astype(np.float32),
        prototypes=points,
        frequent=prototypes if frequent is None else frequent,
        searched=searched,
        step=float(np.abs(points).max()) / 127,
    )


def images(memory: Nearest, count: int, seed: int = 1, parts: Sequence[Part] = PARTS) -> Values:
    """Parts of images whose patches are about as far from the mean as the prototypes."""
    draw = np.random.default_rng(seed)
    grid = parts[0].grid
    points = draw.standard_normal((count, *grid, DIMS)) * 1.5
    return of_points(memory, points, parts)


def of_points(memory: Nearest, points: np.ndarray, parts: Sequence[Part] = PARTS) -> Values:
    """Parts `(N, d, h, w)` of patches with these coordinates `(N, h, w, D)`."""
    vectors = points @ np.linalg.inv(memory.whitening.astype(np.float64)) + memory.mean
    bounds = np.cumsum([each.dims for each in parts])[:-1]
    return [each.transpose(0, 3, 1, 2).astype(np.float32) for each in np.split(vectors, bounds, axis=3)]


def run(
    memory: Nearest,
    precision: Precision,
    values: Values,
    inspected: np.ndarray | None = None,
    outputs: dict[str, int] | None = None,
    parts: Sequence[Part] = PARTS,
) -> list[np.ndarray]:
    """Distances `(N, P)`, weights where the form has neighbours, and inner tensors of these types."""
    model, _ = heads.memory_head(parts, memory, precision, inspected)
    for name, kind in (outputs or {}).items():
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    feeds = {part.name: value for part, value in zip(parts, values, strict=True)}
    return [np.asarray(each) for each in open_session(model.SerializeToString(), "cpu").session.run(None, feeds)]


def compared(memory: Nearest, precision: Precision) -> np.ndarray:
    """Prototypes `(M, D)` in float64 as the graph holds them: rounded to the number type."""
    if precision.name == "fp32":
        return memory.prototypes.astype(np.float64)
    if precision.name == "fp16":
        return memory.prototypes.astype(np.float16).astype(np.float64)
    step = memory.step * (2 if precision.target == "cpu" else 1)
    largest = 63 if precision.target == "cpu" else 127
    return np.rint(memory.prototypes / step).clip(-largest, largest) * step


def coordinates(memory: Nearest, values: Values, precision: Precision) -> np.ndarray:
    """`(N, P, D)` in float64; in int8 for the CPU those of the codes, which are the nearest ones but for rounding."""
    joint = np.concatenate(values, axis=1).astype(np.float64)
    vectors = joint.reshape(*joint.shape[:2], -1).transpose(0, 2, 1) - memory.mean
    z = vectors @ memory.whitening.astype(np.float64)
    if precision != Precision("int8"):
        return z
    _, codes = codes_of(memory, values)
    assert (np.abs(codes - (z / memory.step).clip(-128, 127)) < 0.5 + 1e-4).all()
    return codes * memory.step


def expected(
    memory: Nearest, values: Values, precision: Precision, inside: np.ndarray | None = None
) -> tuple[reference.Searched, np.ndarray]:
    """Distances in float64, and what their squares are differences of, `(N, P)`."""
    z, prototypes = coordinates(memory, values, precision), compared(memory, precision)
    away = np.sqrt(np.square(z[:, :, None] - prototypes).sum(axis=3))
    count = z.shape[1] if inside is None else int(inside.sum())
    count = min(int(np.ceil(memory.searched * count)), tensorrt_rules.LARGEST_K)
    found = reference.search(away, memory.frequent, count, inside)
    return found, np.square(z).sum(axis=2) + np.square(prototypes).sum(axis=1).max()


def check(found: np.ndarray, wanted: reference.Searched, scale: np.ndarray) -> None:
    """Compare squares; a patch at the border between the farthest and the rest may be on either side."""
    off = np.abs(np.square(found, dtype=np.float64) - np.square(wanted.distance))
    either = np.abs(np.square(found, dtype=np.float64) - np.square(wanted.other))
    off = np.where(wanted.margin < 1e-5, np.minimum(off, either), off)
    assert (off <= TOLERANCE * scale).all(), (off / scale).max()


@pytest.mark.parametrize("numbers", NUMBERS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    prototypes=st.sampled_from([1, 2, 17, 300, 1500]),
    frequent=st.floats(0, 1),
    searched=st.sampled_from([0.01, 0.25, 0.5, 1.0]),
    count=st.integers(1, 3),
)
def test_the_graph_gives_the_distance_to_the_nearest_prototype(
    numbers: str, seed: int, prototypes: int, frequent: float, searched: float, count: int
) -> None:
    """For any number of prototypes, frequent ones among them, share of the patches that is searched, and images."""
    precision = NUMBERS[numbers]
    memory = form(prototypes, seed=seed, frequent=max(1, round(frequent * prototypes)), searched=searched)
    values = images(memory, count, seed + 1)
    (found,) = run(memory, precision, values)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    wanted, scale = expected(memory, values, precision)
    check(found, wanted, scale)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_distance_is_within_a_ten_thousandth(numbers: str) -> None:
    precision, memory = NUMBERS[numbers], form(300)
    values = images(memory, 20)
    wanted, scale = expected(memory, values, precision)
    far = np.square(wanted.distance) > scale / 8
    assert far.mean() > 0.2
    (found,) = run(memory, precision, values)
    np.testing.assert_allclose(found[far], wanted.distance[far], rtol=RELATIVE)


@pytest.mark.parametrize("numbers", ["fp32 for cpu", "fp16 for cpu", "int8 for tensorrt"])
def test_a_prototype_is_no_farther_from_itself_than_rounding(numbers: str) -> None:
    precision, memory = NUMBERS[numbers], form(42)
    whole = compared(memory, precision)  # one that exists in these numbers
    values = of_points(memory, whole.reshape(1, 6, 7, DIMS))
    (found,) = run(memory, precision, values)
    longest = np.linalg.norm(whole, axis=1).max()
    assert 0 <= found.min() <= found.max() <= np.sqrt(2 * TOLERANCE) * longest


@pytest.mark.parametrize("numbers", ["fp32 for cpu", "int8 for tensorrt"])
def test_large_images_are_searched_as_far_as_tensorrt_can_pick(numbers: str) -> None:
    precision, memory = NUMBERS[numbers], form(60, frequent=20, searched=0.5)
    parts = heads.parts_of([(5, (90, 100)), (4, (90, 100))])
    values = images(memory, 1, parts=parts)
    (found,) = run(memory, precision, values, parts=parts)
    wanted, scale = expected(memory, values, precision)
    check(found, wanted, scale)
    assert (wanted.distance < wanted.other).any()
    assert memory.searched * found.shape[1] > tensorrt_rules.LARGEST_K
    assert not tensorrt_rules.check(heads.memory_head(parts, memory, precision)[0])


def codes_of(memory: Nearest, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Distances `(N, P)` in int8 for the CPU, and the codes `(N, P, D)` of the coordinates that they were made of."""
    found, codes = run(memory, Precision("int8"), values, outputs={"coordinate_codes": TensorProto.UINT8})
    return found, codes[:, :, :DIMS].astype(np.int64) - 128


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), prototypes=st.sampled_from([1, 40, 700]), reach=st.sampled_from([0.01, 0.3, 1.0, 50.0]))
def test_int8_is_the_distance_of_the_codes_to_the_last_bit(seed: int, prototypes: int, reach: float) -> None:
    """Integers lose nothing, however long the prototypes are: only the root and the step are floats."""
    memory = form(prototypes, seed=seed, frequent=-(-prototypes // 3), searched=1.0)
    memory = dataclasses.replace(memory, step=memory.step * reach)  # beyond it, codes are cut off
    found, codes = codes_of(memory, images(memory, 2, seed))
    own = np.rint(memory.prototypes / (2 * memory.step)).clip(-63, 63).astype(np.int64)
    squared = np.square(codes[:, :, None] - 2 * own).sum(axis=3).min(axis=2)
    assert (found == np.sqrt(squared.astype(np.float32)) * np.float32(memory.step)).all()


def test_a_prototype_is_as_far_from_itself_in_int8_as_its_codes_are() -> None:
    """Prototypes have 7 bits and patches 8, so each odd code is one step away."""
    memory = form(42)
    found, codes = codes_of(memory, of_points(memory, memory.prototypes.astype(np.float64).reshape(1, 6, 7, DIMS)))
    own = np.rint(memory.prototypes / (2 * memory.step)).astype(np.int64)
    assert (np.abs(codes[0] - 2 * own) <= 1).all()
    assert (found <= np.sqrt(DIMS) * memory.step).all()


@pytest.mark.parametrize("numbers", NUMBERS)
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 99),
    grid=st.sampled_from([(6, 7), (1, 2), (1, 1), (3, 5), (28, 28)]),
    count=st.integers(2, 5),
    searched=st.sampled_from([0.1, 0.25, 1.0]),
    neighbours=st.sampled_from([0, 9]),
)
def test_a_batch_is_its_images_one_by_one_to_the_last_bit(
    numbers: str, seed: int, grid: tuple[int, int], count: int, searched: float, neighbours: int
) -> None:
    precision, memory = NUMBERS[numbers], form(300, seed=seed, frequent=70, searched=searched)
    # A product of one row alone rounds otherwise, unless onnxruntime has laid out the matrix beforehand.
    assume(precision != Precision("int8", "tensorrt") or grid[0] * grid[1] > 2)
    if neighbours and precision.name != "int8":
        memory = with_neighbours(memory, neighbours)
    parts = heads.parts_of([(5, grid), (4, grid)])
    values = images(memory, count, seed, parts)
    together = run(memory, precision, values, parts=parts)
    for i in range(count):
        for whole, single in zip(
            together, run(memory, precision, [each[i : i + 1] for each in values], parts=parts), strict=True
        ):
            assert (whole[i] == single[0]).all()


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("searched", [0.25, 1.0])
def test_patches_outside_the_region_take_no_search_from_those_inside(numbers: str, searched: float) -> None:
    """The share that is searched is one of the patches inside, and these are the farthest ones inside."""
    precision, memory = NUMBERS[numbers], form(300, frequent=20, searched=searched)
    values = images(memory, 3)
    inside = np.zeros((6, 7))
    inside[1:4, 2:6] = 1
    (found,) = run(memory, precision, values, inside)
    wanted, scale = expected(memory, values, precision, inside.ravel())
    check(found, wanted, scale)
    if searched < 1:
        (everywhere,) = run(memory, precision, values)
        assert (found != everywhere).any()


def with_neighbours(memory: Nearest, count: int) -> Nearest:
    """The same with PatchCore's re-weighting."""
    between = reference.away_from(
        memory.prototypes.astype(np.float64), np.eye(DIMS), memory.prototypes.T[None, :, :, None]
    )
    return dataclasses.replace(memory, neighbours=np.argsort(between[0], axis=1, kind="stable")[:, :count])


@pytest.mark.parametrize("numbers", ["fp32 for cpu", "fp16 for cpu"])
@pytest.mark.parametrize(("prototypes", "neighbours"), [(300, 9), (300, 2), (1500, 9), (5, 9), (1, 1)])
def test_patchcores_weight_is_its_equation(numbers: str, prototypes: int, neighbours: int) -> None:
    precision = NUMBERS[numbers]
    memory = with_neighbours(form(prototypes), neighbours)
    values = images(memory, 6)
    found, weight = run(memory, precision, values)
    z, own = coordinates(memory, values, precision), compared(memory, precision)
    away = np.sqrt(np.square(z[:, :, None] - own).sum(axis=3))
    wanted = reference.patchcore_weight(away, own, np.eye(DIMS), neighbours)
    np.testing.assert_allclose(weight.ravel(), wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found, away.min(axis=2), rtol=1e-3)


def test_patchcores_weight_looks_inside_the_region_alone() -> None:
    memory = with_neighbours(form(300), 9)
    values = images(memory, 6)
    inside = np.zeros((6, 7))
    inside[2:4, 2:5] = 1
    _, weight = run(memory, Precision(), values, inside)
    away = np.sqrt(np.square(coordinates(memory, values, Precision())[:, :, None] - memory.prototypes).sum(axis=3))
    wanted = reference.patchcore_weight(
        away[:, inside.ravel() == 1], memory.prototypes.astype(np.float64), np.eye(DIMS), 9
    )
    np.testing.assert_allclose(weight.ravel(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("prototypes", [300, 2000])
def test_the_constants_take_as_many_bytes_as_the_number_type_says(numbers: str, prototypes: int) -> None:
    """And whatever the region, no coordinate more than the plan of a fit expects."""
    precision, memory = NUMBERS[numbers], form(prototypes, frequent=100)
    _, editor = heads.memory_head(PARTS, memory, precision)
    size = {"fp32": 4, "fp16": 2, "int8": 1}[precision.name]
    rows = sum(each.nbytes for each in editor.large.values()) / (size * prototypes)
    assert DIMS < rows <= DIMS + most_extra(precision, DIMS)
    assert all(each.startswith("head/prototypes") for each in editor.large)


def test_norms_of_the_longest_codes_fill_all_the_rows_that_the_plan_expects() -> None:
    memory = form(3)
    memory = dataclasses.replace(memory, prototypes=np.full_like(memory.prototypes, 63 * 2 * memory.step))
    _, editor = heads.memory_head(PARTS, memory, Precision("int8"))
    assert {len(each) for each in editor.large.values()} == {DIMS + most_extra(Precision("int8"), DIMS)}


@pytest.mark.parametrize(
    ("numbers", "neighbours"), [*((each, 0) for each in NUMBERS), ("fp32 for cpu", 9), ("fp16 for cpu", 9)]
)
def test_tensorrt_takes_all_but_the_integers_of_the_cpu(numbers: str, neighbours: int) -> None:
    precision, memory = NUMBERS[numbers], form(1500, frequent=300)
    if neighbours:
        memory = with_neighbours(memory, neighbours)
    model, _ = heads.memory_head(PARTS, memory, precision)
    findings = tensorrt_rules.check(model)
    if precision == Precision("int8"):
        assert any(each.op == "MatMulInteger" for each in findings)
    else:
        assert not findings
    assert onnx.shape_inference.infer_shapes(model, strict_mode=True)
