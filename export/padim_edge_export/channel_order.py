"""The order of the channels, built into the graph for servers that decode images to BGR.

Only the order of numbers changes, and no number: so the scores of the same fit are equal bit for bit. Weights of the
first convolution in another order would save a copy of the frame, but sums in another order round differently.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from padim_edge_artifact import Preprocessing, names
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, attribute, copied

__all__ = ["baked"]

_REVERSED = (2, 1, 0)
_PLANES = (0, 3, 1, 2)
"""Order of the axes that turns `(N, H, W, 3)` into `(N, 3, H, W)`."""


def baked(graph: EmbeddingGraph, preprocessing: Preprocessing) -> EmbeddingGraph:
    """Let the graph take the channels in the order that `preprocessing` says; return the graph itself for RGB.

    The input gets the name of its order, `Preprocessing.input_name`.

    Args:
        graph: Graph of RGB frames in any precision, before the resize of camera frames is put in front of it.
        preprocessing: Way of an image into the graph.
    """
    if preprocessing.color == "rgb":
        return graph
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "color")
    if not _in_planes(editor):
        _in_pixels(editor)
    editor.redirect(names.IMAGE, preprocessing.input_name)
    model.graph.input[0].name = preprocessing.input_name
    return dataclasses.replace(graph, model=model)


def _in_planes(editor: GraphEditor) -> bool:
    """Reverse whole planes of float pixels, which is the cheapest; tell whether all pixels come that way."""
    casts = editor.readers(names.IMAGE)
    turns = [each for cast in casts for each in editor.readers(cast.output[0])]
    if not all(each.op_type == "Cast" for each in casts) or not all(
        each.op_type == "Transpose" and attribute(each, "perm", ()) == _PLANES for each in turns
    ):
        return False
    for number, turn in enumerate(turns):
        readers = editor.readers(turn.output[0])
        with editor.behind(turn):
            planes = _reversed(editor, turn.output[0], 1, f"planes{number}")
        for reader in readers:
            editor.set_inputs(reader, [planes if name == turn.output[0] else name for name in reader.input])
    return True


def _in_pixels(editor: GraphEditor) -> None:
    """Reverse the pixels themselves, in a graph that computes with them as they come."""
    readers = editor.readers(names.IMAGE)
    with editor.behind(None):
        planes = editor.node("Transpose", [names.IMAGE], "color_apart", perm=list(_PLANES))
        planes = _reversed(editor, planes, 1, "pixels")
        pixels = editor.node("Transpose", [planes], "color_rgb", perm=[0, 2, 3, 1])
    for reader in readers:
        editor.set_inputs(reader, [pixels if name == names.IMAGE else name for name in reader.input])


def _reversed(editor: GraphEditor, tensor: str, axis: int, what: str) -> str:
    order = editor.constant("reversed", _REVERSED, np.int64)
    return editor.node("Gather", [tensor, order], f"color_{what}", axis=axis)
