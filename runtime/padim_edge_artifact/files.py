"""Writing files whole: nothing half-written ever stands under the final name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.unfinished import LOCK, PAIR, TEMPORARY, Claim, abandoned, claimed, real

__all__ = [
    "flush",
    "flush_folder",
    "keep_mode",
    "make_folder",
    "refuse_inputs",
    "replacing",
    "require_folder",
    "reserved",
    "scratch",
    "settle",
    "staging",
    "written",
]


def require_folder(path: Path) -> None:
    """Refuse an output whose folder does not exist, before minutes of work.

    Raises:
        PadimEdgeError: The folder does not exist.
    """
    if not real(path).parent.is_dir():
        raise PadimEdgeError(f"the folder of {path} does not exist; make it or choose another one")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are inputs, before any of them is written.

    Raises:
        PadimEdgeError: One of them is.
    """
    read = {real(path) for path in inputs}
    for output in outputs:
        if real(output) in read:
            raise PadimEdgeError(f"the output {output} is an input, which would be lost; choose another name")


def make_folder(folder: Path) -> None:
    """Make a folder for maps, and those that it lies in, where they do not exist.

    Raises:
        PadimEdgeError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PadimEdgeError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another one for the maps"
        ) from error


@contextlib.contextmanager
def replacing(path: Path, ending: str = TEMPORARY) -> Iterator[Path]:
    """Yield an unfinished file beside `path`; give it that name when the block ends well, remove it otherwise.

    The file's content is on the disk before it gets its name. A file that stood there keeps its mode, and a link stays
    one: the file that it leads to is replaced.

    Args:
        path: The final name.
        ending: `unfinished.PAIR` for a file that belongs to another one, which may get its name first.

    Raises:
        PadimEdgeError: The path names no file, another process is writing it, the folder does not exist or cannot be
            written to, or the disk is full.
    """
    if not path.name:
        raise PadimEdgeError(f"{str(path)!r} cannot be written, expected the name of a file")
    with written(path), claimed(path, ending) as claim:
        yield claim.place
        _finish(claim)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Tell in a sentence why a file could not be written.

    Raises:
        PadimEdgeError: The block failed with an error of the system.
    """
    try:
        yield
    except BrokenPipeError:  # the block's own output has no reader any more; this file is not concerned
        raise
    except OSError as error:
        raise PadimEdgeError(
            f"{path} could not be written ({error.strerror or error}); choose a folder that exists, can be written to "
            "and has room"
        ) from error


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, for files that get their final names together; remove it at the end.

    Raises:
        PadimEdgeError: Another process is writing `path`.
        OSError: The folder cannot be made.
    """
    with claimed(path, folder=True) as claim:
        yield claim.place


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder for temporary files of any kind; remove it at the end.

    What a killed process has left of such folders is removed by the next one.

    Raises:
        PadimEdgeError: The folder cannot be made.
    """
    where = Path(tempfile.gettempdir())
    try:
        with claimed(where / secrets.token_hex(8), folder=True) as claim:
            claim.place.chmod(0o700)
            yield claim.place
    except OSError as error:
        raise PadimEdgeError(
            f"a temporary folder in {where} cannot be used ({error.strerror or error}); set TMPDIR to one that can be "
            "written to and has room"
        ) from error


@contextlib.contextmanager
def reserved(paths: Iterable[Path]) -> Iterator[None]:
    """Keep other processes from writing files for as long as the block takes, so that they are told at once.

    Raises:
        PadimEdgeError: Another process is writing one of them, or the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted({real(path) for path in paths}):
            try:
                stack.enter_context(claimed(path, LOCK))
            except OSError as error:
                raise PadimEdgeError(
                    f"{path} cannot be written ({error.strerror or error}); choose a folder that exists and can be "
                    "written to"
                ) from error
        yield


def settle(path: Path, belongs: Callable[[Path], bool]) -> None:
    """Finish what a killed process began: give an unfinished file its name if it belongs there, else remove it.

    Args:
        path: The final name of a file that was written with the ending `unfinished.PAIR`.
        belongs: Function that tells whether the unfinished file is whole and the partner of what stands there.
    """
    with abandoned(path, PAIR) as place:
        if place is None:
            return
        if belongs(place):
            place.replace(real(path))
            flush_folder(real(path).parent)
        else:
            place.unlink()


def flush(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot; the rename itself has been made
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def keep_mode(unfinished: Path, target: Path) -> None:
    """Give an unfinished file the mode of the file that it replaces, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        unfinished.chmod(stat.S_IMODE(target.stat().st_mode))


def _finish(claim: Claim) -> None:
    """Bring an unfinished file to the disk, and give it its final name."""
    if not claim.place.stat().st_size:
        raise OSError(errno.EIO, "nothing was written")
    keep_mode(claim.place, claim.target)
    flush(claim.place)
    claim.place.replace(claim.target)
    flush_folder(claim.target.parent)
