"""A model card says what the file and the evaluation know, and nothing of what they hold becomes markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
import typer
from typer.testing import CliRunner

from padim_edge_artifact import PadimEdgeError, read_metadata
from padim_edge_runtime import card as cards
from padim_edge_runtime.card_numbers import read_numbers
from padim_edge_runtime.cli.card import card as command

EVALUATION: dict[str, Any] = {
    "image_auroc": 0.995,
    "image_ap": 0.99,
    "best_f1": 0.97,
    "pixel_auroc": None,
    "pro": None,
    "false_alarm_rate": 0.05,
    "miss_rate": 0.1,
    "false_alarm_interval": [0.01, 0.2],
    "miss_interval": None,
    "good": 20,
    "anomalous": 63,
    "without_mask": 63,
    "unreadable": 1,
    "kinds": {"good": {"images": 20, "alarms": 1}, "chip": {"images": 63, "alarms": 57}},
}
HOSTILE = (
    "`](http://a.example) <script>x</script>",
    "``` # title",
    "<img src=x onerror=x>",
    "[a](javascript:b) ![c](d) | e",
    "--- : {x: [y]} # z",
    "\\` ``<b>`` `",
    "a  ",
    "'\"",
)
"""Texts that mean something in Markdown, HTML or YAML."""


def written(folder: Path, **changed: Any) -> Path:
    """An evaluation of the golden model."""
    threshold = read_metadata(golden.WHOLE).threshold
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"classes": {"disc": {**EVALUATION, "threshold": threshold, **changed}}}))
    return path


def card(model: Path = golden.WHOLE, evaluation: Path | None = None) -> str:
    metadata = read_metadata(model)
    numbers = None if evaluation is None else read_numbers(evaluation, metadata)
    return cards.card(metadata, cards.Called(file=model.name), numbers)


def front(text: str) -> Any:
    yaml = pytest.importorskip("yaml")
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def tokens(text: str) -> list[Any]:
    """Everything inline that a reader of Markdown sees in the body."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    body = text.split("---\n", 2)[2]
    return [token for block in markdown.parse(body) for token in (block, *(block.children or ()))]


def test_without_an_evaluation_no_number_is_claimed() -> None:
    text = card()
    head = front(text)
    assert head["metrics"] == []
    assert "model-index" not in head
    assert "No evaluation was given" in text
    assert "AUROC" not in text


def test_the_head_has_the_shape_of_hugging_face(tmp_path: Path) -> None:
    head = front(card(evaluation=written(tmp_path)))
    assert head["license"] == "other", "that of the whole model is not known"
    assert head["license_name"] == "weights-apache-2.0"
    assert head["library_name"] == "padim-edge"
    assert {"anomaly-detection", "onnx", "padim"} <= set(head["tags"])
    assert head["metrics"] == ["roc_auc", "average_precision", "f1", "false_positive_rate", "false_negative_rate"]
    (model,) = head["model-index"]
    assert model["name"] == "disc"
    (result,) = model["results"]
    assert set(result) == {"task", "dataset", "metrics"}
    assert {"type", "name"} <= set(result["dataset"])
    values = {each["name"]: each["value"] for each in result["metrics"]}
    assert values["image AUROC"] == 0.995
    assert all(isinstance(value, float) for value in values.values())


