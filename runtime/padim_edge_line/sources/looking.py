"""A look at files of a watched folder, in a thread: complete, on record, growing or gone."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from padim_edge_line.arrival import now
from padim_edge_line.config import FolderConfig
from padim_edge_line.sources import complete
from padim_edge_line.sources.disposal import disposed
from padim_edge_line.sources.naming import Listed, key_of, listed

__all__ = ["Complete", "Growing", "Looker", "Looks"]

Known = Callable[[list[bytes]], "set[bytes]"]
"""Function that tells which of some keys are on record."""


@dataclass(frozen=True)
class Complete:
    """A file that is complete and not on record."""

    name: str
    """Name relative to the folder."""
    key: bytes
    """Identity of the content."""
    status: os.stat_result
    """Status of the file."""
    time: int = field(default_factory=now)
    """Time at which it was found, in microseconds since 1970."""


@dataclass(frozen=True)
class Growing:
    """A file that is not complete yet, or that could not be read at the moment."""

    signature: tuple[int, int, int]
    """Time of the last change, size and inode."""
    first: float
    """Time of the first look, from `time.monotonic`."""
    since: float
    """Time of the first look with this signature."""
    due: float
    """Time of the next look."""


@dataclass
class Looks:
    """Result of a look at several files. Those that are on record or gone are in none of the lists."""

    complete: list[Complete] = field(default_factory=list)
    """Files to judge, in the order of the names."""
    growing: dict[str, Growing] = field(default_factory=dict)
    """Files to look at again."""
    folders: bool = False
    """Whether a folder was among the names."""
    disposed: int = 0
    """Number of files on record that were moved or deleted."""
    problem: str = ""
    """Reason why a judged file could be neither moved nor deleted, or blank."""


class Looker:
    """The folder as the file system shows it. All calls come from one thread at a time.

    Args:
        config: The source.
        known: Tells which keys are on record.
    """

    def __init__(self, config: FolderConfig, known: Known) -> None:
        self._config = config
        self._known = known
        self._place: tuple[int, int] | None = None
        self._leases = False

    def moved(self) -> bool:
        """Tell whether the folder is another one than at the last call, for example since a drive was mounted.

        Raises:
            OSError: The folder is not there.
        """
        status = self._config.path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "it is a file")
        place = (status.st_dev, status.st_ino)
        before, self._place = self._place, place
        if place == before:
            return False
        self._leases = complete.grants_leases(self._config.path)
        return before is not None

    def search(self, most: int, *, tidy: bool) -> Listed:
        """List images that are not on record; with `tidy` those on record, too.

        Raises:
            OSError: The folder cannot be searched.
        """
        known = (lambda _: set()) if tidy else self._known
        return listed(self._config.path, known, most, deep=self._config.subfolders)

    def look(self, names: Sequence[tuple[str, Growing | None]]) -> Looks:
        """Look at files, and move or delete those that are on record.

        Args:
            names: Name of each file, relative to the folder, and the result of the last look.
        """
        looks = Looks()
        for name, before in names:
            path = self._config.path / name
            try:
                status = path.stat()
            except OSError:  # gone; if only for a moment, an event or the next search tells
                continue
            if stat.S_ISDIR(status.st_mode):
                looks.folders = True
            elif stat.S_ISREG(status.st_mode):
                growing = self._growing(path, status, before)
                if growing is not None:
                    looks.growing[name] = growing
                else:
                    looks.complete.append(Complete(name, key_of(name, status), status))
        known = self._known([each.key for each in looks.complete])
        for each in [each for each in looks.complete if each.key in known]:
            looks.complete.remove(each)
            if self._config.judged != "keep":
                problem = self.dispose(each)
                looks.problem, looks.disposed = problem or looks.problem, looks.disposed + (not problem)
        return looks

    def dispose(self, judged: Complete) -> str:
        """Move or delete a judged file; return the reason why this cannot be done, or a blank text."""
        try:
            disposed(self._config, judged.name, judged.status)
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def _growing(self, path: Path, status: os.stat_result, before: Growing | None) -> Growing | None:
        """Tell whether a file has to wait; `None` where it is complete."""
        moment = time.monotonic()
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        first = before.first if before else moment
        since = before.since if before and before.signature == signature else moment
        leases = self._leases and self._place is not None and status.st_dev == self._place[0]
        unchanged = moment - since
        if leases:  # the clock of the file system is this machine's, so the last change tells more
            unchanged = max(unchanged, min(time.time() - status.st_ctime, self._config.settle_s + 1))
        try:
            wait = complete.verdict(path, status, unchanged, self._config.settle_s, leases=leases)
        except PermissionError:
            # Rights often follow a moment after the file. Then it is judged, and the verdict says what is wrong.
            wait = None if unchanged >= self._config.settle_s else complete.Wait(0.1)
        except OSError:
            wait = complete.Wait(0.25)
        return None if wait is None else Growing(signature, first, since, moment + wait.seconds)
