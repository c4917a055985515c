"""Large images in bounded memory: the first layers are computed for one strip of rows after the other.

An activation of the first layers takes 64 x H/2 x W/2 numbers in a ResNet: 268 MB at 2048 x 2048. So the nodes that
make and read such activations are repeated for strips. Each strip reads the rows that its outputs depend on, which
overlap with those of its neighbours. What comes out is cropped and put together again. No number changes, apart from
the rounding of sums in another order, and all strips share the weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, attribute, copied, value_types

__all__ = ["LARGEST", "WORK", "cut"]

LARGEST = 2**26
"""Bytes of one image's activation up to which it is computed as a whole: 64 channels of 512 x 512 in float32."""

_STRIP = 2**25
"""Bytes that the largest activation of a strip may take, unless the strips would then overlap too much."""

WORK = 1.25
"""Number of rows that strips read together, relative to those of the image, from which no more strips are made."""

_EACH = frozenset(
    (
        *(
            "Abs",
            "BatchNormalization",
            "Cast",
            "Clip",
            "DequantizeLinear",
            "Elu",
            "Erf",
            "Exp",
            "HardSigmoid",
            "HardSwish",
        ),
        *(
            "Identity",
            "LeakyRelu",
            "Neg",
            "PRelu",
            "QuantizeLinear",
            "Relu",
            "Selu",
            "Sigmoid",
            "Softplus",
            "Sqrt",
            "Tanh",
        ),
    )
)
"""Operators that treat each element by itself, with constants by channel."""
_TOGETHER = frozenset(("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"))
"""Operators that treat elements at the same place of several inputs together."""
_CHANNELS = frozenset(("Concat", "Gather"))
"""Operators that choose or join channels where their axis is 1."""
_WINDOWED = frozenset(("AveragePool", "Conv", "MaxPool"))
"""Operators whose rows depend on a window of rows."""

Span = tuple[int, int]
"""First row, and the row behind the last one."""


@dataclass(frozen=True)
class _Window:
    """Rows that one row of an operator's output depends on: `stride * row - before`, and `reach` from there."""

    reach: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0

    def rows(self, given: int) -> int:
        """Return the number of output rows for so many input rows."""
        return (given + self.before + self.after - self.reach) // self.stride + 1

    def needed(self, rows: Span, given: int) -> Span:
        """Return the rows that these output rows depend on, of so many that there are."""
        first, last = rows[0] * self.stride - self.before, (rows[1] - 1) * self.stride - self.before + self.reach
        return max(0, first), min(given, last)


@dataclass(frozen=True, eq=False)
class _Section:
    """Part of the graph that is computed strip by strip."""

    entry: str
    """Tensor that the strips are cut out of."""
    nodes: tuple[NodeProto, ...]
    """Nodes to repeat, in order; all that they compute depends on `entry` alone."""
    shared: tuple[NodeProto, ...]
    """Nodes that dequantise constants for them. They are repeated, too: engines fuse one with each reader."""
    exits: tuple[str, ...]
    """Tensors that are put together again."""
    windows: dict[str, _Window]
    """Windows of the nodes, by their outputs."""
    sizes: dict[str, tuple[int, int]]
    """Number of rows, and bytes of one, of each tensor."""

    def made(self, node: NodeProto) -> list[str]:
        """Return the inputs of a node that differ from strip to strip."""
        return [name for name in node.input if name == self.entry or name in self.windows]


@dataclass(frozen=True)
class _Strip:
    """One strip."""

    read: Span
    """Rows of the entry."""
    kept: dict[str, Span]
    """Rows of each exit in the strip, counted from the strip's own first row."""
    largest: int
    """Bytes of the largest activation."""


def cut(graph: EmbeddingGraph, largest: int = LARGEST, work: float = WORK) -> EmbeddingGraph:
    """Return the graph with its largest activations computed in strips; the graph itself if they are small enough.

    Networks that look at a whole activation at once, as squeeze and excitation does, keep their activations.

    Args:
        graph: Graph in any precision, for frames that the host has resized.
        largest: Bytes of one image's activation that are small enough.
        work: Largest number of rows that more than two strips read together, relative to those of the image.
    """
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "strips")
    sizes = _sizes(graph)
    section = _section(editor, graph, sizes, largest)
    if section is None:
        return graph
    strips = _strips(section, min(largest, _STRIP), work)
    inner = set(section.windows) - set(section.exits)
    whole = max((rows * each for name, (rows, each) in sizes.items() if name not in inner), default=0)
    if not strips or whole >= max(rows * each for rows, each in sizes.values()):
        return graph
    _write(editor, section, strips)
    editor.drop_unused()
    return dataclasses.replace(graph, model=model)


