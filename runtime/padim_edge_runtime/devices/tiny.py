"""The smallest model: one node, to find out whether a device works at all."""

from __future__ import annotations

__all__ = ["tiny_model"]


def tiny_model() -> bytes:
    """Return ONNX bytes of `y = Relu(x)` with x float32 `(2,)`, written by hand because a device has no onnx."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    def value(name: bytes) -> bytes:
        shape = field(1, field(1, 2))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu")
    graph = field(1, node) + field(2, b"trial") + field(11, value(b"x")) + field(12, value(b"y"))
    return field(1, 8) + field(7, graph) + field(8, field(2, 18))
