"""The start of a fit: the embedding graph in the precision that ships, with its origin, and statistics of no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from padim_edge.datasets import Dataset
from padim_edge.frames import readable_frames
from padim_edge.network import Exported, all_channels, exported
from padim_edge.principal import principal_components
from padim_edge.quantisation import in_precision, observed
from padim_edge_artifact import Both, Memory, Statistics
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.kept import Kept, Recipe
from padim_edge_artifact.method import Method
from padim_edge_artifact.reference import Seen
from padim_edge_export import camera, channel_order, strips
from padim_edge_model.graph import records
from padim_edge_runtime.progress import Report, none

__all__ = ["begin", "begin_like", "prepared"]


def begin(
    dataset: Dataset, method: Method, weights: str = "auto", *, device: str = "cpu", report: Report = none
) -> Kept:
    """Return statistics of no image, with the embedding graph that the fit will run.

    Args:
        dataset: Name of the class. int8 and principal components also look at its good images.
        method: Method of the fit; the form of its Gaussians does not matter here.
        weights: `auto`, or the path of a weights file.
        device: Device that runs the backbone where images are looked at.
        report: Progress bar for each stage.

    Raises:
        PadimEdgeError: The method does not fit the backbone, or no image can be read where one is needed.
    """
    return prepared(dataset, method, _network(dataset, method, weights, device, report), device=device, report=report)


def _network(dataset: Dataset, method: Method, weights: str, device: str, report: Report) -> Exported:
    with report("exporting the backbone", None):
        if method.reduction != "pca":
            return exported(method, weights)
        everything = all_channels(method, weights)
    with report("principal components", len(dataset.good)) as advance:
        passing = readable_frames(dataset.good, method.preprocessing.on_host, {})
        drawn = principal_components(everything, method, passing, device=device, advance=advance)
    with report("exporting the backbone", None):
        return exported(method, weights, drawn)


def prepared(
    dataset: Dataset, method: Method, network: Exported, *, device: str = "cpu", report: Report = none
) -> Kept:
    """Return statistics of no image for an embedding graph that is at hand.

    Args:
        dataset: Name of the class, and for int8 its good images.
        method: Method of the fit.
        network: Embedding graph of the method in float32.
        device: Device that runs the backbone where images are looked at.
        report: Progress bar for each stage.

    Raises:
        PadimEdgeError: The precision is int8 and no image can be read.
    """
    with report(f"preparing {method.precision.name}", None):
        count = observed(method.preprocessing.size)
        step = max(1, len(dataset.good) // count)
        tried = readable_frames(dataset.good[::step][:count], method.preprocessing.on_host, {})
        graph = in_precision(network.graph, method.precision, tried, device, coded=method.bank is None)
    graph = strips.cut(graph, strips.LARGEST)
    graph = channel_order.baked(graph, method.preprocessing)
    graph = camera.baked(graph, method.preprocessing)  # only now: grey levels are whole numbers in float32 alone
    same = replace(method.preprocessing, keep_aspect=False)  # the graph has a size now, whoever chose it
    recipe = Recipe(
        class_name=dataset.class_name,
        created_by=f"padim-edge {version('padim-edge')}",
        method=replace(method.changed(preprocessing=same), precision=method.precision.numbers),
        backbone=network.description,
        reduction=graph.reduction,
        parts=records(graph.parts),
        beside=records(graph.beside),
    )
    model = graph.model.SerializeToString(deterministic=True)
    shapes = [(head.grid, head.dims) for head in graph.heads]
    return Kept(recipe, model, _nothing(method, shapes), Seen.nothing(graph.grid))


def begin_like(found: Kept, class_name: str) -> Kept:
    """Return statistics of no image with the embedding of `found`, so that both can be merged later."""
    shapes = [(head.statistics.grid, head.statistics.dims) for head in found.heads]
    return replace(
        found,
        recipe=replace(found.recipe, class_name=class_name),
        statistics=_nothing(found.recipe.method, shapes),
        seen=Seen.nothing(found.statistics.grid),
        evidence=Evidence.nothing(),
        progress=None,
    )


def _nothing(method: Method, shapes: Sequence[tuple[tuple[int, int], int]]) -> Statistics | Memory | Both:
    """Return what was learned from no image, for the grid and the dimensions of each kind of distance."""
    first, *others = (
        Statistics.empty(grid, dims) if head.bank is None else Memory.empty(grid, dims)
        for head, (grid, dims) in zip(method.heads, shapes, strict=True)
    )
    if not others:
        return first
    assert isinstance(first, Statistics), "Gaussians come first"
    (memory,) = others
    assert isinstance(memory, Memory), "a memory stands beside Gaussians"
    return Both(first, memory)