def _sizes(graph: EmbeddingGraph) -> dict[str, tuple[int, int]]:
    """Return the number of rows, and the bytes of one row, of each tensor `(N, C, h, w)` for one image."""
    found = {}
    for name, kind in value_types(graph.model).items():
        shape = [each.dim_value for each in kind.shape.dim]
        if len(shape) == 4 and all(shape[1:]):
            each = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            found[name] = (shape[2], shape[1] * shape[3] * each)
    return found


def _section(
    editor: GraphEditor, graph: EmbeddingGraph, sizes: dict[str, tuple[int, int]], largest: int
) -> _Section | None:
    """Find the nodes that make or read large activations, and those before them; `None` if there are none."""
    entry = next(node.input[0] for node in editor.nodes if node.op_type == "Conv")
    if (maker := editor.maker(entry)) is not None and maker.op_type == "DequantizeLinear":
        entry = maker.input[0]  # onnxruntime wants it directly before the convolution
    windows: dict[str, _Window] = {}
    local: list[NodeProto] = []
    for node in editor.nodes:
        window = _window(editor, node, {entry, *windows})
        if window is not None and node.output[0] in sizes:
            windows[node.output[0]] = window
            local.append(node)

    def is_large(name: str) -> bool:
        return name in sizes and math.prod(sizes[name]) > largest

    wanted: set[str] = set()
    for node in reversed(local):
        output = node.output[0]
        if output in wanted or is_large(output) or any(map(is_large, node.input)):
            wanted.update((output, *node.input))
    chosen = [node for node in local if node.output[0] in wanted]
    for node in local:  # activation functions and roundings stay with the convolutions before them
        made, names = {each.output[0] for each in chosen}, {node.output[0], *(each.output[0] for each in chosen)}
        given = [name for name in node.input if name in windows or name == entry]
        alone = all(names.issuperset(reader.output) for name in given for reader in editor.readers(name))
        if node not in chosen and made.issuperset(given) and node.op_type in _EACH | _TOGETHER and alone:
            chosen.append(node)
    read = dict.fromkeys(name for node in chosen for name in node.input)
    chosen = [node for node in chosen if node.op_type != "DequantizeLinear" or node.output[0] in read]
    if not chosen:
        return None
    windows = {node.output[0]: windows[node.output[0]] for node in chosen}
    exits = tuple(dict.fromkeys(_exits(editor, graph, chosen)))
    makers = [editor.maker(name) for name in read if name != entry and name not in windows]
    shared = [each for each in makers if each is not None]
    return _Section(entry, tuple(chosen), tuple(shared), exits, windows, sizes)


def _exits(editor: GraphEditor, graph: EmbeddingGraph, chosen: Sequence[NodeProto]) -> Iterator[str]:
    """Yield the tensors that other nodes or users of the graph read, and codes for those that are dequantised."""
    made = {node.output[0] for node in chosen}
    users = {name for part in graph.outputs for name in (part.name, part.codes and part.codes.name) if name}
    for node in chosen:
        output = node.output[0]
        if output in users | editor.outputs or any(reader.output[0] not in made for reader in editor.readers(output)):
            if node.op_type != "DequantizeLinear":
                yield output
            elif node.input[0] in made:
                yield node.input[0]


def _window(editor: GraphEditor, node: NodeProto, made: set[str]) -> _Window | None:
    """Return the window of a node that can be computed in strips; `None` for one that cannot."""
    shapes = {name: shape for name in node.input if (shape := _fixed(editor, name)) is not None}
    given = {name for name in node.input if name and name not in shapes}
    if not given or not made.issuperset(given) or len(node.output) != 1:
        return None
    if node.op_type in _EACH or node.op_type in _TOGETHER:
        by_row = any(len(shape) > 1 and shape[-2] != 1 for shape in shapes.values())
        return None if by_row else _Window()
    if node.op_type in _CHANNELS:
        return _Window() if attribute(node, "axis", 0) == 1 else None
    if node.op_type not in _WINDOWED or attribute(node, "ceil_mode", 0):
        return None
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    kernel = shapes[node.input[1]][2:] if node.op_type == "Conv" else attribute(node, "kernel_shape", ())
    pads = attribute(node, "pads", (0, 0, 0, 0))
    reach = (kernel[0] - 1) * attribute(node, "dilations", (1, 1))[0] + 1
    return _Window(reach, attribute(node, "strides", (1, 1))[0], pads[0], pads[2])


