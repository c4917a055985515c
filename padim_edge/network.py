"""The embedding graph of a method, exported by torch once per process for one method and one set of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from padim_edge_artifact.metadata import Backbone
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_export import embedding
from padim_edge_export.backbones import channels_of, load_trunk
from padim_edge_model.graph import EmbeddingGraph

__all__ = ["Exported", "all_channels", "exported"]


@dataclass(frozen=True, eq=False)
class Exported:
    """Embedding graph of a method in float32, and the provenance of its weights."""

    description: Backbone
    """Provenance of the weights."""
    graph: EmbeddingGraph
    """Graph for frames that the host has resized. It is shared by all callers: copy it before a change."""


def exported(method: Method, weights: str = "auto", drawn: embedding.Drawn | None = None) -> Exported:
    """Return the embedding graph of a method; a graph that was exported before is taken again.

    Args:
        method: What to export. Precision, camera, ridge and sigma do not matter here.
        weights: `auto`, or the path of a weights file, as in `padim_edge_export.backbones.load_trunk`.
        drawn: Principal components; without them, `method.reduction` must be a random one.

    Raises:
        PadimEdgeError: The weights cannot be read or do not fit, or the method does not fit the backbone.
    """
    same = _same(method)
    if method.beside is not None:
        same = replace(same, beside=_same(method.beside))
    if drawn is None:
        return _exported(same, weights, _stamp(weights))
    return _export(same, weights, drawn)


def _same(method: Method) -> Method:
    """Return the method without anything that its embedding graph does not depend on."""
    return replace(
        method,
        preset="",
        preprocessing=replace(method.preprocessing.on_host, keep_aspect=False),
        ridge=1.0,
        sigma=0.0,
        precision=Precision(),
        bank=None if method.bank is None else Bank(),
        beside=None,
    )


def all_channels(method: Method, weights: str = "auto") -> Exported:
    """Return the graph of every channel of the method's layers, in their order and without pooling."""
    channels = sum(channels_of(method.backbone, method.layers).values())
    return exported(
        replace(
            method,
            reduction="random",
            dims=channels,
            seed=0,
            shares=None,
            pooling=1,
            pool_patches=False,
            bank=None,
            grid_layer=0,
            beside=None,
        ),
        weights,
    )


def _stamp(weights: str) -> tuple[int, int] | None:
    """Return size and time of a weights file, so that a changed file is read again."""
    try:
        status = None if weights == "auto" else Path(weights).stat()
    except (OSError, ValueError):  # which reading it will tell
        return None
    return None if status is None else (status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)  # each graph holds the weights: 11 MB for ResNet-18, 100 MB for Wide ResNet-50-2
def _exported(method: Method, weights: str, _: tuple[int, int] | None) -> Exported:
    return _export(method, weights, None)


def _export(method: Method, weights: str, drawn: embedding.Drawn | None) -> Exported:
    trunk = load_trunk(method.backbone, weights, method.layers)
    return Exported(trunk.description, embedding.build(trunk, method, drawn))
