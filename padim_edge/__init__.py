"""Fit PaDiM on good images of a part and export one fused ONNX graph for an inspection device.

    import padim_edge

    fitted = padim_edge.fit("good_images/", preset="edge")
    model = fitted.export("bottle.onnx", precision="int8", false_alarm_rate=0.01)
    evaluation = padim_edge.evaluate("bottle.onnx", "mvtec_ad/bottle")

Names are imported when they are first used, so that `import padim_edge` takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_artifact.errors import ArtifactError, DeviceError, ImageError, PadimEdgeError

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.evaluation.compare import Comparison, compare
    from padim_edge.evaluation.evaluate import Evaluation, evaluate
    from padim_edge.fitted import Fitted, fit, load_fitted
    from padim_edge.model import Model
    from padim_edge.presets import preset
    from padim_edge.rehearsal.rehearse import Rehearsal, RehearsalOptions, rehearse
    from padim_edge_artifact.method import Method, Precision
    from padim_edge_runtime.progress import Feedback

    __version__: str

__all__ = [
    "ArtifactError",
    "Comparison",
    "Dataset",
    "DeviceError",
    "Evaluation",
    "Feedback",
    "Fitted",
    "ImageError",
    "Method",
    "Model",
    "PadimEdgeError",
    "Precision",
    "Rehearsal",
    "RehearsalOptions",
    "__version__",
    "compare",
    "evaluate",
    "fit",
    "load_fitted",
    "preset",
    "rehearse",
]

_HOMES = {
    "Comparison": "padim_edge.evaluation.compare",
    "Dataset": "padim_edge.datasets",
    "Evaluation": "padim_edge.evaluation.evaluate",
    "Feedback": "padim_edge_runtime.progress",
    "Fitted": "padim_edge.fitted",
    "Method": "padim_edge_artifact.method",
    "Model": "padim_edge.model",
    "Precision": "padim_edge_artifact.method",
    "Rehearsal": "padim_edge.rehearsal.rehearse",
    "RehearsalOptions": "padim_edge.rehearsal.rehearse",
    "compare": "padim_edge.evaluation.compare",
    "evaluate": "padim_edge.evaluation.evaluate",
    "fit": "padim_edge.fitted",
    "load_fitted": "padim_edge.fitted",
    "preset": "padim_edge.presets",
    "rehearse": "padim_edge.rehearsal.rehearse",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("padim-edge")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
