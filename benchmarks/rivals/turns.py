"""Turns of methods that live in processes of their own: whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import contextlib
import json
import math
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from benchmarks.quiet import QUIET, REST, Clock, Neighbours, choose, wait_for_quiet
from benchmarks.rivals import ROOT, Missing, reason

__all__ = ["Measured", "Summary", "Turn", "Worker", "measure", "summarise"]

SLOW = 1.0
"""Seconds of a turn above which a method has rounds of its own among those of the others."""

FEWEST = 3
"""Smallest number of turns, also of the slowest method."""

SHORTEST = 0.5
"""Seconds that a round should last at least, because the system counts processor time in hundredths of a second."""


class Asked(Protocol):
    """Anything that answers commands: a `Worker`, or a test's stand-in."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Answer one command."""


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
    """One timed pair of calls."""

    frame: float
    """Milliseconds from the model's frame in memory."""
    image: float
    """Milliseconds from a larger image in memory, resized for the model."""


@dataclass(frozen=True)
class Measured:
    """All used turns."""

    turns: dict[str, list[Turn]]
    """Turns by method."""
    rounds: int
    """Number of rounds taken, those that were not used included."""
    used: int
    """Number of rounds that were used."""
    others: float
    """Mean share of the processors' time that other processes took in the used rounds."""


@dataclass
class _Group:
    """Methods that are measured in the same rounds."""

    names: list[str]
    """Names of the methods."""
    wanted: int
    """Number of rounds that count."""
    passes: int
    """Number of turns of each method in a round."""
    lead: int
    """Number of untimed calls before each timed one."""
    taken: list[tuple[float, dict[str, list[Turn]]]] = field(default_factory=list)
    """Share of the others and turns of each round."""

    @property
    def quiet(self) -> int:
        return sum(others <= QUIET for others, _ in self.taken)

    def lacking(self, *, impatient: bool) -> bool:
        return (len(self.taken) if impatient else self.quiet) < self.wanted

    def used(self) -> list[tuple[float, dict[str, list[Turn]]]]:
        return choose(self.taken, self.wanted)


def measure(
    workers: Mapping[str, Asked],
    *,
    rounds: int,
    lead: int,
    patience: float,
    seconds_each: float,
    neighbours: Callable[[], Clock] | None = None,
) -> Measured:
    """Time all methods, each in its turn alone; `benchmarks.quiet` has the reasons.

    A round in which other processes took more than `QUIET` of the processors' time is replaced. A slow method has
    rounds of its own, fewer, spread evenly among those of the others.

    Args:
        workers: Processes with the method loaded and warm.
        rounds: Timed calls of each method.
        lead: Untimed calls before each timed one; none where a call takes longer than any cache remembers.
        patience: Seconds after which the quietest rounds so far are taken.
        seconds_each: Seconds that one method may take in all; slow ones get fewer turns, but `FEWEST` at least.
        neighbours: Starts a clock of what other processes take; for tests.
    """
    make_clock = neighbours or (lambda: Neighbours(lambda: _own_seconds(workers)))
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
            wait_for_quiet(make_clock, deadline)
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


def _own_seconds(workers: Mapping[str, Asked]) -> float:
    """Return the processor seconds of this process and of the workers."""
    return time.process_time() + sum(float(worker.ask("processor")["seconds"]) for worker in workers.values())


def _call_seconds(worker: Asked) -> float:
    return float(worker.ask("warm_up", calls=2, seconds=0.0)["seconds"])


def _groups(seconds: Mapping[str, float], rounds: int, lead: int, seconds_each: float) -> list[_Group]:
    """Put all fast methods into one group, and each slow one into its own."""
    turn = {name: REST + each * (lead + 2) for name, each in seconds.items()}
    fast = [name for name in turn if turn[name] <= SLOW]
    groups = []
    if fast:
        passes = min(rounds, max(1, math.ceil(SHORTEST / sum(turn[name] for name in fast))))
        groups.append(_Group(fast, math.ceil(rounds / passes), passes, lead))
    for name in turn.keys() - set(fast):
        # A slow method reads more than the caches hold, so nothing is left of an untimed call.
        affordable = int(seconds_each / (REST + 2 * seconds[name]))
        groups.append(_Group([name], min(rounds, max(FEWEST, affordable)), 1, 0))
    return groups


@dataclass(frozen=True)
class Summary:
    """Times of one method, in milliseconds."""

    calls: int
    """Number of timed pairs of calls."""
    median: float
    """Median with the frame in memory."""
    p10: float
    """Tenth percentile with the frame in memory."""
    p90: float
    """Ninetieth percentile with the frame in memory."""
    image_median: float
    """Median with the resize from the larger image."""
    image_p10: float
    """Tenth percentile with the resize from the larger image."""
    image_p90: float
    """Ninetieth percentile with the resize from the larger image."""


def summarise(turns: Sequence[Turn]) -> Summary:
    """Compute median and percentiles."""
    import numpy as np

    frame = np.percentile([turn.frame for turn in turns], (50, 10, 90)).tolist()
    image = np.percentile([turn.image for turn in turns], (50, 10, 90)).tolist()
    return Summary(len(turns), *frame, *image)
