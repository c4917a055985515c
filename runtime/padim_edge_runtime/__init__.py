"""The runtime: numpy, Pillow and one onnxruntime.

from padim_edge_runtime import Detector
detector = Detector.load("bottle.onnx")
result = detector(detector.prepare("image.png"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_artifact.errors import ArtifactError, DeviceError, ImageError, PadimEdgeError

if TYPE_CHECKING:
    from padim_edge_runtime.detector import Detector, Result

__all__ = ["ArtifactError", "Detector", "DeviceError", "ImageError", "PadimEdgeError", "Result"]


def __getattr__(name: str) -> object:
    # numpy and Pillow are imported when they are needed, not for `padim-edge --help`.
    if name in ("Detector", "Result"):
        from padim_edge_runtime import detector

        return getattr(detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
