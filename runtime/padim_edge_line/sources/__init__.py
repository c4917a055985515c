"""Sources: where the images of a line come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_line.config import FolderConfig, SourceConfig

if TYPE_CHECKING:
    from padim_edge_line.interfaces import Source

__all__ = ["check", "source_of"]


def source_of(config: SourceConfig) -> Source:
    """Make a source. It does nothing before its `run`.

    Raises:
        PadimEdgeError: The values do not fit together.
    """
    if isinstance(config, FolderConfig):
        from padim_edge_line.sources.folder import FolderSource

        return FolderSource(config)
    from padim_edge_line.sources.camera import CameraSource

    return CameraSource(config)


async def check(config: SourceConfig) -> str:
    """Try a source and say what was found, in a few words.

    Raises:
        PadimEdgeError: It cannot be used.
    """
    if isinstance(config, FolderConfig):
        from padim_edge_line.sources import folder

        return await folder.check(config)
    from padim_edge_line.sources import camera

    return await camera.check(config)
