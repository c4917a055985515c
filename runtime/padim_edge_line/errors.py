"""Reasons why the line does not take an image at the moment."""

from __future__ import annotations

from padim_edge_artifact import PadimEdgeError

__all__ = ["BusyError", "LaterError", "StoppingError"]


class BusyError(PadimEdgeError):
    """Too many images are waiting."""


class StoppingError(PadimEdgeError):
    """The line is about to end."""


class LaterError(PadimEdgeError):
    """The device or the model fails, and the image can wait where it is; nothing was recorded."""
