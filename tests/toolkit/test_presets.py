"""Presets and options become a method in one place, which refuses what it does not know."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from padim_edge.presets import PRESETS, Options, preset
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method, Precision
from padim_edge_export import backbones


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_without_options_is_itself(name: str) -> None:
    assert preset(name) == PRESETS[name]
    assert preset(name).preset == name


@pytest.mark.parametrize("name", PRESETS)
def test_options_that_are_none_keep_the_presets_values(name: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(Options.__annotations__)
    assert preset(name, **nothing) == PRESETS[name]


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"seed": 7}, {"seed": 7}),
        ({"dims": 50}, {"dims": 50}),
        ({"reduction": "pca"}, {"reduction": "pca"}),
        ({"precision": "int8"}, {"precision": Precision("int8")}),
        ({"precision": "int8", "target": "tensorrt"}, {"precision": Precision("int8", "tensorrt")}),
        ({"target": "tensorrt"}, {"precision": Precision(target="tensorrt")}),
        ({"precision": Precision("fp16", rank=9)}, {"precision": Precision("fp16", rank=9)}),
        (
            {"precision": Precision("int8", rank=9), "target": "tensorrt"},
            {"precision": Precision("int8", "tensorrt", 9)},
        ),
    ],
)
def test_an_option_changes_its_field_and_no_other(options: dict[str, Any], changes: dict[str, Any]) -> None:
    assert preset("edge", **options) == dataclasses.replace(PRESETS["edge"], **changes)


def test_a_size_replaces_resize_and_crop() -> None:
    assert preset("paper", size="256").preprocessing.size == (256, 256)
    assert preset("paper", size=256) == preset("paper", size="256")
    assert preset("paper", size="96x128").preprocessing.crop is None
    assert preset("edge", size="448").sigma == 8.0
    assert preset("edge", dims=50).dims == 50


def test_the_published_method_resizes_as_published_and_the_quick_ones_bin_first() -> None:
    ways = {name: each.preprocessing.interpolation for name, each in PRESETS.items()}
    assert ways["paper"] == "bicubic"
    assert ways["edge"] == ways["accurate"] == "binned-bicubic"
    assert preset("edge", size="96x128", frame="900x900").preprocessing.interpolation == "binned-bicubic"


def test_a_frame_is_resized_in_the_graph_and_the_models_frame_stays() -> None:
    method = preset("edge", frame="1080x1920")
    assert method.preprocessing.input_size == (1080, 1920)
    assert method.preprocessing.size == PRESETS["edge"].preprocessing.size
    assert method.sigma == PRESETS["edge"].sigma


def test_the_backbone_brings_its_own_number_of_dimensions() -> None:
    assert preset("edge", backbone="wide_resnet50_2").dims == 550
    assert preset("edge", backbone="wide_resnet50_2", dims=100).dims == 100
    assert backbones.default_dims("resnet18") == 100
    with pytest.raises(PadimEdgeError, match="there is no backbone"):
        backbones.default_dims("resnet19")


def test_layers_are_a_sequence_or_a_text() -> None:
    method = preset("edge", layers=["layer1", "layer2"])
    assert method == preset("edge", layers="layer1, layer2")
    assert method.layers == ("layer1", "layer2")
    assert method.shares == (0.5, 0.5)


def test_few_channels_lower_the_usual_number_of_dimensions() -> None:
    assert preset("edge", layers="layer1").dims == 64
    with pytest.raises(PadimEdgeError, match="has no layer 'layer9'; choose another one"):
        preset("edge", layers="layer1,layer9")


@pytest.mark.parametrize(
    ("name", "near"), [("backbones", "backbone"), ("dim", "dims"), ("presision", "precision"), ("rank", None)]
)
def test_an_unknown_option_names_the_known_ones_and_the_nearest(name: str, near: str | None) -> None:
    with pytest.raises(PadimEdgeError) as caught:
        preset("edge", **{name: 1})  # type: ignore[arg-type]
    assert f"there is no option {name!r}, expected some of {', '.join(Options.__annotations__)}" in str(caught.value)
    assert str(caught.value).endswith(f"; did you mean {near}?") == (near is not None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backbone": "vgg"}, "there is no backbone 'vgg'; choose one of resnet18"),
        ({"reduction": "lda"}, "there is no reduction 'lda'"),
        ({"dims": 0}, "dims is 0, expected 1 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"precision": "fp8"}, "there is no precision 'fp8'"),
        ({"target": "npu"}, "there is no target 'npu'"),
        *(
            ({"size": text}, "--size is .*, expected 32 to 4096 pixels a side")
            for text in ("0", "31", 31, "5000", "64x", "x64", "64x64x3", "-64", "huge")
        ),
        *(
            ({"frame": text}, "--frame is .*, expected height x width in pixels")
            for text in ("1080", "1080 x 1920", "x", "7x9", "100x20000", "-1x5", "")
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence) as caught:
        preset("edge", **options)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(PadimEdgeError, match="there is no preset 'best'; choose one of paper, edge, accurate"):
        preset("best")


def test_a_method_can_be_changed_by_hand() -> None:
    """The documentation shows this."""
    assert isinstance(method := dataclasses.replace(preset("edge"), sigma=2.0), Method)
    assert method.sigma == 2.0
