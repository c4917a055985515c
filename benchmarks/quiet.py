"""Rounds of a measurement in which other processes on the machine did little.

Everything that is compared takes turns in each round. A preempted thread keeps onnxruntime's other threads spinning, so
one busy neighbour can treble a time. Rounds are therefore chosen by the neighbours' processor time, and never by what
was measured.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from padim_edge_runtime.bench.footprint import REST

__all__ = ["QUIET", "REST", "Clock", "Neighbours", "Turns", "choose", "take_turns", "wait_for_quiet"]

QUIET = 0.04
"""Largest share of the processor time that other processes may take in a round that counts."""

K = TypeVar("K")
T = TypeVar("T")


class Clock(Protocol):
    """Measure of what other processes take of the machine, started when it is made."""

    def share(self) -> float:
        """Return the others' share of the processor time since the start, 0 to 1."""


class Neighbours:
    """Clock of the processors that this process may use.

    Args:
        own: Function that returns the processor seconds of the measurement itself, which are not the others'.
    """

    def __init__(self, own: Callable[[], float] = time.process_time) -> None:
        self._own = own
        self._start = self._look()

    def share(self) -> float:
        """Return the others' share of the processor time since the start, 0 to 1."""
        time.sleep(REST)  # until the last engine has stopped spinning, which is its own time
        total, busy, own = (now - then for now, then in zip(self._look(), self._start, strict=True))
        return max(0.0, busy - own) / max(total, 1e-9)

    def _look(self) -> tuple[float, float, float]:
        """Return seconds since some moment: of these processors, of them not idle, and of them our own."""
        import psutil  # type: ignore[import-untyped]

        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        total = idle = 0.0
        for i, times in enumerate(psutil.cpu_times(percpu=True)):
            if allowed is None or i in allowed:
                # A guest's time is contained in user time.
                total += sum(value for name, value in times._asdict().items() if not name.startswith("guest"))
                idle += times.idle + getattr(times, "iowait", 0.0)
        return total, total - idle, self._own()


def wait_for_quiet(make_clock: Callable[[], Clock], deadline: float) -> None:
    """Idle until the neighbours do too, at most until `deadline` on the monotonic clock; so they finish sooner."""
    while time.monotonic() < deadline:
        clock = make_clock()
        time.sleep(1)
        if clock.share() <= QUIET:
            return


def choose(taken: Sequence[tuple[float, T]], wanted: int) -> list[tuple[float, T]]:
    """Choose the quiet rounds; where there are fewer than wanted, the quietest.

    Args:
        taken: Share of the others and result of each round.
        wanted: Number of rounds.
    """
    quiet = [each for each in taken if each[0] <= QUIET]
    return quiet if len(quiet) >= wanted else sorted(taken, key=lambda each: each[0])[:wanted]


@dataclass(frozen=True)
class Turns(Generic[K, T]):
    """Results of the rounds that were used."""

    found: dict[K, list[T]]
    """One result per used round of each thing that was called."""
    rounds: int
    """Number of rounds taken, those that were not used included."""
    others: float
    """Mean share of the processor time that other processes took in the used rounds."""


def take_turns(
    calls: Mapping[K, Callable[[], T]],
    rounds: int,
    patience: float,
    make_clock: Callable[[], Clock] = Neighbours,
) -> Turns[K, T]:
    """Call everything once per round, in an order that changes, until there are enough quiet rounds.

    Args:
        calls: Functions to call.
        rounds: Number of rounds that count.
        patience: Seconds after which the quietest rounds so far are taken.
        make_clock: Starts a clock of what other processes take; for tests.
    """
    taken: list[tuple[float, dict[K, T]]] = []
    order, shuffler = list(calls), random.Random(0)
    deadline = time.monotonic() + patience
    while sum(others <= QUIET for others, _ in taken) < rounds:
        if len(taken) >= rounds and time.monotonic() > deadline:
            break
        shuffler.shuffle(order)
        clock = make_clock()
        found = {what: calls[what]() for what in order}
        taken.append((clock.share(), found))
        if taken[-1][0] > QUIET:
            wait_for_quiet(make_clock, deadline)
    used = choose(taken, rounds)
    return Turns(
        {what: [found[what] for _, found in used] for what in calls},
        len(taken),
        sum(others for others, _ in used) / max(1, len(used)),
    )
