"""Time that a run over many images spends in each stage. The clocks cost microseconds an image, so they always run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from padim_edge_runtime.prefetch import cores

__all__ = ["STAGES", "Clock", "Profile", "bottleneck", "table"]

STAGES = {
    "decode": "read and decode",
    "resize": "resize",
    "comparison": "comparison",
    "model": "model",
    "regions": "regions",
    "overlay": "overlay",
    "output": "output",
}
"""Stages that an image goes through, and their names in the table."""

# Above these shares of the wall time something is called the bottleneck; below all of them nothing is.
_FULL_PROCESSOR = 0.8
_FULL_DEVICE = 0.7
_FULL_OUTPUT = 0.5
_PREEMPTED = 0.3
"""Share of the computing stages' time in which other programs had the processor, from which on they are named."""
_STANDING = 0.3
"""Share of the busy time that decoding waited for the files, from which on the files are named."""
_COMPUTING = ("resize", "comparison", "regions")
"""Stages that only compute and wait for nothing."""


@dataclass(frozen=True)
class Profile:
    """Times of one run. Seconds of a stage are added over all threads, so their sum may exceed the wall time."""

    images: int
    """Number of images, unreadable ones included."""
    wall: float
    """Seconds from the first image to the last result, without loading the model."""
    device: str
    """Device that the model ran on."""
    workers: int
    """Number of threads that images were inspected in."""
    cores: int
    """Number of cores that this process may use."""
    processor: float
    """Seconds of processor time of the whole process meanwhile."""
    busy: dict[str, float]
    """Seconds spent in each of `STAGES`, without waiting for a turn."""
    computing: dict[str, float]
    """Seconds out of `busy` in which the stage's own thread had the processor."""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / max(self.wall, 1e-9)

    @property
    def parallel(self) -> float:
        """Mean number of stages that ran at a time: busy seconds of all threads over the wall time."""
        return sum(self.busy.values()) / max(self.wall, 1e-9)

    @property
    def occupied(self) -> float:
        """Share of the cores' time that this process used, 0 to 1."""
        # The processor's clock has coarser steps than the wall's, so a short run can seem to have used more than all.
        return min(1.0, self.processor / max(self.wall * self.cores, 1e-9))


class Clock:
    """Sums of the seconds of each stage, from several threads at once."""

    def __init__(self) -> None:
        self.workers = 1
        self._lock = threading.Lock()
        self._busy = dict.fromkeys(STAGES, 0.0)
        self._computing = dict.fromkeys(STAGES, 0.0)
        self._start, self._processor = time.perf_counter(), time.process_time()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time until the block ends, also by an error, for one of `STAGES`."""
        start, own = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            busy, computing = time.perf_counter() - start, time.thread_time() - own
            with self._lock:
                self._busy[name] += busy
                self._computing[name] += computing

    def profile(self, images: int, device: str) -> Profile:
        """Return the times until now.

        Args:
            images: Number of images so far.
            device: Device that the model runs on.
        """
        wall, processor = time.perf_counter() - self._start, time.process_time() - self._processor
        with self._lock:
            busy, computing = dict(self._busy), dict(self._computing)
        return Profile(images, wall, device, self.workers, cores(), processor, busy, computing)


def table(profile: Profile) -> list[str]:
    """Write the profile for people, line by line."""
    busy = sum(profile.busy.values())
    count = max(profile.images, 1)

    def row(name: str, seconds: float, share: str) -> str:
        return f"  {name:<16}{seconds:>9.3f}{1e3 * seconds / count:>12.2f}{share:>9}".rstrip()

    def of_busy(seconds: float) -> str:
        return f"{100 * seconds / max(busy, 1e-9):.1f} %"

    idle = max(0.0, profile.workers * profile.wall - busy + profile.busy["output"])
    images = f"{profile.images} images in {profile.wall:.2f} s: {profile.rate:.1f} images/s"
    used = f"{100 * profile.occupied:.0f} % of {profile.cores} cores"
    return [
        f"{images}; {profile.workers} threads",
        f"  {'stage':<16}{'seconds':>9}{'ms/image':>12}{'share':>9}",
        *(row(name, profile.busy[stage], of_busy(profile.busy[stage])) for stage, name in STAGES.items()),
        row("all of them", busy, of_busy(busy)),
        row("threads waiting", idle, ""),
        f"  in parallel: {profile.parallel:.2f} (all of them / wall); the processor was used to {used}",
        f"  bottleneck: {bottleneck(profile)}",
    ]


def bottleneck(profile: Profile) -> str:
    """Say in one sentence what to change first for more images a second."""
    wall, busy = max(profile.wall, 1e-9), max(sum(profile.busy.values()), 1e-9)
    on_device = profile.busy["model"] / wall
    largest = max(profile.busy, key=lambda stage: profile.busy[stage])
    most = f"{STAGES[largest]} takes most of the time ({100 * profile.busy[largest] / busy:.0f} %)"
    if profile.images < 4 * profile.workers:
        return f"none that so few images would show; {most}"
    if profile.device != "cpu" and on_device >= _FULL_DEVICE:
        return f"the device; the model ran on {profile.device} for {100 * on_device:.0f} % of the time"
    if profile.occupied >= _FULL_PROCESSOR:
        return f"the processor, which was in full use; {most}"
    if profile.busy["output"] / wall >= _FULL_OUTPUT:
        return "the output; whatever reads it takes longer than judging does"
    preempted = 1 - _sum(profile.computing, _COMPUTING) / max(_sum(profile.busy, _COMPUTING), 1e-9)
    standing = profile.busy["decode"] * (1 - preempted) - profile.computing["decode"]
    if standing / busy >= _STANDING:
        return "the files; decoding stood still until they were read"
    if preempted >= _PREEMPTED:
        return f"other programs on this machine, which had the processor {100 * preempted:.0f} % of the time; {most}"
    return f"none that stands out; {most}"


def _sum(seconds: dict[str, float], stages: tuple[str, ...]) -> float:
    return sum(seconds[stage] for stage in stages)
