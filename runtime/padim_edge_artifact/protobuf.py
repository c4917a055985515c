"""The outermost layers of the protobuf encoding, read and written without the protobuf library.

See onnx.proto3 for the numbers of fields, and "Encoding" in the documentation of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["METADATA_PROPS", "entry", "message", "property_field", "spans"]

METADATA_PROPS = 14
"""Field of the model with one entry of `metadata_props`."""


def entry(content: bytes) -> tuple[str, str]:
    """Decode key and value of one entry of `metadata_props`; blank where they are missing."""
    parts = {number: content[value] for _, _, number, value in spans(content) if isinstance(value, slice)}
    return parts.get(1, b"").decode(), parts.get(2, b"").decode()


def property_field(key: str, text: str) -> bytes:
    """Encode one entry of `metadata_props`, as a field of the model."""
    return message(METADATA_PROPS, message(1, key.encode()) + message(2, text.encode()))


def message(number: int, content: bytes) -> bytes:
    """Encode a field that holds bytes."""
    return _digits(number << 3 | 2) + _digits(len(content)) + content


def _digits(value: int) -> bytes:
    """Encode an integer to base 128."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def spans(content: bytes | memoryview) -> Iterator[tuple[int, int, int, int | slice]]:
    """Yield (start, stop, field number, integer or slice of the bytes) for each field of one protobuf message."""
    start, stop = 0, len(content)
    while start < stop:
        begin = start
        tag, start = _varint(content, start)
        value: int | slice
        match tag & 7:
            case 0:
                value, start = _varint(content, start)
            case 1 | 5:
                width = 8 if tag & 7 == 1 else 4
                value, start = slice(start, start + width), start + width
            case 2:
                length, start = _varint(content, start)
                value, start = slice(start, start + length), start + length
            case wire:
                raise ValueError(f"unknown wire type {wire}")
        if start > stop or not tag >> 3:
            raise ValueError("it ends in the middle of a field" if start > stop else "field number 0")
        yield begin, start, tag >> 3, value


def _varint(content: bytes | memoryview, start: int) -> tuple[int, int]:
    """Decode a base-128 integer; return its value and the next position."""
    value = shift = 0
    while True:
        byte = content[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
