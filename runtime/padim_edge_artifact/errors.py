"""Errors that a user can see. Each message says what was found, what was expected, and what to do."""

from __future__ import annotations

__all__ = ["ArtifactError", "DeviceError", "ImageError", "PadimEdgeError"]


class PadimEdgeError(Exception):
    """Base of every error raised on purpose. The command line prints its sentence and exits with 1."""


class ArtifactError(PadimEdgeError, ValueError):
    """A model or statistics file is damaged, incomplete, or of a format version that is not read."""


class DeviceError(PadimEdgeError, RuntimeError):
    """The requested device is unavailable, or no onnxruntime is installed."""


class ImageError(PadimEdgeError, ValueError):
    """An image cannot be read, or cannot be judged."""
