"""The golden models, and models that differ from them in one thing, made without onnx."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from padim_edge_artifact import container
from padim_edge_artifact.names import METADATA_KEY

__all__ = ["CROPPED", "WHOLE", "copy", "field", "flipped", "foreign", "rewrite"]

WHOLE = Path(__file__).parent / "runtime" / "golden.onnx"
CROPPED = WHOLE.with_name("golden_data.onnx")

METADATA_PROPS = 14
"""Field number in onnx.proto3."""


def varint(value: int) -> bytes:
    """A protobuf integer."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def field(number: int, content: bytes | str) -> bytes:
    """One length-delimited protobuf field."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def copy(model: Path, folder: Path) -> Path:
    """The model and its data file in another folder."""
    for path in model.parent.glob(f"{model.name}*"):
        shutil.copyfile(path, folder / path.name)
    return folder / model.name


def flipped(content: bytes, position: int, bits: int) -> bytes:
    """The same bytes but for some bits of one."""
    return content[:position] + bytes([content[position] ^ bits]) + content[position + 1 :]


def foreign(metadata: str | None = None) -> bytes:
    """A valid ONNX file of somebody else: IR version, producer, an empty graph, and perhaps text under our key."""
    ours = b"" if metadata is None else _entry(metadata)
    return bytes([8, 8]) + field(2, "somebody else") + field(7, b"") + field(METADATA_PROPS, field(1, "author")) + ours


def rewrite(model: Path, target: Path, change: Callable[[dict[str, Any]], object] | str) -> Path:
    """`model` with other metadata, given as text or by changing the JSON object in place, and the digest made true."""
    # The text as it stands there: a golden model may be older than some fields.
    content, text = model.read_bytes(), container._properties(model)[METADATA_KEY]
    before = content.removesuffix(_entry(text))
    assert before != content, "the exporter writes the metadata last"
    if isinstance(change, str):
        target.write_bytes(before + _entry(change))
        return target
    metadata = json.loads(text)
    change(metadata)
    digest = container.BLANK_DIGEST
    for _ in range(2):  # the digest is taken with a blank one in its place
        metadata["digests"]["model"] = digest
        target.write_bytes(before + _entry(json.dumps(metadata)))
        digest = container.model_digest(target, container.BLANK_DIGEST)
    return target


def _entry(metadata: str) -> bytes:
    return field(METADATA_PROPS, field(1, METADATA_KEY) + field(2, metadata))
