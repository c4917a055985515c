"""Models of large frames: the first layers in strips, from good images to the score."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import small_models

from padim_edge import plan
from padim_edge.quantisation import observed
from padim_edge.start import begin
from padim_edge_artifact.method import Method, Precision
from padim_edge_export import strips
from padim_edge_model.graph import of_kept
from padim_edge_runtime import Detector

SAME = 1e-4
"""Largest relative difference of scores and map values between a model in strips and one of whole activations."""
PART = small_models.dataset(small_models.weave(12))


def method_of(name: str, precision: Precision) -> Method:
    method = small_models.small(name, precision=precision)
    size = dataclasses.replace(method.preprocessing, resize=(96, 72), crop=None)
    return dataclasses.replace(method, preprocessing=size)


def nodes(model: Path) -> int:
    import onnx

    return sum("/strip" in node.name for node in onnx.load(model, load_external_data=False).graph.node)


@pytest.mark.parametrize("precision", [Precision(), Precision("int8")], ids=str)
@pytest.mark.parametrize("name", ["edge", "free"])
def test_scores_and_maps_are_those_of_whole_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: Precision
) -> None:
    method = method_of(name, precision)
    with small_models.rounded_to_nearest():
        whole = small_models.export_model(PART, tmp_path / "whole.onnx", method)
        monkeypatch.setattr(strips, "LARGEST", 16 * 48 * 36)  # a quarter of the first layer's activation
        cut = small_models.export_model(PART, tmp_path / "cut.onnx", method)
    assert nodes(whole.path) == 0
    assert nodes(cut.path) > 10
    assert cut.bytes - whole.bytes < 400 * nodes(cut.path)
    assert cut.threshold == pytest.approx(whole.threshold, rel=SAME)
    a, b = (Detector.load(each.path, "cpu") for each in (whole, cut))
    assert b.self_test().passed
    for image in small_models.judged():
        one, other = (each(each.prepare(image)) for each in (a, b))
        np.testing.assert_allclose(other.score, one.score, rtol=SAME)
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, rtol=0, atol=SAME * one.anomaly_map.max())


def test_an_activation_that_stays_large_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    method = method_of("edge", Precision())
    empty = begin(PART, method)
    needed = plan.needs(empty, Precision(), 12)
    assert "at once" not in str(needed)
    monkeypatch.setattr(strips, "LARGEST", needed.activation - 1)
    assert f"one activation takes {needed.activation / 1e6:.0f} MB" in str(plan.needs(empty, Precision(), 12))
    smaller = plan.needs(begin(PART, method), Precision(), 12)
    assert smaller.activation < needed.activation
    assert smaller.memory < needed.memory


def test_a_fit_with_the_same_images_gives_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """So statistics of several machines can be merged."""
    monkeypatch.setattr(strips, "LARGEST", 16 * 48 * 36)
    method = method_of("edge", Precision())
    one, other = begin(PART, method), begin(PART, method)
    assert one.graph == other.graph
    assert of_kept(one).size == (96, 72)


def test_int8_observes_fewer_images_where_they_are_large() -> None:
    assert observed((224, 224)) == observed((1024, 1024)) == 64
    assert observed((2048, 2048)) == 16
    assert observed((4096, 4096)) == 8
