"""Three verdicts from an image to every output, and the exit codes that a script may ask for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import commands
import drawn_images
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """One image for each verdict, and one for its absence."""
    paths = {name: tmp_path / f"{name}.png" for name in ("good", "anomalous", "not comparable", "unreadable")}
    drawn_images.good(60).save(paths["good"])
    drawn_images.defective(62)[0].save(paths["anomalous"])
    Image.new("RGB", (96, 96)).save(paths["not comparable"])
    paths["unreadable"].write_bytes(b"")
    return paths


def test_text_json_and_table_say_the_same_word(golden: Path, images: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    stdout, stderr = commands.run("infer", golden, *images.values(), "--json", "--csv", table, code=1)
    found = {Path(each["path"]).stem: each["verdict"] for each in map(json.loads, stdout.splitlines())}
    assert found == {name: name for name in images}
    with table.open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == list(images)
    assert "1 anomalous above" in stderr
    assert "1 not comparable, 1 good, 1 unreadable" in stderr
    lines = commands.run("infer", golden, *list(images.values())[:3])[0].splitlines()
    assert [line.partition("  score")[0].strip().lower() for line in lines] == list(images)[:3]


def test_an_image_that_is_not_comparable_is_never_good(golden: Path, images: dict[str, Path]) -> None:
    """Whatever the threshold is."""
    for threshold in (0, 1e9):
        stdout, stderr = commands.run("infer", golden, images["not comparable"], "--threshold", threshold)
        assert stdout.startswith("NOT COMPARABLE  score ")
        assert "1 not comparable, 0 good" in stderr
        assert "check the light" in stderr


@pytest.mark.parametrize(
    ("names", "fail_on", "code"),
    [
        (["good", "anomalous", "not comparable"], [], 0),
        (["good"], ["anomalous,not-comparable"], 0),
        (["good", "anomalous"], ["anomalous,not-comparable"], 3),
        (["good", "not comparable"], ["anomalous", "not-comparable"], 4),
        (["anomalous", "not comparable"], ["anomalous,not-comparable"], 4),
        (["anomalous", "not comparable"], ["anomalous"], 3),
        (["good", "anomalous"], ["not-comparable"], 0),
        (["anomalous", "not comparable", "unreadable"], ["anomalous,not-comparable"], 1),
    ],
)
def test_the_exit_code_tells_what_it_was_asked_to_tell(
    golden: Path, images: dict[str, Path], names: list[str], fail_on: list[str], code: int
) -> None:
    options = [word for each in fail_on for word in ("--fail-on", each)]
    commands.run("infer", golden, *(images[name] for name in names), *options, code=code)


def test_an_unknown_verdict_is_refused_before_any_work(golden: Path, images: dict[str, Path]) -> None:
    stdout, stderr = commands.run("infer", golden, images["good"], "--fail-on", "bad", code=1)
    assert stdout == ""
    assert "--fail-on has 'bad', expected anomalous, not-comparable, or both with a comma" in stderr
