"""Unfinished files: locked while their process lives, removed when it died, never opened through a planted link."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from padim_edge_artifact import PadimEdgeError, unfinished
from padim_edge_artifact.files import replacing, reserved, scratch, settle, staging
from padim_edge_artifact.unfinished import PAIR, place_of

HOLD = """
import sys, time
from pathlib import Path
from padim_edge_artifact import files
with getattr(files, sys.argv[1])(eval(sys.argv[2])) as place:
    if place is not None and place.is_file():
        place.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process clears each folder once; every test begins as a new process does."""
    monkeypatch.setattr(unfinished, "_clean", set())


@pytest.fixture
def another(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing `result.csv`."""
    yield from holding("replacing", tmp_path / "result.csv")


def holding(how: str, what: object) -> Iterator[subprocess.Popen[str]]:
    path = f"Path({str(what)!r})" if isinstance(what, Path) else repr(what)
    process = subprocess.Popen([sys.executable, "-c", HOLD, how, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with replacing(path) as place:
        place.write_text(text)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path, another: subprocess.Popen[str]) -> None:
    path = tmp_path / "result.csv"
    with pytest.raises(PadimEdgeError, match="another process is writing"):
        write(path, "mine")
    write(tmp_path / "other.csv", "other")  # another name is free
    assert not path.exists()
    another.send_signal(signal.SIGKILL)
    another.wait()
    write(path, "mine")
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["other.csv", "result.csv"]


def test_what_a_killed_process_left_goes_with_the_next_file_in_the_folder(
    tmp_path: Path, another: subprocess.Popen[str]
) -> None:
    another.kill()
    another.wait()
    assert len(names(tmp_path)) == 1
    write(tmp_path / "unrelated.csv", "text")
    assert names(tmp_path) == ["unrelated.csv"]


def test_what_a_living_process_has_stays(tmp_path: Path, another: subprocess.Popen[str]) -> None:
    write(tmp_path / "unrelated.csv", "text")
    assert place_of(tmp_path / "result.csv").read_text() == "half"
    assert another.poll() is None


@pytest.mark.parametrize("how", ["staging", "reserved"])
def test_folders_and_reservations_are_locked_and_cleared_alike(tmp_path: Path, how: str) -> None:
    path = tmp_path / "model.onnx"
    again = {"staging": lambda: staging(path), "reserved": lambda: reserved([path])}[how]
    if how == "reserved":
        with again(), pytest.raises(PadimEdgeError, match="another process is writing"), again():
            pass
        with again():
            assert names(tmp_path) == [place_of(path, ".lock").name]
    else:
        for process in holding("staging", path):
            with pytest.raises(PadimEdgeError, match="another process is writing"), again():
                pass
            process.kill()
            process.wait()
        with again() as folder:
            (folder / "file").write_text("text")
    assert names(tmp_path) == []


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / "result.csv"
    target.write_text("old")
    (tmp_path / "result.csv").symlink_to(target)
    write(tmp_path / "result.csv", "new")
    assert (tmp_path / "result.csv").is_symlink()
    assert target.read_text() == "new"
    assert names(tmp_path / "store") == ["result.csv"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_the_mode_of_a_replaced_file_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")
    path.chmod(mode)
    write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_the_process(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "result.csv", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize("what", ["link", "pipe", "file", "folder"])
def test_what_was_planted_under_the_unfinished_name_is_neither_followed_nor_opened(tmp_path: Path, what: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "result.csv"
    victim.write_text("precious")
    place = place_of(path)
    if what == "link":
        place.symlink_to(victim)
    elif what == "pipe":
        os.mkfifo(place)
    elif what == "file":
        os.link(victim, place)  # a hard link shares the content
    else:
        place.mkdir()
        (place / "inside").symlink_to(victim)
    write(path, "mine")
    assert path.read_text() == "mine"
    assert victim.read_text() == "precious"
    assert names(tmp_path) == ["result.csv", "victim"]


def test_names_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".csv")
    write(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize("belongs", [True, False])
def test_what_a_kill_left_of_a_pair_is_finished_or_removed(tmp_path: Path, belongs: bool) -> None:
    path = tmp_path / "model.npz"
    path.write_text("old")
    place = place_of(path, PAIR)
    place.write_text("new")
    write(tmp_path / "unrelated.csv", "text")
    assert place.exists()  # nobody else clears it
    settle(path, lambda unfinished: belongs and unfinished.read_text() == "new")
    assert path.read_text() == ("new" if belongs else "old")
    assert not place.exists()
    settle(path, lambda _: True)  # nothing to do
    assert path.read_text() == ("new" if belongs else "old")


def test_the_unfinished_half_of_a_pair_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with replacing(path, PAIR) as place:
        place.write_text("new")
        settle(path, lambda _: True)
        assert not path.exists()
    assert path.read_text() == "new"


def test_temporary_folders_of_killed_processes_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / ".padim-edge-0123456789abcdef.tmp").mkdir()
    with scratch() as folder:
        (folder / "file").write_text("text")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []
