"""Methods in processes of their own take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from benchmarks.latency import QUIET, REST
from benchmarks.rivals import ROOT, Missing, reason

__all__ = ["Measured", "Summary", "Turn", "Worker", "measure", "summarise"]

SLOW = 1.0
"""Seconds of a turn above which a method is not part of every round, but has rounds of its own among the others'."""

FEWEST = 3
"""Turns that even the slowest method gets."""

SHORTEST = 0.5
"""Seconds that a round should last at least: the system counts processor time in hundredths of a second."""


class Asked(Protocol):
    """Something that answers commands: a `Worker`, or a test's stand-in."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one command."""


class Worker:
    """A process of `benchmarks.timing_worker`, or of anything that speaks its protocol."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=dict(environ),
            cwd=ROOT,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Raises:
            Missing: It failed or died; with its own reason.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise Missing(f"its process ended ({reason(self._errors.read().decode(errors='replace'))})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Missing(f"it failed ({reason(answer['error'])})")
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Turn:
    """One timed pair of calls, in milliseconds."""

    frame: float
    """From the model's frame in memory."""
    image: float
    """From a larger image in memory, resized for the model."""


@dataclass(frozen=True)
class Measured:
    """All used turns."""

    turns: dict[str, list[Turn]]
    rounds: int
    """Taken in all, those that were not used included."""
    used: int
    others: float
    """Mean share of the processors' time that other processes took in the used rounds."""


@dataclass
class _Group:
    """Methods that are measured in the same rounds."""

    names: list[str]
    wanted: int
    """Rounds."""
    passes: int
    """Turns of each method in a round."""
    lead: int
    taken: list[tuple[float, dict[str, list[Turn]]]] = field(default_factory=list)

    @property
    def quiet(self) -> int:
        return sum(others <= QUIET for others, _ in self.taken)

    def lacking(self, *, impatient: bool) -> bool:
        return (len(self.taken) if impatient else self.quiet) < self.wanted

    def used(self) -> list[tuple[float, dict[str, list[Turn]]]]:
        """The quiet rounds, and where there are too few of them the quietest."""
        if self.quiet >= self.wanted:
            return [each for each in self.taken if each[0] <= QUIET]
        return sorted(self.taken, key=lambda each: each[0])[: self.wanted]


def measure(
    workers: Mapping[str, Asked],
    *,
    rounds: int,
    lead: int,
    patience: float,
    seconds_each: float,
    neighbours: Any = None,
) -> Measured:
    """Time all methods, each in its turn alone; see `benchmarks.latency.measure` for the reasons.

    A round in which other processes took more than `QUIET` of the processors' time is replaced. A slow method has
    rounds of its own, fewer, spread evenly among the others'.

    Args:
        workers: With the method loaded and warm.
        rounds: Timed calls of each method.
        lead: Untimed calls before each timed one; none where a call takes longer than any cache remembers.
        patience: Seconds after which the quietest rounds so far are taken.
        seconds_each: That one method may take in all; slow ones get fewer turns for it, but `FEWEST` at least.
        neighbours: Makes a clock of what other processes take; for tests.
    """
    make_clock = neighbours or (lambda: Neighbours(workers))
    seconds = {name: _call_seconds(worker) for name, worker in workers.items()}
    groups = _groups(seconds, rounds, lead, seconds_each)
    shuffler = random.Random(0)
    deadline = time.monotonic() + patience
    while True:
        impatient = time.monotonic() > deadline
        lacking = [group for group in groups if group.lacking(impatient=impatient)]
        if not lacking:
            break
        # Whoever is furthest behind: so slow methods come up evenly among the fast ones' rounds.
        group = min(lacking, key=lambda each: each.quiet / each.wanted)
        clock = make_clock()
        turns: dict[str, list[Turn]] = {name: [] for name in group.names}
        for _ in range(group.passes):
            order = list(group.names)
            shuffler.shuffle(order)
            for name in order:
                turns[name].append(Turn(**workers[name].ask("turn", rest=REST, lead=group.lead)))
        group.taken.append((clock.share(), turns))
        if group.taken[-1][0] > QUIET:
            _wait_for_quiet(make_clock, deadline)
    used = [each for group in groups for each in group.used()]
    return Measured(
        turns={
            name: [turn for _, turns in group.used() for turn in turns[name]]
            for group in groups
            for name in group.names
        },
        rounds=sum(len(group.taken) for group in groups),
        used=len(used),
        others=sum(others for others, _ in used) / max(1, len(used)),
    )


def _call_seconds(worker: Asked) -> float:
    return float(worker.ask("warm_up", calls=2, seconds=0.0)["seconds"])


def _groups(seconds: Mapping[str, float], rounds: int, lead: int, seconds_each: float) -> list[_Group]:
    """One group of all fast methods, and one for each slow one."""
    turn = {name: REST + each * (lead + 2) for name, each in seconds.items()}
    fast = [name for name in turn if turn[name] <= SLOW]
    groups = []
    if fast:
        passes = min(rounds, max(1, math.ceil(SHORTEST / sum(turn[name] for name in fast))))
        groups.append(_Group(fast, math.ceil(rounds / passes), passes, lead))
    for name in turn.keys() - set(fast):
        # What a slow method reads is larger than the caches, so nothing is left of an untimed call.
        affordable = int(seconds_each / (REST + 2 * seconds[name]))
        groups.append(_Group([name], min(rounds, max(FEWEST, affordable)), 1, 0))
    return groups


def _wait_for_quiet(make_clock: Any, deadline: float) -> None:
    """Idle until the neighbours do too; so they are sooner done."""
    while time.monotonic() < deadline:
        clock = make_clock()
        time.sleep(1)
        if clock.share() <= QUIET:
            return


class Neighbours:
    """Measures what processes other than this one and the workers take of the processors that they are pinned to."""

    def __init__(self, workers: Mapping[str, Asked]) -> None:
        self._workers = workers
        self._start = self._look()

    def share(self) -> float:
        """Of these processors' time since the making, 0 to 1."""
        time.sleep(REST)  # until the last worker has stopped spinning, which is its own time
        total, busy, own = (now - then for now, then in zip(self._look(), self._start, strict=True))
        return max(0.0, busy - own) / max(total, 1e-9)

    def _look(self) -> tuple[float, float, float]:
        import psutil  # type: ignore[import-untyped]

        pinned = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        total = idle = 0.0
        for i, times in enumerate(psutil.cpu_times(percpu=True)):
            if pinned is None or i in pinned:
                # A guest's time is contained in user time.
                total += sum(value for name, value in times._asdict().items() if not name.startswith("guest"))
                idle += times.idle + getattr(times, "iowait", 0.0)
        own = time.process_time() + sum(worker.ask("processor")["seconds"] for worker in self._workers.values())
        return total, total - idle, own


@dataclass(frozen=True)
class Summary:
    """Of one method's turns, in milliseconds."""

    calls: int
    median: float
    """With the frame in memory, as the next two."""
    p10: float
    p90: float
    image_median: float
    """With the resize from the larger image, as the next two."""
    image_p10: float
    image_p90: float


def summarise(turns: Sequence[Turn]) -> Summary:
    """Median and percentiles."""
    import numpy as np

    frame = np.percentile([turn.frame for turn in turns], (50, 10, 90)).tolist()
    image = np.percentile([turn.image for turn in turns], (50, 10, 90)).tolist()
    return Summary(len(turns), *frame, *image)
