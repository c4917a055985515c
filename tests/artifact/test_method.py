"""The method: checked once, when it is made; each wrong value is refused in one sentence."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import golden as files
import pytest
from drawn_statistics import METHOD

from padim_edge_artifact import ArtifactError, PadimEdgeError, read_metadata
from padim_edge_artifact.method import PRECISIONS, REDUCTIONS, TARGETS, Precision

WRONG_METHODS = [
    ({"reduction": "lda"}, r"there is no reduction 'lda'; choose one of random, semi-orthogonal, pca"),
    ({"reduction": ""}, r"there is no reduction ''"),
    ({"layers": ()}, r"layers is \(\), expected the names of one or more modules"),
    ({"layers": ("a", "")}, r"layers is \('a', ''\), expected the names of one or more modules"),
    ({"dims": 0}, r"dims is 0, expected 1 or more dimensions"),
    ({"dims": -5}, r"dims is -5, expected"),
    ({"seed": -1}, r"seed is -1, expected 0 or more"),
    ({"shares": (1.0,)}, r"shares is \(1.0,\), expected one positive number per layer"),
    ({"shares": (0.5, 0.0)}, r"shares is \(0.5, 0.0\), expected one positive number per layer"),
    ({"shares": (0.5, math.inf)}, r"shares is \(0.5, inf\), expected"),
    ({"shares": (0.5, math.nan)}, r"shares is \(0.5, nan\), expected"),
    ({"pooling": 0}, r"pooling is 0, expected an odd number of cells"),
    ({"pooling": 2}, r"pooling is 2, expected an odd number of cells"),
    ({"ridge": 0.0}, r"ridge is 0.0, expected a positive number such as 0.003"),
    ({"ridge": -0.1}, r"ridge is -0.1, expected"),
    ({"ridge": math.nan}, r"ridge is nan, expected"),
    ({"ridge": math.inf}, r"ridge is inf, expected"),
    ({"sigma": -1.0}, r"sigma is -1.0, expected 0 or more pixels"),
    ({"sigma": math.nan}, r"sigma is nan, expected"),
    ({"sigma": math.inf}, r"sigma is inf, expected"),
]

WRONG_PRECISIONS: list[tuple[dict[str, Any], str]] = [
    ({"name": "fp8"}, r"there is no precision 'fp8'; choose one of fp32, fp16, int8"),
    ({"name": "INT8"}, r"there is no precision 'INT8'"),
    ({"target": "cuda"}, r"there is no target 'cuda'"),
    ({"target": "jetson"}, r"there is no target 'jetson'; choose one of cpu, tensorrt"),
    ({"rank": 0}, r"the rank is 0, expected 1 or more; leave it out for the exact Gaussian"),
    ({"rank": -3}, r"the rank is -3, expected 1 or more"),
    ({"rank": 4, "diagonal": True}, r"--rank and --diagonal exclude each other"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG_METHODS)
def test_a_wrong_value_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=f"^{sentence}") as caught:
        dataclasses.replace(METHOD, **changes)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value), "it says what to do"


@pytest.mark.parametrize(("changes", "sentence"), WRONG_PRECISIONS)
def test_a_wrong_precision_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=f"^{sentence}") as caught:
        Precision(**changes)
    assert "; " in str(caught.value), "it says what to do"


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": 1},
        {"seed": 0},
        {"shares": None},
        {"shares": (3.0, 1e-9)},
        {"pooling": 1},
        {"sigma": 0.0},
        {"layers": ("features.3",), "shares": (1.0,)},
        *({"reduction": each} for each in REDUCTIONS),
        *({"precision": Precision(name, target)} for name in PRECISIONS for target in TARGETS),
    ],
)
def test_the_ends_of_each_range_are_allowed(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(METHOD, **changes) != dataclasses.replace(METHOD, preset="other")


def test_methods_are_equal_by_value_and_can_be_keys() -> None:
    """Their graphs are kept by method."""
    assert dataclasses.replace(METHOD) == METHOD
    assert len({METHOD, dataclasses.replace(METHOD), dataclasses.replace(METHOD, seed=1)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        METHOD.dims = 5  # type: ignore[misc]


def test_numbers_are_the_precision_without_the_form() -> None:
    for form in (Precision("int8", "tensorrt", 5), Precision("int8", "tensorrt", diagonal=True)):
        assert not form.exact
        assert form.numbers == Precision("int8", "tensorrt")
        assert form.numbers.exact


IN_JSON = [row for row in WRONG_METHODS if "nan" not in row[1] and "inf" not in row[1]]
"""JSON has no word for the other numbers."""


@pytest.mark.parametrize(("changes", "sentence"), IN_JSON)
def test_a_model_with_such_a_method_is_refused_by_name(
    golden: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    """The sentence names the file, the field and the value."""
    path = files.rewrite(golden, tmp_path / "odd.onnx", lambda metadata: metadata["method"].update(changes))
    with pytest.raises(ArtifactError, match=f"odd.onnx cannot be used: metadata.method cannot be used: {sentence}"):
        read_metadata(path)


@pytest.mark.parametrize(("changes", "sentence"), WRONG_PRECISIONS)
def test_a_model_with_such_a_precision_is_refused_by_name(
    golden: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = files.rewrite(
        golden, tmp_path / "odd.onnx", lambda metadata: metadata["method"]["precision"].update(changes)
    )
    with pytest.raises(ArtifactError, match=f"odd.onnx cannot be used: metadata.method.precision .*{sentence}"):
        read_metadata(path)
