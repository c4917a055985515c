"""The memory of a fit: the metric against numpy's covariance, what thinning keeps, and how memories add up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from drawn_memory import GRID, distances, embedded, learned, method, parts, patches, rows, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from padim_edge_artifact import ArtifactError, Memory, PadimEdgeError, Statistics
from padim_edge_artifact.memory import FOLDS
from padim_edge_artifact.method import Method
from padim_edge_model import memory as module
from padim_edge_model.memory import fold_at, merge_memories, metric_of, moments_of, nearest_of

COUNT = 48
GOOD = embedded(parts(COUNT))
FRESH = embedded(parts(40, seed=1))
SMALL = method(prototypes=150)
"""A memory that must choose."""
ROOMY = method(prototypes=COUNT * GRID[0] * GRID[1])
"""A memory that can hold every patch."""

COVERED = 1.5
"""Most that a memory which was thinned in between may cover worse than one that was not. By Gonzalez, either may be
twice as bad as the best choice. On these images they differ by a tenth."""
SCORES = 0.06
"""Most that the mean score of fresh images may differ between two ways to the same memory."""
SINGLE = 0.12
"""Most that half of the single scores may differ."""


def total(memory: Memory) -> Statistics:
    return moments_of(memory, range(FOLDS))


def reach(memory: Memory, embeddings: np.ndarray = GOOD) -> float:
    """Distance of the good patch that is farthest from all prototypes."""
    return float(distances(nearest_of(memory, SMALL), embeddings).max())


def assert_close(one: Memory, other: Memory) -> None:
    """Assert that both are of the same images, and judge and cover images nearly alike."""
    assert one.count == other.count
    assert one.patches.sum() == other.patches.sum()
    np.testing.assert_allclose(total(one).mean, total(other).mean, rtol=1e-9)
    np.testing.assert_allclose(total(one).scatter, total(other).scatter, rtol=1e-9, atol=1e-9)
    first, second = (scores(nearest_of(each, SMALL), FRESH) for each in (one, other))
    assert abs(first.mean() / second.mean() - 1) < SCORES
    assert np.median(np.abs(first / second - 1)) < SINGLE
    assert 1 / COVERED < reach(one) / reach(other) < COVERED


def assert_same_bits(one: Memory, other: Memory) -> None:
    for field in ("fold_of", "patches", "mean", "scatter"):
        assert np.array_equal(getattr(one, field), getattr(other, field)), field
    for field in ("vectors", "weights"):
        assert all(map(np.array_equal, getattr(one, field), getattr(other, field))), field


# The metric


def moments(points: np.ndarray) -> Statistics:
    exact = points.astype(np.float64)
    mean = exact.mean(axis=0)
    return Statistics(len(points), mean[None], ((exact - mean).T @ (exact - mean))[None], (1, 1))


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 60), dims=st.integers(1, 12), ridge=st.sampled_from((1e-4, 0.01, 3.0)), seed=st.integers(0, 99)
)
def test_distances_are_mahalanobis_distances(count: int, dims: int, ridge: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    points = (draw.standard_normal((count, dims)) @ draw.standard_normal((dims, dims)) + 5).astype(np.float32)
    metric = metric_of(moments(points), ridge, whitened=True)
    covariance = np.cov(points.astype(np.float64), rowvar=False).reshape(dims, dims) + ridge * np.eye(dims)
    away = points[:, None].astype(np.float64) - points[None]
    expected = np.sqrt(np.einsum("ijd,de,ije->ij", away, np.linalg.inv(covariance), away))
    exact = (points - metric.mean) @ metric.whitening
    np.testing.assert_allclose(np.linalg.norm(exact[:, None] - exact[None], axis=2), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(metric(points), exact, rtol=1e-4, atol=1e-5 * np.abs(metric.whitening).max())


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 60), dims=st.integers(1, 12), seed=st.integers(0, 99))
def test_distances_that_are_not_whitened_are_euclidean(count: int, dims: int, seed: int) -> None:
    points = (7 * np.random.default_rng(seed).standard_normal((count, dims)) + 5).astype(np.float32)
    found = metric_of(moments(points), 0.01, whitened=False)(points)
    away, expected = found[:, None] - found[None], points[:, None] - points[None]
    np.testing.assert_allclose(np.linalg.norm(away, axis=2), np.linalg.norm(expected, axis=2), rtol=1e-4, atol=1e-5)


def test_a_metric_needs_two_patches_and_finite_ones() -> None:
    with pytest.raises(PadimEdgeError, match="holds 1 patches, expected those of at least 2 images"):
        metric_of(moments(np.ones((1, 3))), 0.01, whitened=True)
    broken = dataclasses.replace(moments(np.ones((5, 3))), scatter=np.full((1, 3, 3), np.nan))
    with pytest.raises(PadimEdgeError, match="not finite; fit again"):
        metric_of(broken, 0.01, whitened=True)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 30), batch=st.integers(1, 12), left_out=st.sets(st.integers(0, FOLDS - 1), max_size=7))
def test_moments_of_folds_merge_to_the_covariance_of_all_their_patches(
    count: int, batch: int, left_out: set[int]
) -> None:
    memory = learned(GOOD[:count], SMALL, batch=batch)
    folds = [fold for fold in range(FOLDS) if fold not in left_out]
    points = rows(GOOD[:count][np.isin(memory.fold_of, folds)]).astype(np.float64)
    found = moments_of(memory, folds)
    assert found.count == len(points)
    if len(points):
        np.testing.assert_allclose(found.mean[0], points.mean(axis=0), rtol=1e-9)
        expected = np.cov(points, rowvar=False)
        np.testing.assert_allclose(found.scatter[0] / (len(points) - 1), expected, rtol=1e-9, atol=1e-9)


# Folds


@given(total=st.integers(1, 500))
def test_folds_are_contiguous_and_of_about_equal_size(total: int) -> None:
    folds = np.array([fold_at(place, total) for place in range(total)])
    assert folds[0] == 0
    assert (np.diff(folds) >= 0).all()
    sizes = np.bincount(folds, minlength=FOLDS)
    assert len(sizes) == FOLDS
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_images_are_each_a_fold(count: int) -> None:
    memory = learned(GOOD[:count], SMALL)
    assert np.unique(memory.fold_of).tolist() == memory.fold_of.tolist()
    assert sorted(memory.patches.tolist()) == [0] * (FOLDS - count) + [64] * count
    nearest = nearest_of(memory, SMALL)
    assert len(nearest.prototypes) == min(150, 64 * count)
    assert scores(nearest, GOOD[:count]).max() < 2 * scores(nearest, GOOD[count : count + 9]).max()


def test_an_empty_memory_is_refused() -> None:
    for memory, left_out in ((Memory.empty(GRID, 9), ()), (learned(GOOD[:2], SMALL), range(FOLDS))):
        with pytest.raises(PadimEdgeError, match="empty; expected at least 2 good images"):
            nearest_of(memory, SMALL, left_out)


# Candidates


@pytest.mark.parametrize("how", [SMALL, ROOMY, method(prototypes=None, share=0.05)], ids=["small", "roomy", "share"])
@pytest.mark.parametrize("buffered", [2, 64])
def test_every_candidate_is_a_patch_of_its_fold(how: Method, buffered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are patches of good images to the bit, and not means of several."""
    monkeypatch.setattr(module, "_BUFFER_IMAGES", buffered)
    memory = learned(GOOD, how)
    for fold in range(FOLDS):
        own = {row.tobytes() for row in rows(GOOD[memory.fold_of == fold])}
        found = [row.tobytes() for row in memory.vectors[fold]]
        assert set(found) <= own
        assert len(set(found)) == len(found)
        assert len(found) <= memory.weights[fold].sum() == memory.patches[fold] == 64 * (memory.fold_of == fold).sum()