def _fixed(editor: GraphEditor, name: str) -> tuple[int, ...] | None:
    """Return the shape of a constant, or of one that is dequantised; `None` for other tensors."""
    maker = editor.maker(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    constant = editor.constants.get(name)
    return None if constant is None else tuple(constant.dims)


def _strips(section: _Section, largest: int, work: float) -> tuple[_Strip, ...]:
    """Choose strips whose activations are small, and which overlap little."""
    strides = _strides(section)
    step = math.lcm(*strides.values())
    rows = section.sizes[section.entry][0]
    best: tuple[_Strip, ...] = ()
    for count in range(2, rows // step + 1):
        strips = tuple(_cut(section, strides, step * -(-rows // (step * count)), step))
        if best and sum(last - first for first, last in (each.read for each in strips)) > work * rows:
            return best
        best = strips
        if max(each.largest for each in strips) <= largest:
            return best
    return best


def _strides(section: _Section) -> dict[str, int]:
    """Return how many rows of the entry lie between two rows of each tensor."""
    strides = {section.entry: 1}
    for node in section.nodes:
        strides[node.output[0]] = strides[section.made(node)[0]] * section.windows[node.output[0]].stride
    return strides


def _cut(section: _Section, strides: dict[str, int], block: int, step: int) -> Iterator[_Strip]:
    """Cut the section into strips of `block` rows of the entry, each with the rows around it that are needed, too."""
    rows = {name: size[0] for name, size in section.sizes.items()}
    starts = [
        start
        for start in range(0, rows[section.entry], block)
        if all(start // strides[name] < rows[name] for name in section.exits)
    ]
    for start in starts:
        last = start == starts[-1]
        wanted = {
            name: (start // strides[name], rows[name] if last else (start + block) // strides[name])
            for name in section.exits
        }
        needed = dict(wanted)
        for node in reversed(section.nodes):
            window = section.windows[node.output[0]]
            for name in section.made(node):
                found = window.needed(needed[node.output[0]], rows[name])
                before = needed.get(name, found)
                needed[name] = min(before[0], found[0]), max(before[1], found[1])
        first, end = needed[section.entry]
        first = first // step * step
        there = {section.entry: end - first}
        for node in section.nodes:
            there[node.output[0]] = section.windows[node.output[0]].rows(there[section.made(node)[0]])
        yield _Strip(
            (first, end),
            {name: (a - first // strides[name], b - first // strides[name]) for name, (a, b) in wanted.items()},
            max(count * section.sizes[name][1] for name, count in there.items()),
        )


def _write(editor: GraphEditor, section: _Section, strips: Sequence[_Strip]) -> None:
    """Add the nodes of each strip, one strip after the other, and let the others read what they make together."""
    outputs: dict[str, list[str]] = {name: [] for name in section.exits}
    with editor.before(section.nodes[0]):
        for number, strip in enumerate(strips):
            names = {section.entry: _rows(editor, section.entry, strip.read, f"{section.entry}/strip{number}")}
            for node in (*section.shared, *section.nodes):
                names[node.output[0]] = editor.node(
                    node.op_type,
                    [names.get(name, name) for name in node.input],
                    f"{node.output[0]}/strip{number}",
                    name=f"{node.name}/strip{number}",
                    **{each.name: helper.get_attribute_value(each) for each in node.attribute},
                )
            for name in section.exits:
                outputs[name].append(_rows(editor, names[name], strip.kept[name], f"{name}/kept{number}"))
        for name in section.exits:
            maker = editor.maker(name)
            assert maker is not None
            editor.set_output(maker, f"{name}/uncut")
            editor.node("Concat", outputs[name], name, axis=2)


def _rows(editor: GraphEditor, tensor: str, span: Span, name: str) -> str:
    """Append a choice of rows of `(N, C, h, w)`."""
    first, last, axis = (editor.constant(str(value), [value], np.int64) for value in (*span, 2))
    return editor.node("Slice", [tensor, first, last, axis], name)
