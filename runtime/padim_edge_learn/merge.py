"""Merging what several machines fitted on different images."""

from __future__ import annotations

from padim_edge_artifact import ArtifactError
from padim_edge_artifact.kept import Kept, Recipe
from padim_edge_model.comparable import merge_seen
from padim_edge_model.statistics import merge

__all__ = ["merge_kept"]


def merge_kept(first: Kept, second: Kept, *, in_place: bool = False) -> Kept:
    """Merge the kept statistics of two sets of images; the recipe is that of the first.

    Args:
        first: Statistics of some images.
        second: Statistics of other images.
        in_place: Whether to overwrite the arrays of the first.

    Raises:
        ArtifactError: The statistics come from different embeddings.
    """
    if first.same != second.same:
        raise ArtifactError(
            f"the statistics come from different embeddings ({_words(first.recipe)}; and {_words(second.recipe)}); "
            "fit both with the same options, weights and versions, best the second with --like FIRST"
        )
    statistics = merge(first.statistics, second.statistics, in_place=in_place)
    return Kept(first.recipe, first.graph, statistics, merge_seen(first.seen, second.seen))


def _words(recipe: Recipe) -> str:
    method = recipe.method
    height, width = method.preprocessing.size
    return (
        f"{method.backbone} with weights {recipe.backbone.weights_digest[:12]}, {method.reduction} {method.dims} seed "
        f"{method.seed}, {height}x{width}, {method.precision.name}, by {recipe.created_by}"
    )