def test_an_evaluation_gives_its_numbers_and_its_gaps(tmp_path: Path) -> None:
    text = card(evaluation=written(tmp_path))
    assert "| image AUROC | 0.9950 |" in text
    assert "on 20 good and 63 anomalous images" in text
    assert "Undefined on these images: pixel AUROC, PRO." in text
    assert "- `chip`: 57 of 63" in text
    assert "false alarms, 95 % interval | 0.0100 to 0.2000" in text
    assert "1 test images could not be judged" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_file_stay_texts(tmp_path: Path, text: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["class_name"] = text
        data["created_by"] = data["threshold_rule"] = text
        data["backbone"].update(weights=text, licence=text)
        data["method"].update(preset=text, backbone=text)

    model = golden.rewrite(golden.WHOLE, tmp_path / "model.onnx", change)
    values = {**EVALUATION, "threshold": read_metadata(model).threshold, "kinds": {text: {"images": 1, "alarms": 1}}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"classes": {text: values}}))
    said = card(model, tmp_path / "evaluation.json")
    assert front(said)["model-index"][0]["name"] == text
    found = tokens(said)
    types = {token.type for token in found}
    assert not types & {"html_block", "html_inline", "link_open", "image", "hr"}
    headings = [token for token in found if token.type == "heading_open"]
    assert len(headings) == 7, "no text has become a title"
    spans = [token.content for token in found if token.type == "code_inline"]
    assert spans.count(text) >= 7


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\u202ereversed", "\ud800", "\ufeff"])
def test_characters_that_hide_something_are_written_as_escapes(tmp_path: Path, name: str) -> None:
    evaluation = written(tmp_path, kinds={name: {"images": 1, "alarms": 0}})
    said = card(evaluation=evaluation)
    assert name not in said
    assert re.search(r"^- `[^`]*\\(x|u|n)[^`]*`: 0 of 1$", said, re.MULTILINE)
    said.encode()


def test_a_card_for_each_kind_of_distance(tmp_path: Path) -> None:
    assert "one Gaussian per patch" in card()

    def add(data: dict[str, Any]) -> None:
        data["roi"] = [0, 2048, 2048]
        data["drift"] = 1.5
        data["independent"] = None

    said = card(golden.rewrite(golden.WHOLE, tmp_path / "model.onnx", add))
    assert "50.0 % of the frame" in said
    assert "1.50 times" in said
    assert "repeats may be among them" in said


def refusals() -> dict[str, tuple[Callable[[Path], object], str]]:
    """A change of the evaluation's file, and a word of the sentence that refuses it."""
    return {
        "gone": (lambda path: path.unlink(), "cannot be read"),
        "text": (lambda path: path.write_text("no"), "not an evaluation"),
        "list": (lambda path: path.write_text("[]"), "[]"),
        "bytes": (lambda path: path.write_bytes(b"\xff"), "not an evaluation"),
        "other class": (lambda path: path.write_text('{"classes": {"nut": {}}}'), "'nut'"),
    }


@pytest.mark.parametrize("name", refusals())
def test_a_file_that_is_no_evaluation_is_refused(tmp_path: Path, name: str) -> None:
    change, word = refusals()[name]
    path = written(tmp_path)
    change(path)
    with pytest.raises(PadimEdgeError, match=re.escape(word)):
        read_numbers(path, read_metadata(golden.WHOLE))


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 7.0},
        {"image_auroc": 1.5},
        {"image_auroc": "1"},
        {"image_auroc": float("nan")},
        {"good": -1},
        {"good": True},
        {"kinds": []},
        {"kinds": {"a": {"images": 1}}},
        {"miss_interval": [0.1]},
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(PadimEdgeError, match="padim-edge evaluate"):
        read_numbers(written(tmp_path, **changed), read_metadata(golden.WHOLE))


def test_the_command_writes_where_it_is_told(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(golden.WHOLE)])
    assert done.exit_code == 0, done.output
    assert done.stdout == card()
    assert str(golden.WHOLE.parent) not in done.stdout, "no path stands in a card"
    readme = tmp_path / "README.md"
    done = CliRunner().invoke(app, [str(golden.WHOLE), "--evaluation", str(written(tmp_path)), "--output", str(readme)])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert readme.read_text() == card(evaluation=tmp_path / "evaluation.json")
    model = golden.copy(golden.WHOLE, tmp_path)
    before = model.read_bytes()
    done = CliRunner().invoke(app, [str(model), "--output", str(model)])
    assert isinstance(done.exception, PadimEdgeError)
    assert model.read_bytes() == before


def test_the_commands_of_a_card_quote_names() -> None:
    said = cards.card(read_metadata(golden.WHOLE), cards.Called(file="a b`$x`.padim", product="it's"))
    assert "padim-edge infer 'a b`$x`.padim' images/ --product 'it'\"'\"'s'" in said
    assert 'Detector.load("a b`$x`.padim", product="it\'s")' in said
