"""The contract between all packages: values, files and names. Needs numpy and the standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_artifact.errors import ArtifactError, DeviceError, ImageError, PadimEdgeError

if TYPE_CHECKING:
    from padim_edge_artifact.both import Both
    from padim_edge_artifact.container import read_metadata, read_verified
    from padim_edge_artifact.memory import Memory
    from padim_edge_artifact.metadata import Metadata
    from padim_edge_artifact.preprocessing import Preprocessing
    from padim_edge_artifact.statistics import Statistics

__all__ = [
    "ArtifactError",
    "Both",
    "DeviceError",
    "ImageError",
    "Memory",
    "Metadata",
    "PadimEdgeError",
    "Preprocessing",
    "Statistics",
    "read_metadata",
    "read_verified",
]

_HOMES = {
    "Both": "both",
    "Memory": "memory",
    "Metadata": "metadata",
    "Preprocessing": "preprocessing",
    "Statistics": "statistics",
    "read_metadata": "container",
    "read_verified": "container",
}


def __getattr__(name: str) -> object:
    # Imported when needed, because numpy takes long to import.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"padim_edge_artifact.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
