"""Parts of the sources: the order of names, the end of a file, what becomes of a judged one, what nobody reads."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import CameraConfig, FolderConfig
from padim_edge_line.sources import check, complete, source_of
from padim_edge_line.sources.disposal import disposed
from padim_edge_line.sources.hiding import hidden
from padim_edge_line.sources.naming import is_image, key_of, listed, natural
from padim_edge_runtime.image_search import capture_order

PART = st.text(st.sampled_from("aB10_9-.é"), min_size=1, max_size=6).filter(lambda text: text.strip("."))
NAME = st.lists(PART, min_size=1, max_size=3).map(lambda parts: f"{'/'.join(parts)}.png")


@given(st.lists(NAME, max_size=8))
def test_names_are_sorted_as_images_are_everywhere(names: list[str]) -> None:
    assert sorted(names, key=natural) == sorted(names, key=lambda name: capture_order(Path(name)))


@pytest.mark.parametrize("name", ["a.png", "sub/b.JPG", "x.y.tiff", "2024.01.02/c.webp"])
def test_images_are_taken(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize(
    "name", [".a.png", "sub/.b.png", ".trash/c.png", "a.png.part", "a.tmp.png", "~a.png", "a.txt", "png", "a.png/b"]
)
def test_hidden_and_unfinished_files_and_others_are_left_alone(name: str) -> None:
    assert not is_image(name)


def test_a_search_gives_the_first_unknown_names_and_says_that_there_are_more(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.png", "sub/0.png", "note.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "missing")
    found = listed(tmp_path, lambda _: set(), 10, deep=True)
    assert (found.names, found.more) == (("1.png", "2.png", "10.png", "sub/0.png"), False)
    known = {key_of("1.png", (tmp_path / "1.png").stat())}
    found = listed(tmp_path, lambda keys: known & set(keys), 1, deep=False)
    assert (found.names, found.more) == (("2.png",), True)


ENDS = ["png", "jpg", "webp", "bmp"]


@pytest.mark.parametrize("ending", ENDS)
def test_the_end_of_a_file_is_known(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.effect_noise((40, 40), 50).save(path)
    content = path.read_bytes()
    assert complete.ended(path, len(content)) is True
    path.write_bytes(content[: len(content) // 2])
    assert complete.ended(path, len(content) // 2) is False
    path.write_bytes(b"")
    assert complete.ended(path, 0) is False


def test_formats_without_an_end_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.new("L", (40, 40)).save(path)
    assert complete.ended(path, path.stat().st_size) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_linux_tells_whether_a_file_is_being_written(tmp_path: Path) -> None:
    if not complete.grants_leases(tmp_path):
        pytest.skip("this file system grants no leases")
    path = tmp_path / "image.png"
    with path.open("wb") as file:
        file.write(b"1")
        file.flush()
        assert complete.written_by_others(path) == complete.OPEN
    with path.open("rb"):
        assert complete.written_by_others(path) == complete.CLOSED
    assert complete.written_by_others(path) == complete.CLOSED


@pytest.mark.parametrize("leases", [True, False])
def test_a_file_without_its_end_waits_until_nothing_changes(tmp_path: Path, leases: bool) -> None:
    path = tmp_path / "image.jpg"
    Image.effect_noise((40, 40), 50).save(path)
    path.write_bytes(path.read_bytes()[:-10])
    status = path.stat()
    leases = leases and complete.grants_leases(tmp_path)
    assert complete.verdict(path, status, 0.5, 1.0, leases=leases) is not None
    assert complete.verdict(path, status, 1.0, 1.0, leases=leases) is None


def test_a_file_with_its_end_waits_less(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.effect_noise((40, 40), 50).save(path)
    assert complete.verdict(path, path.stat(), 0.1, 1.0, leases=False) is not None
    assert complete.verdict(path, path.stat(), 0.3, 1.0, leases=False) is None
    if complete.grants_leases(tmp_path):
        assert complete.verdict(path, path.stat(), 0.0, 1.0, leases=True) is None


def moving(tmp_path: Path) -> FolderConfig:
    return FolderConfig(name="f", path=tmp_path / "in", judged="move", move_to=tmp_path / "out")


def filled(tmp_path: Path, name: str, content: bytes) -> os.stat_result:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path.stat()


@pytest.mark.parametrize("links", [True, False])
def test_a_move_keeps_sub_folders_and_overwrites_nothing(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # as between two file systems

        def refused(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refused)
    config = moving(tmp_path)
    for content in (b"1", b"2", b"3"):
        disposed(config, "a/b.png", filled(tmp_path, "a/b.png", content))
    found = {path.name: path.read_bytes() for path in (tmp_path / "out" / "a").iterdir()}
    assert found == {"b.png": b"1", "b-1.png": b"2", "b-2.png": b"3"}
    assert not list((tmp_path / "in" / "a").iterdir())


def test_a_move_that_was_cut_off_leaves_one_copy(tmp_path: Path) -> None:
    config = moving(tmp_path)
    status = filled(tmp_path, "a.png", b"1")
    (tmp_path / "out").mkdir()
    os.link(tmp_path / "in" / "a.png", tmp_path / "out" / "a.png")
    disposed(config, "a.png", status)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["a.png"]
    assert (tmp_path / "out" / "a.png").exists()


def test_a_file_that_has_changed_meanwhile_stays(tmp_path: Path) -> None:
    status = filled(tmp_path, "a.png", b"1")
    filled(tmp_path, "a.png", b"12")
    for config in (moving(tmp_path), FolderConfig(name="f", path=tmp_path / "in", judged="delete")):
        disposed(config, "a.png", status)
        assert (tmp_path / "in" / "a.png").read_bytes() == b"12"


URL = "rtsp://bob:s3cr%2Ft@camera.plant/stream?key=abc"


@pytest.mark.parametrize(
    "text",
    [
        f"[Errno 5] Input/output error: '{URL}'",
        "401 for bob:s3cr/t",
        "wrong password s3cr%2Ft",
        "cannot load /opt/sdk/lib.so",
        r"cannot load C:\sdk\camera.dll",
        "refused pin hunter2",
        "see rtsp://bob:s3cr%2Ft@other/",
    ],
)
def test_sentences_about_cameras_hold_no_secret_and_no_path(text: str) -> None:
    found = hidden(text, URL, {"password": "hunter2", "exposure": "10"})
    for secret in ("s3cr", "hunter2", "abc", "/opt", "sdk", "bob", "camera.plant"):
        assert secret not in found, found


def test_a_source_is_made_of_its_configuration(tmp_path: Path) -> None:
    assert source_of(FolderConfig(name="f", path=tmp_path)).name == "f"
    assert source_of(CameraConfig(name="c", url="/dev/video9")).name == "c"


@pytest.mark.parametrize("target", [None, "in", "in/sub"])
def test_judged_files_are_not_moved_into_the_watched_folder(tmp_path: Path, target: str | None) -> None:
    move_to = None if target is None else tmp_path / target
    with pytest.raises(PadimEdgeError, match="move"):
        source_of(FolderConfig(name="f", path=tmp_path / "in", judged="move", move_to=move_to))


def test_a_check_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    assert asyncio.run(check(FolderConfig(name="f", path=tmp_path))) == "1 image in the folder"
    with pytest.raises(PadimEdgeError, match="No such file"):
        asyncio.run(check(FolderConfig(name="f", path=tmp_path / "missing")))
    start = time.monotonic()
    with pytest.raises(PadimEdgeError, match="no frames"):
        asyncio.run(check(CameraConfig(name="c", camera="no-such-camera")))
    assert time.monotonic() - start < 60
