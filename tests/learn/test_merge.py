"""Merging statistics of different images: sums add up, and statistics of another embedding are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn_statistics import RECIPE, SOME, with_method

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