def test_prototypes_are_candidates_and_as_many_as_asked() -> None:
    memory = learned(GOOD, SMALL)
    nearest = nearest_of(memory, SMALL)
    assert nearest.prototypes.shape == (150, 9)
    z = (patches(memory) - nearest.mean) @ nearest.whitening
    for prototype in nearest.prototypes:
        assert np.abs(z - prototype).max(axis=1).min() < 1e-4
    part = method(prototypes=None, share=0.05)
    assert len(nearest_of(learned(GOOD, part), part).prototypes) == math.floor(0.05 * COUNT * 64)


def test_a_memory_with_room_for_all_patches_knows_them_all() -> None:
    memory = learned(GOOD, ROOMY)
    assert len(patches(memory)) == len(np.unique(rows(GOOD), axis=0))
    assert distances(nearest_of(memory, ROOMY), GOOD[:10]).max() < 1e-3


@settings(max_examples=15, deadline=None)
@given(prototypes=st.integers(1, 60), images=st.integers(1, 5), seed=st.integers(0, 99))
def test_no_patch_is_farther_from_the_candidates_than_all_thinnings_together(
    prototypes: int, images: int, seed: int
) -> None:
    """By the triangle inequality: what stood for a patch has been replaced by something near it, again and again."""
    how = method(prototypes=prototypes, whitened=False)
    some = embedded(parts(16, seed=seed))
    radii: list[float] = []
    cover = module.cover

    def noting(points: np.ndarray, count: int, *, start: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        taken, owner = cover(points, count, start=start)
        radii.append(float(np.linalg.norm(points - points[taken[owner]], axis=1).max()))
        return taken, owner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BUFFER_IMAGES", images)
        patch.setattr(module, "cover", noting)
        memory = learned(some, how, folds=[3] * 16)
    (found,) = [each for each in memory.vectors if len(each)]
    away = np.linalg.norm(rows(some)[:, None] - found[None], axis=2).min(axis=1)
    assert away.max() <= sum(radii) * (1 + 1e-4) + 1e-4
    assert len(radii) > 1 or len(found) > 8 * 64


@pytest.mark.parametrize("seed", range(3))
def test_thinning_in_between_covers_nearly_as_well(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    some = embedded(parts(COUNT, seed=10 + seed))
    at_once = learned(some, SMALL)
    monkeypatch.setattr(module, "_BUFFER_IMAGES", 1)
    thinned = learned(some, SMALL, batch=3)
    assert not all(map(np.array_equal, at_once.vectors, thinned.vectors)), "nothing was thinned in between"
    assert reach(thinned, some) < COVERED * reach(at_once, some)
    assert_close(thinned, at_once)


def test_the_size_of_batches_changes_next_to_nothing() -> None:
    assert_close(learned(GOOD, SMALL, batch=1), learned(GOOD, SMALL, batch=32))


def test_no_bit_depends_on_the_number_of_threads() -> None:
    """So many dimensions that BLAS would share the work out."""
    draw = np.random.default_rng(0)
    wide = (draw.standard_normal((16 * 64, 400)) @ draw.standard_normal((400, 400))).astype(np.float32)
    wide = np.ascontiguousarray(wide.reshape(16, 8, 8, 400).transpose(0, 3, 1, 2))
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, "blas"):
            memory = learned(wide, SMALL, workers=threads)
            found.append((memory, nearest_of(memory, SMALL)))
    for memory, nearest in found[1:]:
        assert_same_bits(memory, found[0][0])
        assert np.array_equal(nearest.prototypes, found[0][1].prototypes)
        assert np.array_equal(nearest.whitening, found[0][1].whitening)


def test_the_seed_of_the_method_decides_the_choice() -> None:
    memory = learned(GOOD, SMALL)
    one, again, other = (nearest_of(memory, method(prototypes=150, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(one.prototypes, again.prototypes)
    assert not np.array_equal(np.sort(one.prototypes, axis=0), np.sort(other.prototypes, axis=0))


def test_variants_of_an_image_belong_to_its_fold() -> None:
    mirrored = embedded(parts(COUNT)[:, :, ::-1])
    memory = learned([GOOD, mirrored], SMALL)
    assert (memory.count, memory.patches.sum()) == (COUNT, 2 * COUNT * 64)
    for fold in range(FOLDS):
        own = memory.fold_of == fold
        both = np.concatenate([rows(GOOD[own]), rows(mirrored[own])])
        assert {row.tobytes() for row in memory.vectors[fold]} <= {row.tobytes() for row in both}
    expected = rows(np.concatenate([GOOD, mirrored])).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(total(memory).mean[0], expected, rtol=1e-9, atol=1e-12)


# Merging


def test_merged_memories_are_one_pass_over_all_images() -> None:
    first, second = learned(GOOD[:27], SMALL), learned(GOOD[27:], SMALL)
    merged = merge_memories(first, second, SMALL)
    assert merged.fold_of.tolist() == [*first.fold_of.tolist(), *second.fold_of.tolist()]
    assert_close(merged, learned(GOOD, SMALL))


def test_merged_memories_with_room_for_all_patches_judge_as_one() -> None:
    first, second, whole = (learned(some, ROOMY) for some in (GOOD[:9], GOOD[9:20], GOOD[:20]))
    one, other = (scores(nearest_of(each, ROOMY), FRESH) for each in (merge_memories(first, second, ROOMY), whole))
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_the_order_of_merging_changes_next_to_nothing() -> None:
    parts_of = [learned(GOOD[first:last], SMALL) for first, last in ((0, 10), (10, 33), (33, COUNT))]

    def merged(first: Memory, second: Memory) -> Memory:
        return merge_memories(first, second, SMALL)

    one, two, three = parts_of
    expected = merged(merged(one, two), three)
    assert_close(merged(one, merged(two, three)), expected)
    assert_close(merged(three, merged(two, one)), expected)
    assert one.count == 10, "merging must not change what was merged"
    assert_same_bits(one, learned(GOOD[:10], SMALL))


def test_a_memory_of_nothing_changes_no_bit() -> None:
    memory, nothing = learned(GOOD, SMALL), Memory.empty(GRID, 9)
    assert_same_bits(merge_memories(memory, nothing, SMALL), memory)
    assert_same_bits(merge_memories(nothing, memory, SMALL), memory)
    assert merge_memories(nothing, nothing, SMALL).count == 0


def test_memories_of_other_shapes_are_not_merged() -> None:
    memory = learned(GOOD[:4], SMALL)
    for other in (Memory.empty((4, 8), 9), Memory.empty(GRID, 8)):
        with pytest.raises(ArtifactError, match="cannot be merged with grid"):
            merge_memories(memory, other, SMALL)


def test_images_that_come_later_are_as_those_of_one_pass() -> None:
    before = learned(GOOD[:40], SMALL)
    after = learned(GOOD[40:], SMALL, start=before)
    assert_same_bits(before, learned(GOOD[:40], SMALL))
    assert_close(after, learned(GOOD, SMALL))
    assert_close(learned(GOOD[44:], SMALL, start=learned(GOOD[40:44], SMALL, start=before)), after)
