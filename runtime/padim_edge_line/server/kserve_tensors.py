"""Requests and answers of the Open Inference Protocol: JSON, and the extension for binary tensors."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Metadata, names
from padim_edge_line.batching import Answer
from padim_edge_line.server.answers import RefusedError
from padim_edge_line.server.asking import printable

__all__ = ["ENCODED", "MOST_JSON", "RESULT", "Asked", "Tensor", "answered", "inputs_of", "outputs_of", "read"]

ENCODED = "encoded"
"""Input: encoded images of any size, such as PNG files."""
RESULT = "result"
"""Output: the object of `infer --json` for each encoded image, as text."""
MOST_JSON = 16_000_000
"""Most bytes of JSON. As values of Python, they may take twenty times as much."""

_MOST_ID = 1000
_COUNT = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a model."""

    name: str
    """Name of the tensor."""
    datatype: str
    """`UINT8`, `FP32` or `BYTES`."""
    shape: tuple[int, ...]
    """Shape; -1 stands for the number of images."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that the metadata of a model have for this."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Request for inference, checked."""

    id: str | None
    """Identity of the request; `None` where it has none."""
    images: Sequence[npt.NDArray[np.uint8] | bytes]
    """Images in the model's frame, `(H, W, 3)`; or encoded ones."""
    outputs: Mapping[str, bool]
    """Names of the outputs that are wanted, in their order, and whether each is to be binary."""


def inputs_of(metadata: Metadata) -> tuple[Tensor, Tensor]:
    """Return the inputs of a model. A request has one of them."""
    image = Tensor(metadata.preprocessing.input_name, "UINT8", (-1, *metadata.input_size, 3))
    return image, Tensor(ENCODED, "BYTES", (-1,))


def outputs_of(metadata: Metadata) -> tuple[Tensor, ...]:
    """Return the outputs of a model."""
    return (
        Tensor(names.SCORE, "FP32", (-1,)),
        Tensor(names.ANOMALY_MAP, "FP32", (-1, *metadata.size)),
        Tensor(names.PATCH_DISTANCE, "FP32", (-1, *metadata.grid)),
        Tensor(RESULT, "BYTES", (-1,)),
    )


def read(content: bytes, head: int | None, metadata: Metadata, most: int) -> Asked:
    """Read a request.

    Args:
        content: The body.
        head: Bytes of JSON in front of the binary tensors; `None` where all of it is JSON.
        metadata: Metadata of the model.
        most: Most images.

    Raises:
        RefusedError: It is wrong.
    """
    if (len(content) if head is None else head) > MOST_JSON:
        raise RefusedError(413, f"the JSON is larger than {MOST_JSON // 10**6} MB; send the tensor in binary")
    if head is not None and head > len(content):
        raise RefusedError(400, f"the body has {len(content)} bytes, expected {head} of JSON alone")
    try:
        found: Any = json.loads(content[:head], parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON; see the Open Inference Protocol") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is no JSON object; expected one with inputs")
    id_, parameters = found.get("id"), _parameters(found, "the request")
    if id_ is not None and not (isinstance(id_, str) and len(id_) <= _MOST_ID and _encodable(id_)):
        raise RefusedError(400, f"id is no text of at most {_MOST_ID} characters")
    inputs = found.get("inputs")
    known = {tensor.name: tensor for tensor in inputs_of(metadata)}
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RefusedError(400, f"inputs is no list of one tensor; expected {' or '.join(known)}")
    tensor = _known(inputs[0].get("name"), known, "input")
    binary = None if head is None else content[head:] if tensor.name == ENCODED else memoryview(content)[head:]
    images = _images(inputs[0], tensor, binary, most)
    default = _flag(parameters, "binary_data_output")
    wanted = {each.name: each for each in outputs_of(metadata) if tensor.name == ENCODED or each.name != RESULT}
    outputs = _outputs(found.get("outputs"), wanted, default=default)
    return Asked(id=id_, images=images, outputs=outputs)


def answered(
    head: Mapping[str, Any], asked: Asked, answers: Sequence[Answer], metadata: Metadata
) -> tuple[bytes, int | None]:
    """Make the body of an answer.

    Args:
        head: What stands in front of the outputs.
        asked: The request.
        answers: One for each image.
        metadata: Metadata of the model.

    Returns:
        The body, and the bytes of JSON in front of its binary tensors; `None` where all of it is JSON.
    """
    outputs, parts = [], list[bytes]()
    kinds = {tensor.name: tensor for tensor in outputs_of(metadata)}
    for name, binary in asked.outputs.items():
        tensor = kinds[name]
        found: dict[str, Any] = {**tensor.to_json(), "shape": [len(answers), *tensor.shape[1:]]}
        values = _values(name, answers)
        if binary:
            parts.append(b"".join(values) if isinstance(values, list) else values.tobytes())
            found["parameters"] = {"binary_data_size": len(parts[-1])}
        elif isinstance(values, list):
            found["data"] = [each[_COUNT.size :].decode() for each in values]
        else:
            found["data"] = values.ravel().tolist()
        outputs.append(found)
    given = {} if asked.id is None else {"id": asked.id}
    text = json.dumps({**head, **given, "outputs": outputs}, separators=(",", ":"), allow_nan=False).encode()
    return b"".join([text, *parts]), len(text) if parts else None


