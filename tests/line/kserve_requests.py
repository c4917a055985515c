"""Requests of the Open Inference Protocol, written by hand."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np

__all__ = ["FRAME", "binary", "binary_answer", "elements", "frame", "post", "tensor"]

FRAME = (64, 64, 3)
"""Shape of an image in the frame of the golden model."""


def frame(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image in the model's frame."""
    return np.random.default_rng(seed).integers(0, 256, FRAME, np.uint8)


def tensor(frames: list[Any], **more: Any) -> dict[str, Any]:
    """The input `image` as JSON."""
    return {
        "name": "image",
        "datatype": "UINT8",
        "shape": [len(frames), *FRAME],
        "data": np.stack(frames).ravel().tolist(),
        **more,
    }


def elements(contents: list[bytes]) -> bytes:
    """A tensor of BYTES in binary."""
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def binary(request: dict[str, Any], tail: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with a binary tensor."""
    text = json.dumps(request).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text))}


def binary_answer(answer: httpx.Response) -> dict[str, bytes]:
    """Binary outputs of an answer by name."""
    length = int(answer.headers["Inference-Header-Content-Length"])
    found, place = {}, length
    for output in json.loads(answer.content[:length])["outputs"]:
        if "data" not in output:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = answer.content[place : place + size]
            place += size
    assert place == len(answer.content)
    return found


def post(url: str, content: Any, headers: dict[str, str] | None = None, model: str = "bottle") -> httpx.Response:
    """Send a request for inference."""
    given = {"content": content} if isinstance(content, bytes) else {"json": content}
    return httpx.post(f"{url}v2/models/{model}/infer", headers=headers, trust_env=False, timeout=60, **given)
