"""Fitting: one pass, the same bytes each time, whatever was batched how."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from small_models import exported, small

from padim_edge import sample
from padim_edge_artifact import Statistics, names
from padim_edge_learn import accumulate as module
from padim_edge_learn.accumulate import GaussianLearner, accumulate, batches
from padim_edge_model.graph import joined
from padim_edge_model.statistics import merge
from padim_edge_runtime.devices.providers import open_session


@pytest.fixture(scope="module")
def graph() -> bytes:
    return joined(exported(small("edge"))).SerializeToString()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [sample.draw_good("weave", i, size=64) for i in range(40)]


def learned(graph: bytes, images: Iterable[np.ndarray], start: Statistics | None = None) -> Statistics:
    learner = GaussianLearner(start or Statistics.empty((16, 16), 20))
    accumulate(graph, images, learner)
    return learner.finish()


def test_one_pass_equals_numpys_covariance_of_all_embeddings(graph: bytes, images: list[np.ndarray]) -> None:
    session = open_session(graph, "cpu").session
    embeddings = session.run([names.EMBEDDING], {names.IMAGE: np.stack(images)})[0].astype(np.float64)
    vectors = embeddings.reshape(40, 20, -1).transpose(2, 0, 1)
    statistics = learned(graph, images)
    assert (statistics.count, statistics.grid, statistics.dims) == (40, (16, 16), 20)
    np.testing.assert_allclose(statistics.mean, vectors.mean(axis=1), rtol=1e-5, atol=1e-6)
    expected = np.stack([np.cov(patch, rowvar=False) for patch in vectors])
    # Batches of another size let the backbone round differently; nothing else differs.
    np.testing.assert_allclose(statistics.scatter / 39, expected, rtol=1e-4, atol=1e-6)


def test_the_batch_size_does_not_matter_beyond_rounding(
    graph: bytes, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = learned(graph, images)
    monkeypatch.setattr(module, "BATCH", 7)
    other = learned(graph, images)
    np.testing.assert_allclose(other.scatter, usual.scatter, rtol=1e-4, atol=1e-5)


def test_shards_merge_to_the_whole(graph: bytes, images: list[np.ndarray]) -> None:
    whole = learned(graph, images)
    first, second, third = (learned(graph, some) for some in (images[:13], images[13:30], images[30:]))
    merged = merge(merge(first, second), third)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-4, atol=1e-5)


def test_the_same_images_give_the_same_bits(graph: bytes, images: list[np.ndarray]) -> None:
    first, second = learned(graph, images), learned(graph, images)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.scatter, second.scatter)


def test_going_on_behind_a_whole_batch_gives_the_same_bits(graph: bytes, images: list[np.ndarray]) -> None:
    begun = learned(graph, images[: module.BATCH])
    whole, after = learned(graph, images), learned(graph, images[module.BATCH :], begun)
    assert after.count == whole.count
    assert np.array_equal(after.scatter, whole.scatter)


def test_it_takes_a_generator_and_reports_every_image(graph: bytes, images: list[np.ndarray]) -> None:
    steps: list[int] = []
    learner = GaussianLearner(Statistics.empty((16, 16), 20))
    accumulate(graph, (image for image in images), learner, after=lambda _, count: steps.append(count))
    assert sum(steps) == learner.found.count == 40


def test_no_image_changes_nothing(graph: bytes) -> None:
    assert learned(graph, []).count == 0


def test_batches_keep_every_item_in_order() -> None:
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []
