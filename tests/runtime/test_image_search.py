"""Which files are judged and under which name; links, circles, closed folders and other files, none in silence."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import drawn_images
import numpy as np
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from rights import closed, enterable
from typer.testing import CliRunner

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files, image_search
from padim_edge_runtime.cli import app
from padim_edge_runtime.image_formats import FORMATS, SUFFIXES

BINARY = b"\x89\x00\xff\x10" * 20


def names(*paths: Path) -> list[str]:
    return [name.as_posix() for _, name in image_search.find(paths).files]


def tree(folder: Path, *paths: str, content: bytes = b"") -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_a_folder_gives_its_images_in_order_with_their_folders(tmp_path: Path) -> None:
    tree(tmp_path, "b/2.JPG", "b/1.png", "a.tiff", "notes.txt", "model.onnx", "c/d/e.webp", "c/list.csv")
    assert names(tmp_path) == ["a.tiff", "b/1.png", "b/2.JPG", "c/d/e.webp"]


def test_numbers_in_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    wanted = ["img2.png", "img10.png", "img10b.png", "day 2/1.png", "day 10/1.png", "day 10/02.png"]
    assert names(tree(tmp_path, *reversed(wanted))) == wanted


@given(st.lists(st.text("a1.0 _/", min_size=1, max_size=9), unique=True))
def test_any_paths_can_be_put_in_one_order(texts: list[str]) -> None:
    paths = {Path(text) for text in texts}
    assert sorted(paths, key=image_search.capture_order) == sorted(
        sorted(paths, reverse=True), key=image_search.capture_order
    )


@given(st.sets(st.integers(0, 9999), min_size=2))
def test_names_of_equal_length_are_sorted_as_text(numbers: set[int]) -> None:
    paths = [Path(f"{number:04}.png") for number in numbers]
    assert sorted(paths, key=image_search.capture_order) == sorted(paths)


def test_every_ending_is_found_in_any_case(tmp_path: Path) -> None:
    wanted = [f"{i}{case}" for i, s in enumerate(sorted(SUFFIXES)) for case in (s, s.upper())]
    assert sorted(names(tree(tmp_path, *wanted))) == sorted(wanted)


@pytest.mark.parametrize("ending", sorted(SUFFIXES))
def test_every_ending_that_is_found_is_decoded(tmp_path: Path, ending: str) -> None:
    """The list of endings and the decoder's promise are one. A format that Pillow lacks is refused, not ignored."""
    form = next(name for name, endings in FORMATS.items() if ending in endings)
    pixels = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8) * 4
    image = Image.fromarray(pixels).convert("1" if ending == ".pbm" else "L" if ending == ".pgm" else "RGB")
    path = tmp_path / f"a{ending}"
    if form == "AVIF" and not features.check("avif"):
        path.write_bytes(b"\0\0\0\x1cftypavif" + bytes(40))
        with pytest.raises(ImageError):
            image_files.read(path)
        return
    image.save(path, form)
    ((found, _),) = image_search.find([tmp_path]).files
    assert image_files.read(found).image.size == (32, 24)


def test_a_format_that_is_not_promised_is_refused_whatever_its_name(tmp_path: Path) -> None:
    """Pillow would start another program for some of them."""
    image = Image.new("RGB", (32, 24))
    image.save(tmp_path / "a.png", "PCX")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\n")
    for name in ("a.png", "b.png"):
        with pytest.raises(ImageError, match="is not an image"):
            image_files.read(tmp_path / name)


def test_a_moving_image_is_refused_and_not_judged_by_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (32, 24), value) for value in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert names(tmp_path) == ["a.gif"]
    with pytest.raises(ImageError, match="has more than one frame"):
        image_files.read(tmp_path / "a.gif")


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """Unless the hidden folder itself is what was given."""
    tree(tmp_path, ".a.png", ".cache/b.png", "c/.d/e.png", "f.png", "Thumbs.db", content=BINARY)
    assert names(tmp_path) == ["f.png"]
    assert image_search.find([tmp_path]).sentences() == ()
    assert names(tmp_path / ".cache") == ["b.png"]


def test_a_folder_that_ends_like_an_image_is_no_image(tmp_path: Path) -> None:
    assert names(tree(tmp_path, "x.png/inner.png")) == ["x.png/inner.png"]


def test_several_folders_are_told_apart(tmp_path: Path) -> None:
    tree(tmp_path, "one/a.png", "two/a.png", "a.png")
    assert names(tmp_path / "one", tmp_path / "two", tmp_path / "a.png") == ["one/a.png", "two/a.png", "a.png"]


def test_files_are_kept_in_the_order_given_whatever_their_ending(tmp_path: Path) -> None:
    tree(tmp_path, "b.xyz", "a.png")
    assert names(tmp_path / "b.xyz", tmp_path / "a.png", tmp_path / "b.xyz") == ["b.xyz", "a.png", "b.xyz"]


