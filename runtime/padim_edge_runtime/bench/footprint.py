"""Cost of a model on this machine: milliseconds for an image, and memory that no other process can share.

`main` is the entry point of the child process that `memory` starts to measure one model. Whatever that process imports
counts as memory that the model did not need, so this file imports little.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.memory import Resident, resident

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata
    from padim_edge_runtime.detector import Detector

__all__ = ["NO_MEMORY", "Cost", "Latency", "Memory", "costs", "latencies", "memory"]

WARM_UP = 10
"""Number of calls before anything is timed."""

REST = 0.03
"""Seconds of rest before each turn. onnxruntime's threads spin for a while after a call, and would take a core from the
next session."""

LEAD = 2
"""Number of untimed calls right before each timed one. They bring the model's constants back into the caches, as on a
device that runs one model over and over."""

IMAGES = 5
"""Number of images that are judged while memory is watched; onnxruntime has all that it needs after two."""

PERIOD = 0.001
"""Seconds between two looks at the memory."""

NO_MEMORY = "private memory is measured on Linux only"
"""Reason why there is no figure."""

_PROCESS = """
import sys
sys.path[:] = [place for place in sys.path if place]
from padim_edge_runtime.bench.footprint import main
main()
"""
"""Program of the child process. Python would search the working folder first, where files may have any name."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Latency:
    """Times of one image, in milliseconds."""

    median: float
    """Median."""
    p10: float
    """Tenth percentile, which other programs on the machine hardly touch."""
    p90: float
    """Ninetieth percentile."""
    rounds: int
    """Number of timed calls."""

    @property
    def milliseconds(self) -> dict[str, float]:
        """The three times by name, in the order in which they are shown."""
        return {"median": self.median, "p10": self.p10, "p90": self.p90}


@dataclass(frozen=True)
class Memory:
    """Memory in bytes that a model adds to a process, at its peak from loading to the last image.

    The start is a Python with onnxruntime, numpy and Pillow imported, which cost the same for every model. They leave
    some memory free that is used first, so a figure below 1 MB says no more than that. Memory on a GPU is not counted.
    """

    private: int
    """Bytes of the process alone, which the system cannot do without."""
    mapped: int
    """Bytes of mapped files: of the data file, and a few of onnxruntime's library. All processes on the machine share
    them, and the system drops them where memory is short and reads them again."""


@dataclass(frozen=True)
class Cost:
    """Size, time and memory of one model on this machine."""

    model: Path
    """The `.onnx` file."""
    metadata: Metadata
    """Its metadata."""
    device: str
    """Device that it ran on: a key of `providers.DEVICES`."""
    bytes: int
    """Size of the model and its data file together."""
    latency: Latency
    """Time from pixels in the model's frame to the verdict, without decoding and shrinking an image."""
    memory: Memory | None
    """Memory that the model adds; `None` where the system does not tell (see `NO_MEMORY`)."""


def costs(
    models: Sequence[Path],
    detectors: Sequence[Detector],
    rounds: int,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Cost]:
    """Measure size, time and memory of models on the devices where they run.

    Args:
        models: Files of the models.
        detectors: The same models, loaded.
        rounds: Number of timed calls of each model, 1 or more; the models take turns.
        threads: CPU threads for one image that the detectors were loaded with.
        progress: Called with 1 after each round.

    Raises:
        PadimEdgeError: A process that was to measure the memory failed.
    """
    timed = latencies([_judging(each) for each in detectors], rounds, progress=progress)
    return [
        Cost(
            model=model,
            metadata=detector.metadata,
            device=detector.device,
            bytes=model.stat().st_size + detector.metadata.digests.data_bytes,
            latency=latency,
            memory=memory(model, detector.device, threads=threads),
        )
        for model, detector, latency in zip(models, detectors, timed, strict=True)
    ]


def _judging(detector: Detector) -> Call:
    from padim_edge_artifact.self_test import probe_image

    frame = probe_image(detector.metadata.input_size)  # its content changes neither time nor memory
    return lambda: detector(frame)


