"""Round a convolution's weights to integers so that its outputs, not its weights, stay near.

Rounding each weight to its nearest integer is right for independent inputs. Neighbouring pixels and the channels of one
stage are not independent, so other weights can make good what one weight loses. Weights are rounded one by one in the
order of the inputs' variance, and each time the rest moves to where the outputs change least (Frantar et al., "GPTQ",
2023, equations 2 and 3).

The mean difference that remains in the outputs goes into the bias (Nagel et al., "Data-free quantization through weight
equalization and bias correction", 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto

from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, attribute, copied
from padim_edge_model.whitening import inverse_of_lower

__all__ = ["Moments", "Rounded", "round_weights", "tap"]

_POSITIONS = 200
"""Positions per image, spread over it, from which a convolution's inputs are taken."""

_DAMPING = 0.01
"""Share of the mean variance that is added to each variance, because few images estimate a covariance badly."""

_BLOCK = 128
"""Columns that are rounded before their errors move to the others; it only changes the speed."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights of a convolution in integers: weights = codes * scale."""

    codes: npt.NDArray[np.int8]
    """`(O, I / groups, h, w)` integers."""
    scale: Array
    """`(O,)` step between two integers of each output channel."""
    shift: Array
    """`(O,)` numbers to add to the bias."""


def tap(graph: EmbeddingGraph) -> onnx.ModelProto:
    """Return a model whose outputs are the inputs of all convolutions."""
    model = copied(graph.model)
    editor = GraphEditor(model.graph)
    editor.set_outputs(dict.fromkeys(node.input[0] for node in _convolutions(editor)))
    return model


class Moments:
    """Means and covariances of the inputs of each convolution; more images can be added at any time."""

    def __init__(self, graph: EmbeddingGraph) -> None:
        self._graph = GraphEditor(graph.model.graph)
        self._sums: dict[str, tuple[int, Array, Array]] = {}

    def add(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Add the outputs of `tap` for one batch, by name."""
        for node in _convolutions(self._graph):
            weights = self._graph.value(node.input[1])
            if weights is None or node.input[0] not in inputs:
                continue
            columns = _columns(inputs[node.input[0]], node, (weights.shape[2], weights.shape[3]))
            products = np.matmul(columns.transpose(0, 2, 1), columns).astype(np.float64)
            count, total, squares = self._sums.get(node.name, (0, 0.0, 0.0))
            summed = columns.sum(axis=1, dtype=np.float64)
            self._sums[node.name] = (count + columns.shape[1], total + summed, squares + products)

    def of(self, name: str) -> tuple[Array, Array]:
        """Return mean `(groups, d)` and covariance `(groups, d, d)` of a convolution's inputs; d = taps x channels."""
        count, total, squares = self._sums[name]
        mean = total / count
        return mean, squares / count - mean[:, :, None] * mean[:, None, :]

    def __contains__(self, name: str) -> bool:
        return name in self._sums


def round_weights(graph: EmbeddingGraph, moments: Moments, largest: int) -> dict[str, Rounded]:
    """Round the weights of every convolution whose inputs `moments` knows; return them by the convolution's name.

    Args:
        graph: Graph that the moments were taken of.
        moments: Moments of the convolutions' inputs on good images.
        largest: Largest absolute value of an integer.
    """
    editor = GraphEditor(graph.model.graph)
    found = {}
    for node in _convolutions(editor):
        if node.name not in moments:
            continue
        weights = editor.value(node.input[1])
        assert weights is not None
        mean, covariance = moments.of(node.name)
        count = attribute(node, "group", 1)
        rows = weights.reshape(count, len(weights) // count, -1).astype(np.float64)
        scale = np.maximum(np.abs(rows).max(axis=2), 1e-12) / largest
        codes = _round(rows, scale, covariance, largest)
        shift = np.einsum("god,gd->go", rows - codes * scale[:, :, None], mean)
        found[node.name] = Rounded(codes.reshape(weights.shape).astype(np.int8), scale.reshape(-1), shift.reshape(-1))
    return found


def _round(weights: Array, scale: Array, covariance: Array, largest: int) -> Array:
    """Round weights `(g, O, d)` to integers in units of `scale` `(g, O)`; each of the g groups by itself."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    dims = variance.shape[1]
    order = np.argsort(-variance, axis=1, kind="stable")
    damped = np.stack([each[np.ix_(taken, taken)] for each, taken in zip(covariance, order, strict=True)])
    diagonal = np.arange(dims)
    damped[:, diagonal, diagonal] += _DAMPING * variance.mean(axis=1, keepdims=True) + 1e-12
    # The upper factor U of the inverse, U'U = damped^-1, is the inverse of the upper factor R, R R' = damped. R is the
    # lower factor read from the end. This avoids a general inverse, which would take most of the time.
    upper = inverse_of_lower(np.linalg.cholesky(damped[:, ::-1, ::-1]))[:, ::-1, ::-1]
    left = np.take_along_axis(weights, order[:, None], axis=2) / scale[:, :, None]
    codes = np.empty_like(left)
    for start in range(0, dims, _BLOCK):
        stop = min(start + _BLOCK, dims)
        errors = np.empty((*left.shape[:2], stop - start))
        for i in range(start, stop):
            codes[:, :, i] = np.rint(left[:, :, i]).clip(-largest, largest)
            error = errors[:, :, i - start] = (left[:, :, i] - codes[:, :, i]) / upper[:, i, i, None]
            left[:, :, i + 1 : stop] -= error[:, :, None] * upper[:, i, None, i + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    found = np.empty_like(codes)
    np.put_along_axis(found, order[:, None], codes, axis=2)
    return found


def _columns(values: npt.NDArray[np.float32], conv: NodeProto, taps: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return `(groups, positions of all images, d)`: the inputs that each output is a weighted sum of."""
    top, left, bottom, right = attribute(conv, "pads", (0, 0, 0, 0))
    strides, dilations = attribute(conv, "strides", (1, 1)), attribute(conv, "dilations", (1, 1))
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple((many - 1) * gap + 1 for many, gap in zip(taps, dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    images, channels, rows, columns = windows.shape[:4]
    step = max(1, int(np.ceil(np.sqrt(rows * columns / _POSITIONS))))
    windows = windows[:, :, ::step, ::step]
    count = attribute(conv, "group", 1)
    split = windows.reshape(images, count, channels // count, *windows.shape[2:])
    return split.transpose(1, 0, 3, 4, 2, 5, 6).reshape(count, -1, channels // count * taps[0] * taps[1])


def _convolutions(editor: GraphEditor) -> list[NodeProto]:
    return [node for node in editor.nodes if node.op_type == "Conv"]
