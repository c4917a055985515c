"""Files that an ONNX graph would make its reader open, found without onnx.

A tensor may name a file that holds its values, in any of its places: a constant of the graph, an attribute of a node, a
graph inside it, a sparse tensor. onnxruntime opens what it is told to, so every such name is looked at beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.protobuf import entry, spans

__all__ = ["check_graph", "tensor_names"]

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR = range(6)
_OPSET, _FUNCTION, _TRAINING, _GRAPH_OF_MODEL = 8, 25, 20, 7
"""Fields of the model: operator sets, functions, training, graph."""
_INPUT, _OUTPUT = 11, 12
"""Fields of the graph."""
_INSIDE = {
    _MODEL: {_GRAPH_OF_MODEL: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
"""Fields that lead to tensors, by message (onnx.proto3)."""
_EXTERNAL = 13
"""Field of a tensor with one entry about the file that holds its values."""
_DEEPEST = 40
"""Largest number of messages in each other; protobuf itself reads 100."""
_WORD = b"location"
"""Key of the entry that names the file. Without this word, there is none."""
_FEW = 1 << 21
"""Size of a message in bytes up to which looking for a word takes less time than reading its parts."""


def check_graph(content: bytes, data_file: str | None) -> None:
    """Refuse a model whose graph names other files than its data file, or uses other operators than ONNX's own.

    Args:
        content: The model file.
        data_file: Name of the data file; `None` where there is none.

    Raises:
        ArtifactError: It does; the sentence does not name the model.
        ValueError: The file is not whole.
        IndexError: The file is not whole.
    """
    for _, _, number, value in spans(content):
        if number in (_FUNCTION, _TRAINING):
            raise ArtifactError("its graph has functions or a training of its own, expected none; export it again")
        if number == _OPSET and isinstance(value, slice):
            domain = entry(content[value])[0][:60]
            if domain not in ("", "ai.onnx"):
                raise ArtifactError(f"its graph uses operators of {domain!r}, expected ONNX's own; export it again")
    for name in _locations(memoryview(content), _MODEL, 0):
        if name != data_file:
            expected = "no file" if data_file is None else f"{data_file} only"
            raise ArtifactError(f"its graph reads the file {name[:60]!r}, expected {expected}; export it again")


def _locations(content: memoryview, kind: int, depth: int) -> Iterator[str]:
    """Yield the names of files in a message of some kind."""
    if depth > _DEEPEST:
        raise ArtifactError(f"its graph has more than {_DEEPEST} messages in each other; export it again")
    if kind != _TENSOR and len(content) <= _FEW and _WORD not in bytes(content):
        return
    inside = _INSIDE.get(kind, {})
    for _, _, number, value in spans(content):
        if not isinstance(value, slice):
            continue
        if kind == _TENSOR:
            if number == _EXTERNAL:
                key, name = entry(bytes(content[value]))
                if key == "location":
                    yield name
        elif number in inside:
            yield from _locations(content[value], inside[number], depth + 1)


def _name_of(tensor: bytes) -> str:
    """Return the name of an input or output; beside it stands its type, which is no text."""
    names = [tensor[value] for _, _, number, value in spans(tensor) if number == 1 and isinstance(value, slice)]
    return names[-1].decode() if names else ""


def tensor_names(content: bytes) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and of the outputs of a model's graph.

    Args:
        content: The model file.

    Raises:
        ValueError: The file is not whole.
        IndexError: The file is not whole.
    """
    found: dict[int, list[str]] = {_INPUT: [], _OUTPUT: []}
    for _, _, number, graph in spans(content):
        if number == _GRAPH_OF_MODEL and isinstance(graph, slice):
            inner = content[graph]
            for _, _, field, value in spans(inner):
                if field in found and isinstance(value, slice):
                    found[field].append(_name_of(inner[value]))
    return found[_INPUT], found[_OUTPUT]
