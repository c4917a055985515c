"""Export of a torch module of images as an ONNX graph: the only call of torch's exporter in this project."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx
import torch
from torch import nn

from padim_edge_artifact import names
from padim_edge_model.graph import IR_VERSION, OPSET

__all__ = ["export_graph"]


def export_graph(module: nn.Module, size: tuple[int, int], outputs: Sequence[str]) -> onnx.ModelProto:
    """Export a module as a graph from `image`, uint8 `(N, H, W, 3)` with N free, to its outputs.

    The graph carries no documentation, stack traces or paths of the machine that exported it.

    Args:
        module: Module that takes the images and returns one tensor or a tuple of tensors.
        size: (H, W) of the images in pixels.
        outputs: Names of the tensors that the module returns.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *size, 3, dtype=torch.uint8),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[names.IMAGE],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None
    return _clean(program.model_proto)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which logs, warns and prints."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove everything that says where and how the graph was exported, and set the shipped IR version."""
    del model.metadata_props[:]
    model.ir_version = IR_VERSION
    model.doc_string = model.producer_name = model.producer_version = ""
    graph = model.graph
    del graph.metadata_props[:], graph.value_info[:]
    graph.name, graph.doc_string = "padim_edge", ""
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.doc_string = ""
    for i, node in enumerate(graph.node):
        node.name = f"embedding/{i}_{node.op_type}"
    return model
