"""Merging statistics of different images: sums add up, and statistics of another embedding are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn_statistics import RECIPE, REMEMBERED, SOME, with_method

from padim_edge_artifact import ArtifactError, Preprocessing
from padim_edge_learn.merge import merge_kept


def test_merging_adds_up_and_keeps_the_first_recipe() -> None:
    other = dataclasses.replace(SOME, recipe=dataclasses.replace(RECIPE, class_name="bottle, line 2"), progress=None)
    both = merge_kept(SOME, other)
    assert both.recipe.class_name == "bottle"
    assert both.statistics.count == both.seen.count == 14
    assert both.progress is None
    np.testing.assert_allclose(both.statistics.scatter, 2 * SOME.statistics.scatter, rtol=1e-12)


@pytest.mark.parametrize(
    "changed",
    [
        {"graph": b"another graph"},
        {"recipe": with_method(preprocessing=Preprocessing((32, 48), crop=(16, 24)))},
        {"recipe": with_method(preprocessing=Preprocessing((16, 24), interpolation="binned-bicubic"))},
        {"recipe": dataclasses.replace(RECIPE, parts=RECIPE.parts[::-1])},
    ],
)
def test_statistics_of_another_embedding_are_not_merged(changed: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match=r"different embeddings .* --like"):
        merge_kept(SOME, dataclasses.replace(SOME, **changed))  # type: ignore[arg-type]


def test_what_does_not_touch_the_vectors_may_differ() -> None:
    recipe = dataclasses.replace(with_method(ridge=0.1), created_by="padim-edge 9")
    other = dataclasses.replace(SOME, recipe=recipe)
    assert merge_kept(SOME, other).statistics.count == 14


def test_gaussians_and_a_memory_are_not_merged() -> None:
    for first, second in ((SOME, REMEMBERED), (REMEMBERED, SOME)):
        with pytest.raises(ArtifactError, match="different embeddings"):
            merge_kept(first, second)


def test_memories_with_other_banks_are_not_merged() -> None:
    assert REMEMBERED.recipe.method.bank is not None
    bank = dataclasses.replace(REMEMBERED.recipe.method.bank, prototypes=21)
    other = dataclasses.replace(REMEMBERED, recipe=with_method(bank=bank))
    with pytest.raises(ArtifactError, match="different embeddings"):
        merge_kept(REMEMBERED, other)
