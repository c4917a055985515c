"""Small graphs for the tests of rewrites: written as text, run before and after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from padim_edge_runtime.devices.providers import open_session

__all__ = ["ROUNDING", "assert_same", "graph", "kinds", "run", "shapes", "weights"]

ROUNDING = 1e-5
"""Error relative to the largest value: float32 in another order. No rewrite rounds anything else."""


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    return open_session(model.SerializeToString(), "cpu").session.run(None, feeds)


def assert_same(model: onnx.ModelProto, rewrite: Callable[[onnx.ModelProto], int], **feeds: np.ndarray) -> int:
    """Rewrite in place, compare the outputs, and return the rewrite's count."""
    before = run(model, **feeds)
    counted = rewrite(model)
    for one, other in zip(run(model, **feeds), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING * np.abs(other).max())
    return counted


def graph(text: str, *, opset: int = 18, **weights: np.ndarray) -> onnx.ModelProto:
    """A model written as onnx text, with drawn constants; the nodes get names."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> agraph {text}')
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{i}"
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of each convolution's weights, by its name."""
    found = {each.name: tuple(each.dims) for each in model.graph.initializer}
    return {node.name: found[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
