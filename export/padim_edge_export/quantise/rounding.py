"""Round a convolution's weights to integers so that its outputs, not its weights, stay near.

Rounding each weight to its nearest integer is right for inputs that have nothing to do with each other. Neighbouring
pixels and channels of one stage do, so what one weight loses the others can make good: weights are rounded one by one,
each time the rest moves to where the outputs change least (Frantar et al., "GPTQ", 2023, equations 2 and 3, in the
order of the inputs' variance). What the outputs then still differ by on average goes into the bias (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from padim_edge_export.rewrites import Graph, groups
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.whitening import inverse_of_lower

__all__ = ["Moments", "Rounded", "round_weights", "tap"]

_POSITIONS = 200
"""Of each image, spread over it, that a convolution's inputs are taken from."""

_DAMPING = 0.01
"""Of the mean variance, added to each: the images are few, and the last digits of their covariance are noise."""

_BLOCK = 128
"""Columns that are rounded before the rest hears of it; only changes the speed."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rounded:
    """A convolution's weights in integers."""

    codes: npt.NDArray[np.int8]
    """As the weights, `(O, I / groups, h, w)`."""
    scale: Array
    """`(O,)`: weights are `codes * scale`."""
    shift: Array
    """`(O,)` to add to the bias."""


def tap(graph: EmbeddingGraph) -> onnx.ModelProto:
    """A model that gives the input of each convolution."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    for name in dict.fromkeys(node.input[0] for node in _convolutions(model.graph)):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


class Moments:
    """Means and covariances of what each convolution's weights are multiplied with; grows image by image."""

    def __init__(self, graph: EmbeddingGraph) -> None:
        self._look = Graph(graph.model.graph)
        self._sums: dict[str, tuple[int, Array, Array]] = {}

    def add(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """What `tap` gave for a batch, by name."""
        for node in _convolutions(self._look.graph):
            weights = self._look.value(node.input[1])
            if weights is None or node.input[0] not in inputs:
                continue
            columns = _columns(inputs[node.input[0]], node, (weights.shape[2], weights.shape[3]))
            products = np.matmul(columns.transpose(0, 2, 1), columns).astype(np.float64)
            count, total, squares = self._sums.get(node.name, (0, 0.0, 0.0))
            summed = columns.sum(axis=1, dtype=np.float64)
            self._sums[node.name] = (count + columns.shape[1], total + summed, squares + products)

    def of(self, name: str) -> tuple[Array, Array]:
        """`(groups, d)` mean and `(groups, d, d)` covariance of a convolution's inputs; d is taps times channels."""
        count, total, squares = self._sums[name]
        mean = total / count
        return mean, squares / count - mean[:, :, None] * mean[:, None, :]

    def __contains__(self, name: str) -> bool:
        return name in self._sums


def round_weights(graph: EmbeddingGraph, moments: Moments, largest: int) -> dict[str, Rounded]:
    """Every convolution of which `moments` knows the inputs, by name.

    Args:
        graph: The same that the moments were taken of.
        moments: Of the convolutions' inputs on good images.
        largest: Absolute value that an integer may have.
    """
    look = Graph(graph.model.graph)
    found = {}
    for node in _convolutions(graph.model.graph):
        if node.name not in moments:
            continue
        weights = look.value(node.input[1])
        assert weights is not None
        mean, covariance = moments.of(node.name)
        count = groups(node)
        rows = weights.reshape(count, len(weights) // count, -1).astype(np.float64)
        scale = np.maximum(np.abs(rows).max(axis=2), 1e-12) / largest
        codes = _round(rows, scale, covariance, largest)
        shift = np.einsum("god,gd->go", rows - codes * scale[:, :, None], mean)
        found[node.name] = Rounded(codes.reshape(weights.shape).astype(np.int8), scale.reshape(-1), shift.reshape(-1))
    return found


def _round(weights: Array, scale: Array, covariance: Array, largest: int) -> Array:
    """`(g, O, d)` integers for weights `(g, O, d)` in units of `scale` `(g, O)`; groups know nothing of each other."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    dims = variance.shape[1]
    order = np.argsort(-variance, axis=1, kind="stable")
    damped = np.stack([each[np.ix_(taken, taken)] for each, taken in zip(covariance, order, strict=True)])
    diagonal = np.arange(dims)
    damped[:, diagonal, diagonal] += _DAMPING * variance.mean(axis=1, keepdims=True) + 1e-12
    # The upper factor of the inverse, U'U = damped^-1, is the inverse of the upper factor R R' = damped, which is the
    # lower one read from the end: no general inverse, which would take most of the time.
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


def _columns(values: npt.NDArray[np.float32], conv: onnx.NodeProto, taps: tuple[int, int]) -> npt.NDArray[np.float32]:
    """`(groups, positions of all images, d)`: the inputs that one output is made of."""
    attributes = {each.name: list(each.ints) for each in conv.attribute if each.ints}
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple((many - 1) * gap + 1 for many, gap in zip(taps, dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    images, channels, rows, columns = windows.shape[:4]
    step = max(1, int(np.ceil(np.sqrt(rows * columns / _POSITIONS))))
    windows = windows[:, :, ::step, ::step]
    count = groups(conv)
    split = windows.reshape(images, count, channels // count, *windows.shape[2:])
    return split.transpose(1, 0, 3, 4, 2, 5, 6).reshape(count, -1, channels // count * taps[0] * taps[1])


def _convolutions(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for node in graph.node if node.op_type == "Conv")
