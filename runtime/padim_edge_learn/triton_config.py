"""The text of `config.pbtxt`: what NVIDIA Triton has to know about a model, from its metadata alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from padim_edge_artifact import Metadata, PadimEdgeError, names
from padim_edge_artifact.schema import shown
from padim_edge_runtime.devices.tensorrt import Batches, options, takes

__all__ = ["DEVICES", "TritonOptions", "check_name", "config_text", "image_file"]

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
"""Words for the execution providers that the server shall use."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST = 4096
"""Largest batch size and number of instances."""
_PATH = re.compile(r"[A-Za-z0-9_./-]{1,255}")


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """Options of a model on the server.

    Raises:
        PadimEdgeError: A value is outside its range.
    """

    device: str = "auto"
    """One of `DEVICES`; `auto` is `tensorrt` for a model that was exported for it, otherwise `cpu`."""
    largest: int = 8
    """Largest batch that the server puts together, 1 or more."""
    instances: int = 1
    """Number of copies of the model that run side by side, on each GPU if there are any."""
    delay: float = 1.0
    """Longest time in milliseconds that a request waits for others, 0 or more."""
    engines: str | None = None
    """Folder on the server that keeps TensorRT's engines; `None` builds them at every start."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise PadimEdgeError(f"there is no device {shown(self.device)}; choose one of {', '.join(DEVICES)}")
        for name, value in (("largest batch", self.largest), ("number of instances", self.instances)):
            if not 1 <= value <= _MOST:
                raise PadimEdgeError(f"the {name} is {value}, expected 1 to {_MOST}")
        if not 0 <= self.delay <= 60_000:
            raise PadimEdgeError(f"the delay is {self.delay:g} ms, expected 0 to 60000; 1 suits most lines")
        if self.engines is not None and not _PATH.fullmatch(self.engines):
            raise PadimEdgeError(
                f"the folder of the engines is {shown(self.engines)}, expected letters, digits, '_', '-', '.' and '/', "
                "such as /cache"
            )

    def chosen(self, metadata: Metadata) -> str:
        """Return the device for a model.

        Raises:
            PadimEdgeError: TensorRT does not take it.
        """
        if self.device == "auto":
            return "tensorrt" if metadata.precision.target == "tensorrt" else "cpu"
        if self.device == "tensorrt" and not takes(metadata):
            raise PadimEdgeError(
                "the model is int8 for the CPU, which TensorRT does not take; export it with --target tensorrt, or "
                "choose --device cpu"
            )
        return self.device


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder, a part of an address and a text in the configuration alike.

    Raises:
        PadimEdgeError: It is no such name.
    """
    if not _NAME.fullmatch(name):
        raise PadimEdgeError(
            f"the model would be called {shown(name)} on the server, expected at most 100 letters, digits, '_', '-' "
            "and '.'; choose another name with padim-edge package MODEL --triton REPOSITORY --name NAME"
        )


def image_file(metadata: Metadata) -> str:
    """Return the name of the file with the pixels of the self-test image; models of one size share it."""
    height, width = metadata.input_size
    return f"self-test-{height}x{width}.raw"


def config_text(name: str, metadata: Metadata, chosen: TritonOptions) -> str:
    """Write the configuration of a model.

    Args:
        name: Name of the model on the server.
        metadata: Metadata of the model.
        chosen: Options.

    Raises:
        PadimEdgeError: The name is none, or the device does not take the model.
    """
    check_name(name)
    device = chosen.chosen(metadata)
    (height, width), image = metadata.input_size, metadata.preprocessing.input_name
    pixels = f"data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ]"
    warm_up = f'{pixels} input_data_file: "{image_file(metadata)}"'
    outputs = [
        # The graph's scores have no axis besides the batch's, which a configuration cannot say otherwise.
        f'  {{ name: "{names.SCORE}" data_type: TYPE_FP32 dims: [ 1 ] reshape {{ shape: [ ] }} }}',
        f'  {{ name: "{names.ANOMALY_MAP}" data_type: TYPE_FP32 dims: {_dims(metadata.size)} }}',
        f'  {{ name: "{names.PATCH_DISTANCE}" data_type: TYPE_FP32 dims: {_dims(metadata.grid)} }}',
    ]
    kind = "KIND_CPU" if device == "cpu" else "KIND_GPU"
    lines = [
        f"# {metadata.preprocessing.color.upper()} pixels in, raw distances out. Written by padim-edge package.",
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {chosen.largest}",
        f'input [\n  {{ name: "{image}" {pixels} }}\n]',
        "output [\n" + ",\n".join(outputs) + "\n]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {round(1000 * chosen.delay)} }}",
        f"instance_group [ {{ count: {chosen.instances} kind: {kind} }} ]",
        *_accelerators(device, metadata, chosen),
        f'model_warmup [\n  {{ name: "self-test" batch_size: 1 inputs {{ key: "{image}" value {{ {warm_up} }} }} }}\n]',
    ]
    return "\n".join(lines) + "\n"


def _dims(size: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, size))} ]"


def _accelerators(device: str, metadata: Metadata, chosen: TritonOptions) -> Iterable[str]:
    """Yield what the server sets for a GPU: the same as `Detector`."""
    if device == "cpu":
        return
    # 11 bits of each factor are not enough for distances. TensorRT itself heeds NVIDIA_TF32_OVERRIDE=0 only.
    found = [_accelerator("cuda", {"use_tf32": "0"})]
    if device == "tensorrt":
        # No precision_mode, for any precision: the graph's own types say it. See `devices.tensorrt.options`.
        own = options(metadata, Batches(1, chosen.largest), None)
        if chosen.engines is not None:
            own |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": chosen.engines}
        found.insert(0, _accelerator("tensorrt", own))
    yield (
        "optimization { execution_accelerators {\n  gpu_execution_accelerator [\n" + ",\n".join(found) + "\n  ]\n} }"
    )


def _accelerator(name: str, parameters: dict[str, str]) -> str:
    inner = "".join(f'\n      parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items())
    return f'    {{\n      name: "{name}"{inner}\n    }}'
