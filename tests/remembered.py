"""What takes seconds and is always the same is done once in a process: exported and rounded backbones, the sample.

Most of the tests' time was torch exporting the same few graphs and int8 rounding the same weights. Tests of these
themselves call them past this (`small_models.export_anew`, `padim_edge.quantisation`).
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Any

import pytest

from padim_edge import quantisation

__all__ = ["remember"]

_graphs: dict[Hashable, Any] = {}

_LARGEST = 64 << 20
"""Bytes of a graph that is kept."""


def remember(patch: pytest.MonkeyPatch) -> None:
    """Patch what is imported already; who has not imported torch shall not have to."""
    if (embedding := sys.modules.get("padim_edge_export.embedding")) is not None:
        patch.setattr(embedding, "build", _building(embedding.build))
    if (gather := sys.modules.get("padim_edge.gather")) is not None:
        patch.setattr(gather, "in_precision", _rounding(gather.in_precision))
    if (sample := sys.modules.get("padim_edge.sample")) is not None:
        patch.setattr(sample, "images", _drawing(sample.images))


def _once(key: Hashable, make: Callable[[], Any]) -> Any:
    """The graph of that key, the caller's own to change."""
    if key not in _graphs:
        graph = make()
        if graph.model.ByteSize() > _LARGEST:
            return graph
        _graphs[key] = graph
    return copy.deepcopy(_graphs[key])


def _building(build: Callable[..., Any]) -> Callable[..., Any]:
    """`embedding.build`."""

    def remembered(trunk: Any, size: tuple[int, int], *, drawn: Any = None, **how: Any) -> Any:
        if drawn is not None:
            return build(trunk, size, drawn=drawn, **how)
        key = trunk.description, trunk.mean, trunk.std, size, tuple(sorted(how.items()))
        return _once(key, lambda: build(trunk, size, **how))

    return remembered


def _rounding(in_precision: Callable[..., Any]) -> Callable[..., Any]:
    """`quantisation.in_precision`, of which int8 takes the time."""

    def remembered(graph: Any, precision: Any, frames: Any, device: str) -> Any:
        if precision.name != "int8":
            return in_precision(graph, precision, frames, device)
        seen = list(frames)
        met = hashlib.sha256(graph.model.SerializeToString(deterministic=True))
        for frame in seen:
            met.update(repr(frame.shape).encode() + frame.tobytes())
        # `small_models.rounded_to_nearest` puts another function there.
        key = met.digest(), precision.target, quantisation.round_weights, device
        return _once(key, lambda: in_precision(graph, precision, seen, device))

    return remembered


@lru_cache(maxsize=6)
def _drawn(images: Callable[..., Iterator[Any]], class_name: str, how: tuple[tuple[str, int], ...]) -> tuple[Any, ...]:
    """Some of these are 40 MB."""
    return tuple(images(class_name, **dict(how)))


def _drawing(images: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """`sample.images`."""
    return lambda class_name, **how: iter(_drawn(images, class_name, tuple(sorted(how.items()))))