def test_nothing_to_judge_is_refused_with_what_lies_there_instead(tmp_path: Path) -> None:
    tree(tmp_path, "notes.txt", "raw/1.raw", "raw/2.RAW", content=BINARY)
    with pytest.raises(ImageError, match=r"holds no images, only 3 files \(2 \.raw, 1 \.txt\); expected files ending"):
        image_search.find([tmp_path])
    with pytest.raises(ImageError, match="does not exist"):
        image_search.find([tmp_path / "missing"])


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    tree(tmp_path / "in", "a.png", "sub/b.png")
    tree(tmp_path / "out", "c.png", "deep/d.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "out", target_is_directory=True)
    (tmp_path / "out/deep/back").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/self").symlink_to(tmp_path / "in", target_is_directory=True)
    assert names(tmp_path / "in") == ["a.png", "link/c.png", "link/deep/d.png", "sub/b.png"]
    found = image_search.find([tmp_path / "in"])
    assert found.missed == ()
    assert [sentence for sentence in found.sentences() if "searched already" in sentence] == list(found.sentences())
    assert len(found.sentences()) == 1


def test_a_link_upwards_brings_nothing_from_beside_the_folder(tmp_path: Path) -> None:
    """Otherwise a link in the folder of good images would lead to the defective ones."""
    tree(tmp_path, "train/good/a.png", "test/crack/b.png")
    for number, target in enumerate((tmp_path, tmp_path / "train", tmp_path.parent, Path("/"))):
        (tmp_path / f"train/good/{number}").symlink_to(target, target_is_directory=True)
    assert names(tmp_path / "train/good") == ["a.png"]
    assert "4 links lead back to folders" in image_search.find([tmp_path / "train/good"]).sentences()[0]


def test_an_image_is_found_once_under_its_own_path(tmp_path: Path) -> None:
    """Also where a link to its folder comes first by name, and where many links lead there."""
    tree(tmp_path, "z/a.png")
    for name in ("a", "b", "z/c"):
        (tmp_path / name).symlink_to(tmp_path / "z", target_is_directory=True)
    assert names(tmp_path) == ["z/a.png"]
    assert "3 links lead back to folders" in image_search.find([tmp_path]).sentences()[0]


def test_links_to_nowhere_are_errors(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = image_search.find([tmp_path])
    assert [name.name for _, name in found.files] == ["a.png", "gone.png"]
    with pytest.raises(ImageError):
        image_files.read(tmp_path / "gone.png")
    assert {problem.path.name for problem in found.problems} == {"gone", "loop"}


def test_a_pipe_is_an_error_and_is_not_waited_for(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    found = image_search.find([tmp_path])
    assert [path.name for path, _ in found.files] == ["a.png", "pipe.png"]
    assert "is neither a file nor a folder" in found.problems[0].error
    with pytest.raises(ImageError, match="is a pipe, a device or a socket"):
        image_files.read(tmp_path / "pipe.png")


def test_a_closed_folder_is_an_error(tmp_path: Path) -> None:
    tree(enterable(tmp_path), "a.png", "shut/b.png")
    with closed(tmp_path / "shut"):
        found = image_search.find([tmp_path])
        with pytest.raises(ImageError, match=r"shut cannot be opened \(Permission denied\)"):
            image_search.good_files([tmp_path], print)
        with pytest.raises(ImageError, match=r"shut cannot be opened \(Permission denied\)"):
            image_search.find([tmp_path / "shut"])
    assert [path.name for path, _ in found.files] == ["a.png"]
    assert [problem.path for problem in found.missed] == [tmp_path / "shut"]


def test_other_files_are_counted_and_those_that_may_be_images_are_told_apart(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "x.raw", "y.RAW", "s/z.heic", "clip.mp4", "frame7", content=BINARY)
    tree(tmp_path, "a.txt", "README", "a.xml", "labels.abc", content="größe".encode())
    tree(tmp_path, "ascii.data2", content=b"P2\n2 2\n255\n0 0 0 0\n")
    found = image_search.find([tmp_path])
    over = {problem.path.name for problem in found.missed}
    assert over == {"x.raw", "y.RAW", "z.heic", "clip.mp4", "frame7", "ascii.data2"}
    first, second = found.sentences()
    assert first.startswith("passed over: 6 files (2 .raw, ")
    assert "which may hold images" in first
    assert second.startswith("passed over: 4 files (")
    assert second.endswith("no images")


def test_good_files_are_told_and_taken(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "x.raw", content=BINARY)
    told: list[str] = []
    assert image_search.good_files([tmp_path], told.append) == [tmp_path / "a.png"]
    assert told[0].startswith("passed over: 1 file (.raw), which may hold images")


def test_infer_names_what_it_did_not_judge_and_fails(golden: Path, tmp_path: Path) -> None:
    """In words, in JSON, in the table and by the exit code."""
    folder = tree(tmp_path / "parts", "1.raw", "2.raw", content=BINARY)
    drawn_images.good(60).save(tree(folder, "notes.txt") / "a.png")
    (folder / "gone").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    arguments = ("infer", golden, folder, "--device", "cpu", "--csv", tmp_path / "t.csv")

    def infer(*more: object) -> tuple[str, str]:
        result = CliRunner().invoke(app, [str(each) for each in (*arguments, *more)])
        assert result.exit_code == 1, result.output
        return result.stdout, result.stderr

    stdout, stderr = infer("--json")
    found = [json.loads(line) for line in stdout.splitlines()]
    assert [Path(each["path"]).name for each in found] == ["a.png", "gone", "1.raw", "2.raw"]
    assert [each["verdict"] for each in found][1:] == ["unreadable"] * 3
    assert all(each["error"] for each in found[1:])
    assert "passed over: 2 files (.raw), which may hold images" in stderr
    assert "passed over: 1 file (.txt), no images" in stderr
    assert "3 unreadable" in stderr
    assert len(infer()[0].splitlines()) == 1, "stderr counts them, so that a thousand of them are one line"
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["error"] != "" for row in csv.DictReader(file)] == [False, True, True, True]


def test_texts_beside_images_are_no_failure(golden: Path, tmp_path: Path) -> None:
    drawn_images.good(60).save(tree(tmp_path, "a.xml", "README") / "a.png")
    _, stderr = run("infer", golden, tmp_path, "--device", "cpu")
    assert "passed over: 2 files" in stderr