def _values(name: str, answers: Sequence[Answer]) -> npt.NDArray[np.float32] | list[bytes]:
    """Return the values of an output: an array, or texts with their length in front."""
    if name == RESULT:
        texts = [json.dumps(each.inspection.to_json()).encode() for each in answers if each.inspection is not None]
        return [_COUNT.pack(len(text)) + text for text in texts]
    fields: list[Any] = [getattr(each, name) for each in answers]
    return np.array(fields, "<f4")


def _images(
    given: Mapping[str, Any], tensor: Tensor, binary: memoryview | bytes | None, most: int
) -> Sequence[npt.NDArray[np.uint8] | bytes]:
    """Return the images of an input."""
    name, shape, size = tensor.name, _shape(given, tensor), _parameters(given, tensor.name).get("binary_data_size")
    if given.get("datatype") != tensor.datatype:
        found = printable(str(given.get("datatype")), 20)
        raise RefusedError(400, f"{name} has the datatype {found}; expected {tensor.datatype}")
    if shape[0] > most:
        raise RefusedError(400, f"{name} holds {shape[0]} images; send at most {most} in one request")
    if binary is None:
        return _from_json(given.get("data"), name, shape)
    if type(size) is not int or size != len(binary) or "data" in given:
        raise RefusedError(400, f"{name} has no binary_data_size of {len(binary)}, which are the bytes behind the JSON")
    if isinstance(binary, bytes):
        return _from_bytes(binary, shape[0])
    if size != math.prod(shape):
        raise RefusedError(400, f"{name} has {size} bytes; expected {math.prod(shape)} for its shape")
    return list(np.frombuffer(binary, np.uint8).reshape(shape))


def _shape(given: Mapping[str, Any], tensor: Tensor) -> list[int]:
    """Return the shape of an input, with the number of images in front."""
    found = given.get("shape")
    if isinstance(found, list) and all(type(each) is int and each > 0 for each in found):
        if tensor.name == ENCODED and len(found) == 2 and found[1] == 1:  # as models of Triton have it
            return found[:1]
        if len(found) == len(tensor.shape) and tuple(found[1:]) == tensor.shape[1:]:
            return found
    expected = ", ".join("N" if each < 0 else str(each) for each in tensor.shape)
    raise RefusedError(400, f"{tensor.name} has another shape; expected [{expected}] with N at least 1")


def _from_json(data: Any, name: str, shape: list[int]) -> Sequence[npt.NDArray[np.uint8] | bytes]:
    if not isinstance(data, list):
        raise RefusedError(400, f"{name} has no data; expected a list, or binary data")
    if name == ENCODED:
        flat = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
        if len(flat) != shape[0] or not all(isinstance(each, str) for each in flat):
            raise RefusedError(400, f"{name} has no {shape[0]} texts; expected one in base64 for each image")
        try:
            return [base64.b64decode(each, validate=True) for each in flat]
        except (binascii.Error, ValueError):
            raise RefusedError(400, f"{name} is not base64; expected the bytes of each image in base64") from None
    try:
        found = np.array(data)
    except (ValueError, OverflowError):
        found = np.array(None)
    if found.dtype.kind not in "iu" or found.shape not in (tuple(shape), (math.prod(shape),)):
        raise RefusedError(400, f"{name} has no {math.prod(shape)} whole numbers, flat or in its shape")
    if found.min() < 0 or found.max() > 255:
        raise RefusedError(400, f"{name} has values outside 0 to 255")
    return list(found.astype(np.uint8).reshape(shape))


def _from_bytes(content: bytes, count: int) -> list[bytes]:
    """Split elements with their length in front."""
    found, place = list[bytes](), 0
    while place < len(content) and len(found) <= count:
        if place + _COUNT.size > len(content):
            break
        (length,) = _COUNT.unpack_from(content, place)
        place += _COUNT.size
        found.append(content[place : place + length])
        place += length
    if place != len(content) or len(found) != count:
        raise RefusedError(400, f"{ENCODED} has no {count} elements, each behind its length in 4 bytes")
    return found


def _outputs(given: Any, known: Mapping[str, Tensor], *, default: bool) -> Mapping[str, bool]:
    """Return the outputs that are wanted; all of them where none is named."""
    if given is None or given == []:
        return dict.fromkeys(known, default)
    if not isinstance(given, list):
        raise RefusedError(400, "outputs is no list of tensors")
    found = dict[str, bool]()
    for each in given:
        if not isinstance(each, dict):
            raise RefusedError(400, "outputs is no list of tensors")
        name = _known(each.get("name"), known, "output").name
        if name in found:
            raise RefusedError(400, f"outputs has {name} more than once")
        parameters = _parameters(each, name)
        if "classification" in parameters:
            raise RefusedError(400, f"{name} asks for a classification; there is none")
        found[name] = _flag(parameters, "binary_data", default=default)
    return found


def _known(name: Any, known: Mapping[str, Tensor], what: str) -> Tensor:
    if not isinstance(name, str) or name not in known:
        shown = printable(str(name), 40)
        raise RefusedError(400, f"{shown!r} is no {what} here; expected {', '.join(known)}")
    return known[name]


def _parameters(given: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    found = given.get("parameters", {})
    if not isinstance(found, dict):
        raise RefusedError(400, f"parameters of {what} is no object")
    if "shared_memory_region" in found:
        raise RefusedError(400, f"{what} lies in shared memory; send it in the body")
    return found


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise RefusedError(400, f"{name} is neither true nor false")
    return found


def _encodable(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _no_number(text: str) -> float:
    raise ValueError(text)
