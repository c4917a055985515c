"""The runtime: pixels in, verdict out. It needs numpy, Pillow and one onnxruntime.

from padim_edge_runtime import Detector
detector = Detector.load("bottle.onnx")
inspection = detector.inspect("image.png")
print(inspection.verdict, inspection.score, inspection.regions)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_artifact.errors import ArtifactError, DeviceError, ImageError, PadimEdgeError

if TYPE_CHECKING:
    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.inspection import Inspection, Result, Unreadable

    __version__: str

__all__ = [
    "ArtifactError",
    "Detector",
    "DeviceError",
    "ImageError",
    "Inspection",
    "PadimEdgeError",
    "Result",
    "Unreadable",
    "__version__",
]


def __getattr__(name: str) -> object:
    # numpy and Pillow are imported when they are needed, not for `padim-edge --help`.
    if name == "__version__":
        from importlib.metadata import version

        return version("padim-edge-runtime")
    if name == "Detector":
        from padim_edge_runtime.detector import Detector

        return Detector
    if name in ("Inspection", "Result", "Unreadable"):
        from padim_edge_runtime import inspection

        return getattr(inspection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
