"""Run the example for archives as a process, read what it wrote, and kill its workers; for tests and the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["EXAMPLE", "PATIENCE", "ended", "kill", "processes", "rows_of", "started", "wait_for_parts"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "archive" / "ray_archive.py"
PATIENCE = 300.0
"""Seconds; a machine that is busy takes a minute to start Ray."""
MARK = "ARCHIVE_TEST"
"""Name of the variable in the environment by which the processes of a run are told from all others."""

READ = """
import json, sys, pyarrow.dataset
rows = pyarrow.dataset.dataset(sys.argv[1], format="parquet", partitioning="hive").to_table().to_pylist()
json.dump(rows, sys.stdout)
"""


def started(python: Path, *arguments: object, mark: str = "", by: Sequence[object] = ()) -> subprocess.Popen[str]:
    """Start a run; `by` is a command that starts commands."""
    command = [*map(str, by), str(python), str(EXAMPLE), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, MARK: mark},
        start_new_session=True,
    )


def _stopped(process: subprocess.Popen[str]) -> str:
    """Kill a run with whatever started it, and return what it said."""
    os.killpg(process.pid, signal.SIGKILL)  # or it would take the cores from every test after this one
    return process.communicate()[1]


def ended(process: subprocess.Popen[str], timeout: float | None = 2 * PATIENCE) -> str:
    """Wait for a run to end well, and return the last line that it said."""
    try:
        _, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it did not end: {_stopped(process)}") from None
    assert process.returncode == 0, said
    assert "Traceback" not in said, said
    return said.splitlines()[-1]


def rows_of(python: Path, output: Path) -> list[dict[str, Any]]:
    """Read every row that stands in a folder of results."""
    done = subprocess.run([python, "-I", "-c", READ, output], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def processes(mark: str, name: str = "") -> list[int]:
    """Find the processes of a run whose command line begins with a name."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            ours = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
            named = (entry / "cmdline").read_bytes().startswith(name.encode())
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if ours and named:
            found.append(int(entry.name))
    return found


def wait_for_parts(output: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has written as many parts."""
    deadline = time.monotonic() + PATIENCE
    while len(list(output.rglob("part-*.parquet"))) < count:
        assert process.poll() is None, process.communicate()[1]
        if time.monotonic() > deadline:
            raise AssertionError(f"Ray takes too long to start: {_stopped(process)}")
        time.sleep(0.01)


def kill(mark: str) -> None:
    """Kill one worker of a run, as a lack of memory would."""
    workers = processes(mark, "ray::MapWorker")
    assert workers, "no worker was found"
    os.kill(workers[0], signal.SIGKILL)
