"""What takes seconds and is always the same is done once in a process: exported backbones and the drawn sample.

Four fifths of the tests' time was torch exporting the same few graphs. Tests of the export itself (tests/export) call
it through `small_models`, past this.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Any

import pytest

__all__ = ["remember"]

_graphs: dict[Hashable, Any] = {}

_LARGEST = 64 << 20
"""Bytes of a graph that is kept."""


def remember(patch: pytest.MonkeyPatch) -> None:
    """Patch what is imported already; who has not imported torch shall not have to."""
    if (embedding := sys.modules.get("padim_edge_export.embedding")) is not None:
        patch.setattr(embedding, "build", _building(embedding.build))
    if (sample := sys.modules.get("padim_edge.sample")) is not None:
        patch.setattr(sample, "pictures", _drawing(sample.pictures))


def _building(build: Callable[..., Any]) -> Callable[..., Any]:
    """`embedding.build`, whose callers may change what they get."""

    def remembered(trunk: Any, size: tuple[int, int], *, drawn: Any = None, **how: Any) -> Any:
        if drawn is not None:
            return build(trunk, size, drawn=drawn, **how)
        key = trunk.description, trunk.mean, trunk.std, size, tuple(sorted(how.items()))
        if key not in _graphs:
            graph = build(trunk, size, **how)
            if graph.model.ByteSize() > _LARGEST:
                return graph
            _graphs[key] = graph
        return copy.deepcopy(_graphs[key])

    return remembered


def _drawing(pictures: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """`sample.pictures`; some of these are 40 MB."""

    @lru_cache(maxsize=6)
    def drawn(class_name: str, **how: int) -> tuple[Any, ...]:
        return tuple(pictures(class_name, **how))

    return lambda class_name, **how: iter(drawn(class_name, **how))
