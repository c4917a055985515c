"""The calls of `trtexec` that build an engine from a model, for TensorRT 10 and 11.

The graph itself says the precision (float16 constants and casts, QuantizeLinear), so no call asks for one. TensorRT 11
has no such options any more, and TensorRT 10 is told to keep to the graph.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_runtime.devices.tensorrt import shape, takes

__all__ = ["calls", "check_batch"]


def calls(model: Path, metadata: Metadata, largest: int = 1) -> dict[str, str]:
    """Return one line for the shell by major version of TensorRT. The data file must lie beside the model.

    Args:
        model: The `.onnx` file.
        metadata: Its metadata.
        largest: Largest batch size of the engine, which it is tuned for; it takes smaller ones, too.

    Raises:
        PadimEdgeError: The model is int8 for the CPU, which TensorRT refuses; or a batch size below 1.
    """
    if not takes(metadata):
        raise PadimEdgeError(
            f"{model} is int8 for the CPU, which TensorRT does not take; export it with --target tensorrt"
        )
    check_batch(largest)
    words = [
        "trtexec",
        f"--onnx={model}",
        f"--saveEngine={model.with_suffix('.plan')}",
        f"--minShapes={shape(metadata, 1)}",
        f"--optShapes={shape(metadata, largest)}",
        f"--maxShapes={shape(metadata, largest)}",
        f"--timingCacheFile={model.with_suffix('.timing')}",
        "--memPoolSize=workspace:1024",
        "--skipInference",
    ]
    return {"10": shlex.join([*words, "--stronglyTyped"]), "11": shlex.join(words)}


def check_batch(largest: int) -> None:
    """Refuse a batch size below 1.

    Raises:
        PadimEdgeError: It is below 1.
    """
    if largest < 1:
        raise PadimEdgeError(f"the batch size is {largest}, expected 1 or more")
