"""One bad image of every kind among good ones: the good ones are handled, and one sentence tells of the bad one."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import commands
import drawn_images
import pytest
from attack.bad_images import BAD, ODD, SIDE

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files
from padim_edge_runtime.image_search import find

COUNT = 10
"""Number of good images."""

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="pipes and sockets of Unix"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
]


def good(folder: Path, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number in range(first, first + COUNT):
        drawn_images.good(number, (SIDE, SIDE)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_in_a_sentence_and_not_waited_for(tmp_path: Path, name: str) -> None:
    BAD[name](tmp_path / name)
    with pytest.raises(ImageError) as refused:
        image_files.read(tmp_path / name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ODD)
def test_an_unusual_image_is_read(tmp_path: Path, name: str) -> None:
    ODD[name](tmp_path / name)
    try:
        decoded = image_files.read(tmp_path / name)
    except ImageError as error:
        assert name == "exif.jpg", error  # noqa: PT017  # damaged EXIF data may also be refused
    else:
        assert decoded.image.mode == "RGB"


def test_all_kinds_at_once_in_a_folder(golden: Path, tmp_path: Path) -> None:
    """`infer` judges every good image, and has a row for each bad one. A folder is searched, whatever its name is."""
    folder = good(tmp_path / "images")
    for name, make in BAD.items():
        make(folder / name)
    bad = set(BAD) - {"folder.png"}
    table = tmp_path / "t.csv"
    stdout, stderr = commands.run("infer", golden, folder, "--device", "cpu", "--csv", table, code=1)
    rows = {Path(row["path"]).name: row for row in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))}
    assert len(stdout.splitlines()) == COUNT
    assert set(rows) == bad | {f"{number}.png" for number in range(COUNT)}
    assert {name for name, row in rows.items() if row["verdict"] == "unreadable"} == bad
    for name in bad:
        assert sum(f"{name} " in line for line in stderr.splitlines()) == 1, name


def test_a_folder_of_pipes_is_searched_in_no_time(tmp_path: Path) -> None:
    folder = good(tmp_path / "images")
    for number in range(50):
        os.mkfifo(folder / f"pipe{number}")
        os.mkfifo(folder / f"pipe{number}.txt")
    found = find([folder])
    assert len(found.files) == COUNT
    assert len(found.problems) == 100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 64 pixels with its statistics beside it."""
    folder = tmp_path_factory.mktemp("model")
    data = ("--data", good(folder / "first"), "--output", folder / "m.onnx", "--keep-statistics", folder / "m.npz")
    commands.run("export", *data, *SMALL)
    return folder / "m.onnx"


SMALL = ("--backbone", "builtin", "--size", "64", "--fast")
AMBIGUOUS = "narrow.png"
"""An image that is not damaged, but whose range of values is unknown: a fit asks for it before it begins."""
COMMANDS = ("infer", "export", "fit", "update", "recalibrate", "evaluate")
"""Commands that handle the other images, and end with exit code 1."""
HANDLED = {
    "infer": " 10 good, ",
    "export": "10 good images",
    "fit": "10 ",
    "update": "20 good images, 10 before; 10 taken",
    "recalibrate": "; 10 images",
    "evaluate": '"good": 10',
}
"""Words by which each command says that the ten good images were handled."""


def arguments_of(command: str, folder: Path, model: Path, made: Path) -> tuple[object, ...]:
    return {
        "infer": (model, folder / "train" / "good", "--device", "cpu"),
        "export": ("--data", folder, "--output", made, *SMALL),
        "fit": ("--data", folder, "--output", made.with_suffix(".npz"), *SMALL[:4]),
        "update": (model, folder / "train" / "good", "--output", made, "--take", "all"),
        "recalibrate": (model, folder / "train" / "good", "--output", made, "--take", "all"),
        "evaluate": (model, "--data", folder, "--json"),
    }[command]


def part(folder: Path) -> Path:
    """A data set of ten good images to learn from, ten to judge, and three defective ones."""
    good(folder / "train" / "good", 20)
    good(folder / "test" / "good", 40)
    (folder / "test" / "hole").mkdir()
    for number in range(3):
        drawn_images.defective(number, (SIDE, SIDE))[0].save(folder / "test" / "hole" / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_bad_images_of_every_kind_among_ten_good_ones(model: Path, tmp_path: Path, command: str) -> None:
    data = part(tmp_path / "part")
    bad = [name for name in BAD if name != "folder.png" and (name != AMBIGUOUS or command not in ("export", "fit"))]
    for name in bad:
        BAD[name](data / ("test" if command == "evaluate" else "train") / "good" / name)
    stdout, stderr = commands.run(command, *arguments_of(command, data, model, tmp_path / "made.onnx"), code=1)
    for name in bad:
        assert len([line for line in stderr.splitlines() if f"{name} " in line]) == 1, f"{name}: {stderr}"
    assert HANDLED[command] in stdout + stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "fit"])
def test_an_image_of_unknown_range_is_asked_for(model: Path, tmp_path: Path, command: str) -> None:
    data = part(tmp_path / "part")
    BAD[AMBIGUOUS](data / "train" / "good" / AMBIGUOUS)
    _, stderr = commands.run(command, *arguments_of(command, data, model, tmp_path / "made.onnx"), code=1)
    assert "--levels MIN:MAX" in stderr
    assert not list(tmp_path.glob("made*"))
