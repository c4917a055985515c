"""Writing files: what stands under the final name is whole, and a failure leaves nothing else behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_success_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == tmp_path  # a rename is atomic only within one file system
    assert path.read_text() == "second"
    assert names(tmp_path) == ["result.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError, OSError, BrokenPipeError])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises((error, PadimEdgeError)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.csv"]


def test_a_failure_of_the_reader_of_our_output_is_not_taken_for_one_of_the_file(tmp_path: Path) -> None:
    """`padim-edge infer --csv FILE | head` ends because head does."""
    with pytest.raises(BrokenPipeError), replacing(tmp_path / "result.csv"):
        raise BrokenPipeError


def test_nothing_written_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="could not be written"), replacing(tmp_path / "result.csv"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["missing/result.csv", "file/result.csv", "file/deeper/result.csv", "n" * 300])
def test_a_place_that_cannot_be_written_to_is_named_in_a_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PadimEdgeError) as caught, replacing(tmp_path / where) as temporary:
        temporary.write_text("half")
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_a_folder_under_the_final_name_stays(tmp_path: Path) -> None:
    (tmp_path / "result.csv").mkdir()
    with pytest.raises(PadimEdgeError), replacing(tmp_path / "result.csv") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["result.csv"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(PadimEdgeError, match="name of a file"), replacing(Path(path)):
        pass


FULL_DISK = """
import resource
import sys
from pathlib import Path
sys.path += sys.argv[2:]
from drawn_statistics import SOME
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.kept import write_kept

resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    write_kept(Path(sys.argv[1]), SOME)
except PadimEdgeError as error:
    print(error)
"""


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: writing fails in the middle, too."""
    pytest.importorskip("resource", reason="this system has no limit on the size of files")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s.npz"), str(here), str(here.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "s.npz could not be written (File too large)" in done.stdout
    assert names(tmp_path) == []
