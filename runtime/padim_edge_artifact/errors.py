"""The one family of errors that a user can see. Each message says what was found, what was expected, what to do."""

from __future__ import annotations

__all__ = ["ArtifactError", "DeviceError", "ImageError", "PadimEdgeError"]


class PadimEdgeError(Exception):
    """Base of every error raised on purpose; the command line prints its one sentence and exits with 1."""


class ArtifactError(PadimEdgeError, ValueError):
    """A model or statistics file is damaged, incomplete, or from a format that this version does not read."""


class DeviceError(PadimEdgeError, RuntimeError):
    """The device that was asked for, or any onnxruntime at all, is not there."""


class ImageError(PadimEdgeError, ValueError):
    """An image cannot be read, or is not an image that can be judged."""
