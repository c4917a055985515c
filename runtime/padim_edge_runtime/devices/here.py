"""On which device a model runs on this machine, found out without building an engine for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from padim_edge_artifact import DeviceError, Metadata, PadimEdgeError, read_verified
from padim_edge_artifact.bundle import is_bundle
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.devices import engines, providers, tensorrt
from padim_edge_runtime.devices.tiny import tiny_model

__all__ = ["Here", "runs_here"]


@dataclass(frozen=True)
class Here:
    """The device that `--device auto` takes."""

    device: str | None
    """A key of `providers.DEVICES`; `None` where the model does not run at all."""
    words: str
    """The device, and which nodes of the graph run where."""
    refused: tuple[str, ...]
    """Why better devices are passed over, or why none runs it, one sentence each."""


def runs_here(model: Path, metadata: Metadata, product: str | None = None) -> Here:
    """Load the model as `auto` would. Where TensorRT would first build an engine, only TensorRT itself is tried.

    Args:
        model: The model file, or a bundle.
        metadata: Metadata of the model.
        product: Name of the product in a bundle.
    """
    try:
        return _try(model, metadata, product)
    except PadimEdgeError as error:  # damaged, without its data file, without onnxruntime: nothing to stop at here
        return Here(None, f"nothing: {error}", (str(error),))


def _try(model: Path, metadata: Metadata, product: str | None) -> Here:
    refused: list[str] = []
    for device in providers.DEVICES:
        if device == "cpu":
            break
        try:
            # Large models are read and compared with their digests only for devices that work.
            providers.open_session(tiny_model(), device)
            if device == "tensorrt" and is_bundle(model):
                continue  # its engines are built from model files
            if device == "tensorrt" and tensorrt.takes(metadata) and not engines.find(model, metadata).built:
                read_verified(model)
                return Here(device, "tensorrt, once its engine is built (padim-edge warm, or the first use)", ())
            return Here(device, f"{device}, {Detector.load(model, device, product=product).placement}", tuple(refused))
        except DeviceError as error:
            refused.append(str(error))
    return Here(Detector.load(model, "cpu", product=product).device, "cpu", tuple(refused))
