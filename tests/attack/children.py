"""Mutants in child processes, with a limit of memory and a watchdog. A crash or hang ends a child and not the run."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LONGEST", "MEMORY", "OUTCOMES", "Tally", "run"]

LONGEST = 30.0
"""Seconds that an input may take."""
MEMORY = 2 << 30
"""Bytes that an input may take, beyond the modules."""

OUTCOMES = ("answered", "refused", "traceback", "outside", "crash", "hang", "over memory")
"""Outcomes of one mutant. `outside`: Python opened a file that is none of its own."""

ROOT = Path(__file__).parents[2]


@dataclass
class Tally:
    """Counts over one family."""

    family: str
    """Name of the family."""
    seed: int
    """Seed of its mutants."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of mutants of each outcome."""
    wrong: list[str] = field(default_factory=list)
    """Number and outcome of each mutant that was neither answered nor refused."""
    peak: int = 0
    """Largest memory of a child in bytes."""
    slowest: float = 0.0
    """Longest time of one mutant in seconds, on the machine as busy as it was."""
    seconds: float = 0.0
    """Time of the whole run in seconds."""

    @property
    def bad(self) -> int:
        """Number of mutants that were neither answered nor refused."""
        return sum(self.counts.values()) - self.counts["answered"] - self.counts["refused"]

    def to_json(self) -> dict[str, object]:
        """Return the counts as a JSON object."""
        return {
            "family": self.family,
            "seed": self.seed,
            "mutants": sum(self.counts.values()),
            **{name: self.counts[name] for name in OUTCOMES},
            "peak_mb": round(self.peak / 1e6),
            "slowest_s": round(self.slowest, 2),
            "seconds": round(self.seconds),
            "wrong": self.wrong,
        }


def run(family: str, count: int, seed: int = 1, *, processes: int = 2, longest: float = LONGEST) -> Tally:
    """Hand mutants to their reader in child processes.

    Args:
        family: A key of `attack.families.FAMILIES`.
        count: Number of mutants.
        seed: Seed.
        processes: Number of children at a time.
        longest: Seconds that one may take.
    """
    total, began = Tally(family, seed), time.monotonic()
    bounds = [count * i // processes for i in range(processes + 1)]
    with ThreadPoolExecutor(processes) as pool:
        parts = pool.map(lambda i: _share(family, seed, bounds[i], bounds[i + 1], longest), range(processes))
        for part in parts:
            total.counts += part.counts
            total.wrong += part.wrong
            total.peak = max(total.peak, part.peak)
            total.slowest = max(total.slowest, part.slowest)
    total.seconds = time.monotonic() - began
    return total


def _share(family: str, seed: int, start: int, stop: int, longest: float) -> Tally:
    tally = Tally(family, seed)
    while start < stop:
        start = _child(tally, start, stop, longest)
    return tally


def _child(tally: Tally, start: int, stop: int, longest: float) -> int:
    """Run one child until it is done or ends; return the number that the next one begins with."""
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="padim-edge-attack-") as folder, tempfile.TemporaryFile() as noise:
        command = [sys.executable, "-m", "attack.child", tally.family, str(tally.seed), str(start), str(stop), folder]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=noise, env=environment, cwd=ROOT)
        try:
            reached = _listen(tally, child, start, longest)
        finally:
            child.kill()
            code = child.wait()
            assert child.stdout is not None
            child.stdout.close()
        if reached >= stop:
            return reached
        noise.seek(0)
        said = noise.read()[-1500:].decode(errors="replace")
    if reached == start and code not in (-signal.SIGKILL, None) and code > 0:
        raise RuntimeError(f"the child of {tally.family} did not start: {said}")
    outcome = "hang" if code == -signal.SIGKILL else "crash"
    tally.counts[outcome] += 1
    tally.wrong.append(f"{reached} {outcome} (exit {code}) {' '.join(said.split())[-300:]}")
    return reached + 1


def _listen(tally: Tally, child: subprocess.Popen[bytes], start: int, longest: float) -> int:
    """Count outcomes until the child ends or takes too long; return the number of the mutant that it is at."""
    assert child.stdout is not None
    at, waiting, patience = start, b"", 10 * longest + 60  # it starts with its imports
    began = time.monotonic()
    while True:
        left = patience - (time.monotonic() - began)
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            return at
        found = os.read(child.stdout.fileno(), 1 << 16)
        if not found:
            return at
        *lines, waiting = (waiting + found).split(b"\n")
        for line in lines:
            number, outcome, seconds, peak, *told = line.decode(errors="replace").split(" ", 4)
            if outcome == "began":
                at = int(number)
            else:
                at = int(number) + 1
                named = outcome.replace("_", " ")
                tally.counts[named] += 1
                tally.slowest = max(tally.slowest, float(seconds))
                tally.peak = max(tally.peak, int(peak))
                if named not in ("answered", "refused"):
                    tally.wrong.append(f"{number} {named} {' '.join(told)}")
            patience, began = longest, time.monotonic()
