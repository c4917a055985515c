"""The schema of metadata: every rule of it, each relation between fields, and the bounds on the text itself."""

from __future__ import annotations

import base64
import dataclasses
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from attack.complete import COMPLETE, as_json
from attack.mutating import outside, with_value

from padim_edge_artifact import ArtifactError, Metadata
from padim_edge_artifact.calibration import MOST_SCORES, Calibration
from padim_edge_artifact.metadata import Digests, from_json, to_json
from padim_edge_artifact.schema import MOST_BYTES, Row, rows

ROWS = [row for row in rows(Metadata) if row.path != ("format_version",)]
WHOLE = as_json()


def place(row: Row) -> tuple[str | int, ...]:
    """The path of a value that the rule is about, the first element of every list."""
    return tuple(0 if each == "*" else each for each in row.path)


def present(path: tuple[str | int, ...]) -> Any:
    value: Any = WHOLE
    for key in path:
        value = value[key]
    return value


def refusal(content: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        from_json(content if isinstance(content, str) else json.dumps(content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    str(caught.value).encode()  # it can be printed
    return str(caught.value)


def test_the_complete_metadata_are_whole() -> None:
    assert from_json(to_json(COMPLETE)) == COMPLETE
    assert len(ROWS) > 130


REACHED = [row for row in ROWS if row.path[:3] != ("method", "bank", row.path[-1]) and "beside" not in row.path[2:]]
"""Rules about values that a model of both kinds has."""


@pytest.mark.parametrize("row", REACHED, ids=lambda row: ".".join(row.path))
def test_every_value_beyond_its_rule_is_refused_in_a_sentence(row: Row) -> None:
    path = place(row)
    for wrong in outside(row, present(path)):
        sentence = refusal(with_value(WHOLE, path, wrong))
        assert any(str(key).replace("_", " ") in sentence.replace("_", " ") for key in path), (path, sentence)


@pytest.mark.parametrize(
    ("path", "wrong", "words"),
    [
        (("grid",), [65, 3], "finer than the frame"),
        (("grid",), [3, 4000], "finer than the frame"),
        (("grid",), [3, 3], "mean thumbnail has another size"),
        (("backbone", "channels"), [4, 8, 8], "3 numbers of channels stand for 2 layers"),
        (("reduction", "channels"), [0, 2, 12], "none of the backbone's"),
        (("reduction", "channels"), [2, 2], "ascending"),
        (("independent",), 31, "more images are independent"),
        (("prototypes",), None, "prototypes and method contradict"),
        (("combination",), None, "have no weights"),
        (("reference", "mean"), "AA==", "mean thumbnail has another size"),
        (("reference", "mean"), "A", "mean thumbnail has another size"),
        (("reference", "deviation"), "AA==", "deviation of the thumbnails has another size"),
        (("reference", "brightness"), [110.0, 90.0], "upside down"),
        (("reference", "contrast"), [30.0, 20.0], "upside down"),
        (("reference", "turned"), [0.6], "expected 3"),
        (("roi",), [3072], "region of interest"),
        (("roi",), [0, 3073], "region of interest"),
        (("roi",), [3072, 0], "is empty"),
        (("fingerprints",), "AAAA", "fingerprints cannot be read"),
        (("fingerprints",), base64.b64encode(zlib.compress(bytes(31 * 128))).decode(), "more than the images"),
        (("fingerprints",), base64.b64encode(zlib.compress(bytes(127))).decode(), "cannot be read"),
        (("fingerprints",), base64.b64encode(zlib.compress(bytes(1 << 26))[:-4]).decode(), "cannot be read"),
        (("calibration", "scores"), [1.0, 3.5, 2.0], "ascending order"),
        (("calibration", "images"), 4, "3 scores of 4 images"),
        (("calibration", "images"), 10**9, "from 1 to 10000000"),
        (("digests", "data"), None, "do not belong together"),
        (("digests", "data_bytes"), 0, "do not belong together"),
        (("method", "preprocessing", "resize"), [2**40, 8], "sides of at most 16384"),
        (("method", "preprocessing", "resize"), [15000, 15000], "frames of at most 32 megapixels"),
        (("method", "preprocessing", "camera"), [16384, 16384], "camera frames of at most 128"),
        (("method", "preprocessing", "crop"), [73, 48], "expected a crop that fits inside"),
        (("history", 0, "until"), "yesterday", "expected a date"),
        (("class_name",), "\ud800", "expected text that can be shown"),
        (("class_name",), "a\x1b[2Jb", "expected text that can be shown"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(path: tuple[str | int, ...], wrong: Any, words: str) -> None:
    assert words in refusal(with_value(WHOLE, path, wrong))


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/passwd", "../x", "a/b", "a\\b", "\\\\server\\share", "C:\\x", "a\0b", "x" * 256),
        *("con", "NUL.data", "Com1.onnx.data", "lpt9", "aux .x", "*/_ORT_MEM_ADDR_/*", "a\nb"),
    ],
)
def test_a_data_file_has_a_plain_name(name: str) -> None:
    """The names are those of onnx's own attacks, of Windows' devices, and onnxruntime's word for memory."""
    refusal(with_value(WHOLE, ("digests", "data_file"), name))
    with pytest.raises(ArtifactError):
        Digests("", "0" * 64, name, 1)


@pytest.mark.parametrize("name", ["bottle.onnx.0123abcd.data", "ünï 图.data", "console.data", "a'b.data", " .data"])
def test_other_names_of_data_files_are_taken(name: str) -> None:
    assert Digests("", "0" * 64, name, 1).data_file == name


def test_a_field_that_is_there_twice_is_refused() -> None:
    """A small reader that looks for the text might take the other one."""
    assert "twice" in refusal(to_json(COMPLETE).replace('"threshold":', '"threshold":1e9,"threshold":'))


@pytest.mark.parametrize("digits", [1001, 5000, 1_000_000])
def test_a_number_of_very_many_digits_is_refused_at_once(digits: int) -> None:
    assert "too many digits" in refusal(to_json(COMPLETE).replace('"images":30', f'"images":{"9" * digits}'))


@pytest.mark.parametrize("depth", [2, 100, 300, 900])
def test_objects_in_each_other_without_end_are_refused(depth: int) -> None:
    inner = WHOLE["method"]
    text = json.dumps(WHOLE | {"method": "here"})
    before = json.dumps(inner | {"beside": 0}).replace('"beside": 0', '"beside": ' + "@")
    opening, closing = before.split("@")
    refusal(text.replace('"here"', opening * depth + "null" + closing * depth))


def test_a_text_beyond_the_cap_is_refused_before_it_is_read() -> None:
    text = f'{{"x":[{"{}," * (MOST_BYTES // 3)}0]}}'
    tracemalloc.start()
    assert "expected at most" in refusal(text)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_metadata_that_no_reader_takes_are_not_written() -> None:
    with pytest.raises(ArtifactError, match="history"):
        dataclasses.replace(COMPLETE, history=COMPLETE.history * 9)
    unseen = dataclasses.replace(COMPLETE.reference, brightness=(float("inf"), float("-inf")))
    with pytest.raises(ArtifactError, match="upside down"):
        dataclasses.replace(COMPLETE, reference=unseen)


def test_a_calibration_keeps_all_scores_up_to_a_number() -> None:
    scores = tuple(float(each) for each in range(MOST_SCORES))
    assert Calibration(MOST_SCORES, scores).scores == Calibration(10_000_000, scores).scores == scores
    for images, kept in ((MOST_SCORES + 1, (*scores, 5000.0)), (MOST_SCORES - 1, scores), (10_000_001, scores)):
        with pytest.raises(ArtifactError):
            Calibration(images, kept)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e-6])
def test_a_score_that_is_no_distance_is_refused(wrong: float) -> None:
    for scores in ((wrong, 1.0), (1.0, wrong)):
        with pytest.raises(ArtifactError):
            Calibration(2, scores)