def latencies(
    calls: Sequence[Call], rounds: int, *, rest: float = REST, progress: Callable[[int], object] = lambda _: None
) -> list[Latency]:
    """Time calls that take turns, so that other work on the machine falls on all of them alike.

    Args:
        calls: Functions to time.
        rounds: Number of timed calls of each, 1 or more.
        rest: Seconds to rest before each turn.
        progress: Called with 1 after each round.
    """
    import numpy as np

    assert rounds >= 1
    for call in calls:
        for _ in range(WARM_UP):
            call()
    milliseconds: list[list[float]] = [[] for _ in calls]
    with _without_gc():
        for turn in range(rounds):
            # Another one begins each time, because a call after a longer one finds a warmer processor.
            for i in range(len(calls)):
                this = (turn + i) % len(calls)
                milliseconds[this].append(_time(calls[this], rest))
            progress(1)
    percentiles = [np.percentile(each, (50, 10, 90)).tolist() for each in milliseconds]
    return [Latency(median, p10, p90, rounds) for median, p10, p90 in percentiles]


@contextmanager
def _without_gc() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _time(call: Call, rest: float) -> float:
    time.sleep(rest)
    for _ in range(LEAD):
        call()
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def memory(model: Path, device: str = "cpu", *, threads: int | None = None) -> Memory | None:
    """Load a model in a fresh process, judge some images one by one, and measure how far its memory rises.

    The process is watched from outside. onnxruntime holds Python's lock for parts of the loading, so a thread inside
    would be blind just when memory is highest.

    Args:
        model: The `.onnx` file.
        device: As for `Detector.load`.
        threads: CPU threads for one image; `None` leaves it to onnxruntime.

    Returns:
        The memory; `None` where the system does not tell private memory from mapped files (see `NO_MEMORY`).

    Raises:
        PadimEdgeError: The process failed, most often for want of memory.
    """
    if resident() is None:
        return None
    command = [sys.executable, "-c", _PROCESS, str(model), device, str(threads or 0)]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(  # noqa: S603  # this very module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise _failed(model, process, complaints)
            if (before := resident(str(process.pid))) is None:
                return None
            with _watched(str(process.pid)) as peak:
                process.stdin.write(b"\n")
                process.stdin.flush()
                finished = process.stdout.readline()
            if not finished:
                raise _failed(model, process, complaints)
        finally:
            process.kill()  # it has nothing to tidy up
    # Never negative: memory that Python gives back after its imports is not the model's.
    highest = peak[0]
    return Memory(max(0, highest.private - before.private), max(0, highest.mapped - before.mapped))


@contextmanager
def _watched(process: str) -> Iterator[list[Resident]]:
    """Keep the highest values of `resident` in a list of one while the block runs."""
    peak = [Resident(0, 0)]
    ended = threading.Event()

    def look() -> None:
        now = resident(process)
        if now is not None:
            peak[0] = Resident(max(peak[0].private, now.private), max(peak[0].mapped, now.mapped))

    def watch() -> None:
        while not ended.wait(PERIOD):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        look()  # the process waits, so that its last state is never missed


def _failed(model: Path, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> PadimEdgeError:
    code = process.wait()
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").splitlines()[-1:] or ["it said nothing"]
    return PadimEdgeError(
        f"the process that measures the memory of {model} ended with {code} ({said[0][:300]}); see that `padim-edge "
        "verify` passes and that memory is free"
    )


def main() -> None:
    """Run in the child process: import, say so, wait; load and judge, say so, wait to be ended."""
    model, device, threads = sys.argv[1:]

    from padim_edge_artifact.self_test import probe_image
    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.devices.providers import import_onnxruntime

    import_onnxruntime()
    _say_and_wait()
    detector = Detector.load(model, device, threads=int(threads) or None)
    frame = probe_image(detector.metadata.input_size)
    for _ in range(IMAGES):
        detector(frame)
    _say_and_wait()


def _say_and_wait() -> None:
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdin.readline()
