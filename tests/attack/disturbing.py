"""Kill or fail every system call that changes files, in every command that writes, and look at what is left.

`python tests/attack/disturbing.py` disturbs all of them and prints the counts; the slow test disturbs a sample.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from padim_edge.sample import draw_good
from padim_edge_artifact import ArtifactError, PadimEdgeError, read_verified
from padim_edge_artifact.kept import read_kept
from padim_edge_artifact.unfinished import PAIR, place_of

__all__ = ["COMMANDS", "Found", "Server", "base", "disturbed", "points"]

_FIT = ("--data", "good", "--backbone", "builtin", "--size", "64")
COMMANDS: dict[str, tuple[str, ...]] = {
    "export": ("export", *_FIT, "--fast", "--output", "m.onnx", "--keep-statistics", "m.npz"),
    "fit": ("fit", *_FIT, "--output", "f.npz"),
    "merge": ("merge", "f.npz", "g.npz", "--output", "fg.npz"),
    "update": ("update", "m.onnx", "more", "--output", "u.onnx", "--take", "all"),
    "recalibrate": ("recalibrate", "m.onnx", "more", "--take", "all"),
    "threshold": ("threshold", "m.onnx", "7.25"),
    "threshold copy": ("threshold", "m.onnx", "7.25", "--output", "t.onnx"),
    "infer": ("infer", "m.onnx", "more", "--csv", "t.csv", "--heatmaps", "h", "--maps", "a"),
    "plant": ("plant", "good", "p", "--count", "6"),
}
"""Commands that write, by name. Each runs in a folder that has the outputs of all already, except those of `plant`."""

_MUST_TELL = ("fsync", "rename", "write", "pwrite64", "ftruncate")
"""System calls whose failure must not pass for success."""
_WRITES = ("write", "pwrite64")
_ERRORS = {"fsync": "EIO", "rename": "EACCES", "write": "ENOSPC", "pwrite64": "ENOSPC", "mkdir": "ENOSPC"}
_DIGITS = re.compile(r"\.[0-9a-f]{8}\.data$")


@dataclass(frozen=True)
class Ran:
    """Outcome of one run."""

    status: int
    """Wait status."""
    output: str
    """stdout and stderr."""
    calls: dict[str, int]
    """Number of system calls by name."""
    failed: bool
    """Whether a call failed as asked. Two threads that write share the calls, not always in the same way."""
    printing: bool
    """Whether the call that failed was a write to stdout or stderr."""


class Server:
    """A process that runs commands in disturbed children."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("fork_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._out.readline() == "ready\n"

    @property
    def _out(self) -> object:
        return self._process.stdout

    def run(self, folder: Path, args: tuple[str, ...], inject: str | None = None) -> Ran:
        """Run a command in a folder."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cwd": str(folder), "args": args, "inject": inject}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._out.readline())
        assert found["status"] is not None, found["output"]
        return Ran(**found)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._out.close()


@dataclass
class Found:
    """Counts over disturbed runs, and what was wrong with them."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return "\n".join([f"{told}; {len(self.faults)} faults", *self.faults])


def base(server: Server, folder: Path) -> Path:
    """Make a folder with images, and with old outputs of every command."""
    for name, numbers in (("good", range(10)), ("others", range(10, 16)), ("more", range(16, 20))):
        (folder / name).mkdir(parents=True)
        for number in numbers:
            image = Image.fromarray(draw_good("bottle", number, size=64))
            image.save(folder / name / f"{number:02d}.png")
    others = tuple("others" if each == "good" else each for each in COMMANDS["export"])
    earlier = tuple("7.75" if each == "7.25" else each for each in COMMANDS["threshold"])
    first = tuple("g.npz" if each == "f.npz" else "others" if each == "good" else each for each in COMMANDS["fit"])
    rest = [each for name, each in COMMANDS.items() if name not in ("plant", "threshold")]
    for args in (first, COMMANDS["fit"], others, *rest, earlier):
        ran = server.run(folder, args)
        assert ran.status == 0, ran.output
    return folder


def points(calls: dict[str, int], most_writes: int) -> Iterator[tuple[str, int]]:
    """Yield (system call, number of its repetition) for all calls, and for an even selection of the many writes."""
    for name, count in sorted(calls.items()):
        if name in _WRITES:
            chosen = np.unique(np.linspace(1, count, min(count, most_writes)).round().astype(int))
            yield from ((name, int(number)) for number in chosen)
        else:
            yield from ((name, number) for number in range(1, count + 1))


