"""Count of the exports through torch, which several tests check."""

from __future__ import annotations

import pytest

from padim_edge import network
from padim_edge_artifact.method import Method
from padim_edge_export import embedding

__all__ = ["count_exports"]


def count_exports(monkeypatch: pytest.MonkeyPatch) -> list[Method]:
    """Return a list that gains the method of each export through torch from now on; nothing from before is kept."""
    build, calls = embedding.build, []

    def counting(trunk: object, method: Method, drawn: object) -> object:
        calls.append(method)
        return build(trunk, method, drawn)  # type: ignore[arg-type]

    network._exported.cache_clear()
    monkeypatch.setattr(embedding, "build", counting)
    return calls
