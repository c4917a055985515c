"""Merging what several machines fitted on different images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from padim_edge_artifact import ArtifactError, Both, Memory, PadimEdgeError, Statistics
from padim_edge_artifact.files import refuse_inputs
from padim_edge_artifact.kept import Kept, Recipe, read_kept, write_kept
from padim_edge_artifact.method import Method
from padim_edge_model.comparable import merge_seen
from padim_edge_model.memory import merge_memories
from padim_edge_model.statistics import merge

__all__ = ["merge_files", "merge_kept", "merged"]

Learned = Statistics | Memory | Both
"""Gaussians, a memory, or both."""


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
    statistics = merged(first.statistics, second.statistics, first.recipe.method, in_place=in_place)
    return Kept(
        first.recipe,
        first.graph,
        statistics,
        merge_seen(first.seen, second.seen),
        first.evidence.merged(second.evidence),
    )


def merged(first: Learned, second: Learned, method: Method, *, in_place: bool = False) -> Learned:
    """Merge what was learned from two sets of images; `in_place` overwrites the first's arrays."""
    if isinstance(first, Both) and isinstance(second, Both):
        assert method.beside is not None, "the methods are the same"
        return Both(
            merge(first.gaussians, second.gaussians, in_place=in_place),
            merge_memories(first.memory, second.memory, method.beside),
        )
    if isinstance(first, Memory) and isinstance(second, Memory):
        return merge_memories(first, second, method)
    assert isinstance(first, Statistics), "the methods are the same"
    assert isinstance(second, Statistics), "the methods are the same"
    return merge(first, second, in_place=in_place)


def _words(recipe: Recipe) -> str:
    method = recipe.method
    height, width = method.preprocessing.size
    return (
        f"{method.backbone} with weights {recipe.backbone.weights_digest[:12]}, {method.reduction} {method.dims} seed "
        f"{method.seed}, {height}x{width}, {method.precision.name}, by {recipe.created_by}"
    )


def merge_files(files: Sequence[Path], output: Path) -> Kept:
    """Merge statistics files into one, and return its content.

    Args:
        files: Two or more files of different images.
        output: File to write.

    Raises:
        PadimEdgeError: Fewer than two files, a file or its images twice, an unfinished fit, different embeddings, or an
            output that is one of the files.
    """
    if len(files) < 2:
        raise PadimEdgeError(f"there is {len(files)} file to merge, expected two or more")
    if len({path.resolve() for path in files}) < len(files):
        raise PadimEdgeError("a file is named twice; its images would count twice")
    refuse_inputs([output], files)
    total = read_kept(files[0])
    digests = {total.statistics.digest(): files[0]}
    for path in files[1:]:
        other = read_kept(path)
        for each, name in ((total, files[0]), (other, path)):
            if each.progress is not None:
                raise PadimEdgeError(f"{name} is of an unfinished fit; finish it with --resume first")
        twin = digests.setdefault(other.statistics.digest(), path)
        if twin is not path:
            raise PadimEdgeError(f"{path} holds the same images as {twin}; they would count twice")
        total = merge_kept(total, other, in_place=True)
        del other
    write_kept(output, total)
    return total