def disturbed(server: Server, source: Path, name: str, what: tuple[str, int], how: str, found: Found) -> None:
    """Run one command with one system call disturbed, check what is left, run it again, and check once more.

    Args:
        server: The server.
        source: Folder as `base` makes it.
        name: Key of `COMMANDS`.
        what: System call, and the number of its repetition.
        how: `kill` or `fail`.
        found: Gains counts and faults.
    """
    call, number = what
    effect = "signal=SIGKILL" if how == "kill" else f"error={_ERRORS.get(call, 'EACCES')}"
    args = COMMANDS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        shutil.copytree(source, folder)
        ran = server.run(folder, args, f"{call}:{effect}:when={number}")
        found.counts[how] += 1
        wrong = list(_wrong(source, folder, name))
        if "Traceback" in ran.output:
            wrong.append(f"a traceback: {ran.output[-600:]}")
        code = ran.status >> 8
        if how == "fail" and ran.status & 127:
            wrong.append(f"it died of signal {ran.status & 127}")
        if how == "fail" and not ran.failed:
            found.counts["missed"] += 1
        elif how == "fail" and call in _MUST_TELL and code != 1 and not ran.printing:
            wrong.append(f"exit code {code} in spite of the failure: {ran.output[-200:]}")
        if code == 1:
            found.counts["told"] += 1
        ran = server.run(folder, args)
        repeated = name == "plant" and "is not empty" in ran.output  # the killed run had finished it
        if ran.status != 0 and not repeated:
            wrong.append(f"the next start ended with {ran.status}: {ran.output[-300:]}")
        wrong += _wrong(source, folder, name)
        left, expected = _listing(folder), _listing(source)
        if left != expected and name != "plant":
            wrong.append(f"after the next start: too much {sorted(left - expected)}, missing {sorted(expected - left)}")
        if any(part.startswith(".") for path in left for part in Path(path).parts):
            wrong.append(f"leftovers: {sorted(left)}")
        found.faults += [f"{name}, {how} {call} {number}: {each}" for each in wrong]


def _listing(folder: Path) -> set[str]:
    """Return all files, with the digits in the names of data files blanked."""
    return {_DIGITS.sub(".*.data", str(path.relative_to(folder))) for path in folder.rglob("*") if path.is_file()}


def _wrong(source: Path, folder: Path, name: str) -> Iterator[str]:
    """Yield what is torn, lost or changed that was an input."""
    for path in source.rglob("*"):
        if path.is_file() and not (folder / path.relative_to(source)).exists() and ".data" not in path.suffixes:
            yield f"{path.relative_to(source)} is lost"
    inputs = ["good", "others", "more", *(each for each in COMMANDS[name][1:3] if each.endswith(".npz"))]
    for each in inputs:
        for path in [source / each] if (source / each).is_file() else (source / each).iterdir():
            if path.read_bytes() != (folder / path.relative_to(source)).read_bytes():
                yield f"the input {path.name} was changed"
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            try:
                _whole(path)
            except (PadimEdgeError, OSError, ValueError, SyntaxError) as error:
                yield f"{path.relative_to(folder)} is torn: {error}"


def _whole(path: Path) -> None:
    match path.suffix:
        case ".onnx":
            metadata, kept = read_verified(path), path.with_suffix(".npz")
            if kept.exists() and metadata.statistics not in {*_digests(kept), *_digests(place_of(kept, PAIR))}:
                raise ValueError("its statistics are of another model")
        case ".npz":
            read_kept(path)
        case ".png" | ".tif":
            Image.open(path).load()
        case ".csv" if not path.read_text().endswith("\n"):
            raise ValueError("the table ends in the middle of a row")


def _digests(path: Path) -> set[str]:
    try:
        return {read_kept(path).statistics.digest()}
    except ArtifactError:
        return set()


def main() -> None:
    """Disturb all calls of all commands, or of those that are named."""
    found, names = Found(), sys.argv[1:] or list(COMMANDS)
    server = Server()
    with tempfile.TemporaryDirectory() as place:
        source = base(server, Path(place) / "base")
        for name in names:
            with tempfile.TemporaryDirectory() as other:
                shutil.copytree(source, Path(other) / "work")
                ran = server.run(Path(other) / "work", COMMANDS[name])
            assert ran.status == 0, ran.output
            for what in points(ran.calls, 40):
                for how in ("kill", "fail"):
                    disturbed(server, source, name, what, how, found)
            print(f"after {name}: {found}", flush=True)
    server.close()


if __name__ == "__main__":
    main()
