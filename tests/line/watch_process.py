"""The command `watch` as a process that is killed at random moments."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.record import Reader

__all__ = ["Watch", "until_killed"]


class Watch:
    """A process that watches a folder.

    Args:
        images: The folder.
        model: The model.
        folder: The line's folder.
        options: Further options of `padim-edge watch`.
    """

    def __init__(self, images: Path, model: Path, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "padim_edge_runtime", "watch", str(images), "--model", str(model)]
        command += ["--folder", str(folder), "--no-page", *options]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in the end
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._said.close()

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> bytes:
        """Ask it to end, and return what it said on stderr."""
        self.process.terminate()
        self.process.wait(timeout=30)
        return self.said()

    def said(self) -> bytes:
        """Return what it has said on stderr so far."""
        self._said.seek(0)
        return self._said.read()

    def rows(self) -> int:
        """Number of rows on record."""
        return last(self.folder)

    def until(self, rows: int, seconds: float = 600.0) -> None:
        """Wait for a number of rows."""
        end = time.monotonic() + seconds
        while self.rows() < rows:
            if self.process.poll() is not None:
                raise AssertionError(self.said().decode())
            assert time.monotonic() < end, f"{self.rows()} rows of {rows} within {seconds:g} s"
            time.sleep(0.02)


def last(folder: Path) -> int:
    """Number of the last row in a line's folder."""
    try:
        reader = Reader(folder)
    except PadimEdgeError:  # it has not been made yet
        return 0
    try:
        return reader.last()
    finally:
        reader.close()


def until_killed(watch: Watch, rows: int, pick: random.Random) -> None:
    """Kill a process a moment after it has made at least so many rows; the moment is random."""
    watch.until(rows)
    time.sleep(pick.uniform(0, 0.05))
    watch.kill()
