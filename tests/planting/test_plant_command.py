"""`padim-edge plant` writes a data set that other commands read, whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image

from padim_edge import datasets, sample
from padim_edge.planting import folder as planting_folder
from padim_edge.planting import measure


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for index in range(9):
        Image.fromarray(sample.draw_good("bottle", index, size=80)).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def planted(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("there") / "planted"
    stdout, stderr = run("plant", good, folder, "--count", 16)
    words, _, rest = stdout.partition(" kinds in ")
    assert words.startswith(f"{folder}: 16 planted defects of 1")  # 10 to 14 of 14 kinds: one may find no room
    assert rest == "3 good images, and 6 good images to fit on\n"
    assert stderr == ""
    return folder


def test_the_data_set_is_one_that_evaluate_reads(planted: Path, good: Path) -> None:
    dataset = datasets.from_source(planted)
    assert len(dataset.good) == 6
    assert not dataset.notes
    kinds = [item.kind for item in dataset.test]
    assert kinds.count("good") == 3
    assert len(kinds) == 19
    for item in dataset.test:
        assert (item.mask is None) == (item.kind == "good")
        assert item.read().size == (80, 80)
        if item.mask is not None:
            assert item.mask().any()
    fit = [path.read_bytes() for path in sorted((planted / "train" / "good").iterdir())]
    assert fit == [(good / f"{index:03d}.png").read_bytes() for index in (0, 1, 3, 4, 6, 7)]
    for number, index in enumerate((2, 5, 8)):
        before, after = (
            np.asarray(Image.open(path))
            for path in (good / f"{index:03d}.png", planted / "test" / "good" / f"{number:03d}.png")
        )
        assert np.array_equal(before, after)


def test_the_table_says_what_a_measurement_of_the_files_says(planted: Path, good: Path) -> None:
    with (planted / "plants.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    for row in rows:
        image, mask = np.asarray(Image.open(planted / row["image"])), np.asarray(Image.open(planted / row["mask"])) > 0
        source = np.asarray(Image.open(good / row["source"]))
        found = measure(image, mask)
        for name in ("extent", "contrast", "levels"):
            assert float(row[name]) == pytest.approx(getattr(found, name), abs=1e-3)
        assert row["image"].split("/")[1] == row["kind"]
        assert int(row["area"]) == found.area == mask.sum()
        rows_of, columns_of = np.nonzero(mask)
        assert float(row["row"]) == pytest.approx((rows_of.mean() + 0.5) / 80, abs=1e-3)
        assert float(row["column"]) == pytest.approx((columns_of.mean() + 0.5) / 80, abs=1e-3)
        assert np.abs(image.astype(int) - source)[~mask].max() < 60


def test_the_same_seed_gives_the_same_bytes(planted: Path, good: Path, tmp_path: Path) -> None:
    run("plant", good, tmp_path / "again", "--count", 16)
    assert tree(tmp_path / "again") == tree(planted)
    run("plant", good, tmp_path / "other", "--count", 16, "--seed", 1)
    assert tree(tmp_path / "other") != tree(planted)


def test_kinds_extents_and_json(good: Path, tmp_path: Path) -> None:
    arguments = ("--count", 4, "--kinds", "Hole, stain,hole", "--extent", "0.1:0.12", "--json")
    stdout, _ = run("plant", good, tmp_path / "few", *arguments)
    content = json.loads(stdout)
    assert content["folder"] == str(tmp_path / "few")
    assert (content["fit"], content["good"], content["unreadable"]) == (6, 3, [])
    assert {row["kind"] for row in content["plants"]} == {"hole", "stain"}
    assert all(4 <= row["extent"] <= 16 for row in content["plants"])
    assert len(content["plants"]) == 4


def test_an_empty_folder_is_filled_and_a_full_one_is_left_alone(good: Path, tmp_path: Path) -> None:
    before = tree(good)
    (tmp_path / "empty").mkdir()
    run("plant", good, tmp_path / "empty", "--count", 1)
    _, stderr = run("plant", good, good, code=1)
    assert "is not empty, expected a new one" in stderr
    assert tree(good) == before
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "is a file, expected a folder" in run("plant", good, tmp_path / "file", code=1)[1]


def test_nothing_is_left_where_planting_fails(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planting_folder, "_plant", full)
    _, stderr = run("plant", good, tmp_path / "new", "--count", 2, code=1)
    assert "could not be written (No space left on device)" in stderr
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read_is_named(good: Path, tmp_path: Path) -> None:
    for path in good.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "002.png").write_bytes(b"no image")
    stdout, stderr = run("plant", tmp_path, tmp_path / "out" / "planted", "--count", 2, code=1)
    assert "2 planted defects" in stdout
    assert "left out" in stderr
    assert "002.png" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--extent", "large"), "--extent 'large' is no pair of shares"),
        (("--extent", "0.1"), "--extent '0.1' is no pair of shares"),
        (("--extent", "0.1:0.9"), "the extents are 0.1 to 0.9"),
        (("--kinds", "rust"), "there is no kind of defect 'rust'"),
    ],
)
def test_wrong_options_end_in_a_sentence(good: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in run("plant", good, tmp_path / "new", *arguments, code=1)[1]
    assert list(tmp_path.iterdir()) == []


def test_one_image_is_too_few(good: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes((good / "000.png").read_bytes())
    assert "has 1 good images, expected 2 or more" in run("plant", tmp_path / "one", tmp_path / "new", code=1)[1]
