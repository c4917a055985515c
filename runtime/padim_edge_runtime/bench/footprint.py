"""What a model costs on this machine: milliseconds for an image, and memory that no other process can share.

`main` is what the process does in which `memory` runs a model. Whatever it imports counts as memory
that the model did not need, so this file imports little when it is imported.
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

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata
    from padim_edge_runtime.detector import Detector

__all__ = ["NO_MEMORY", "Cost", "Latency", "Memory", "costs", "latencies", "memory", "resident"]

WARM_UP = 10
"""Calls before anything is timed."""

REST = 0.03
"""Seconds before each turn. onnxruntime's threads spin for a while after a call, so the session before would take a
core from this one (`benchmarks/latency.py` says how much that is)."""

LEAD = 2
"""Untimed calls right before each timed one. They bring the model's constants back into the caches, as on a device,
which runs one model over and over."""

IMAGES = 5
"""That are judged while memory is watched; onnxruntime has all that it needs after two."""

PERIOD = 0.001
"""Seconds between two looks at the memory."""

NO_MEMORY = "private memory is measured on Linux only"
"""Why there is no figure."""

_PROCESS = """
import sys
sys.path[:] = [place for place in sys.path if place]
from padim_edge_runtime.bench.measure.footprint import main
main()
"""
"""Python would look for modules in the working folder first, where files may be called anything."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Latency:
    """Of one image, in milliseconds."""

    median: float
    p10: float
    """The tenth percentile, which others' work on the machine hardly touches."""
    p90: float
    rounds: int
    """Timed calls."""

    @property
    def milliseconds(self) -> dict[str, float]:
        """The three figures by name, in the order in which they are shown."""
        return {"median": self.median, "p10": self.p10, "p90": self.p90}


@dataclass(frozen=True)
class Memory:
    """What a process needs more for a model, in bytes, at its peak from loading to the last image.

    The growth over a Python with onnxruntime, numpy and Pillow imported; they cost the same for every model. What they
    have left free is used first, so a figure below 1 MB says no more than that. Of memory on a GPU nothing is known.
    """

    private: int
    """Memory of the process alone, which the system cannot do without."""
    mapped: int
    """Pages of files: of the data file, and a few of onnxruntime's library. All processes on the machine share them,
    and the system drops them where memory is short and reads them again."""


@dataclass(frozen=True)
class Cost:
    """What one model takes on this machine."""

    model: Path
    metadata: Metadata
    device: str
    """Where it ran: a key of `providers.DEVICES`."""
    bytes: int
    """Of the model and its data file together."""
    latency: Latency
    """From pixels in the model's frame to the decision; decoding and shrinking an image are not in it."""
    memory: Memory | None
    """`None` where the system does not tell; see `NO_MEMORY`."""


def costs(
    models: Sequence[Path],
    detectors: Sequence[Detector],
    rounds: int,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Cost]:
    """Size, time and memory of models, on the devices where they run.

    Args:
        models: Their files.
        detectors: The same, loaded.
        rounds: Timed calls of each, 1 or more; the models take turns.
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

    frame = probe_image(detector.metadata.input_size)  # what is in it changes neither time nor memory
    return lambda: detector(frame)


def latencies(
    calls: Sequence[Call], rounds: int, *, rest: float = REST, progress: Callable[[int], object] = lambda _: None
) -> list[Latency]:
    """Time calls that take turns, so that whatever else the machine does falls on all of them alike.

    Args:
        calls: What to time.
        rounds: Timed calls of each, 1 or more.
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
            # Another one begins each time: what follows a longer call finds a warmer processor.
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
    """Load a model in a fresh process, judge some images one by one, and see how far its memory rises.

    It is watched from here, all the time: onnxruntime holds Python's lock for parts of the loading, so a thread in that
    process would be blind just when memory is highest.

    Args:
        model: The `.onnx` file.
        device: As for `Detector.load`.
        threads: CPU threads for one image; `None` leaves it to onnxruntime.

    Returns:
        `None` where the system does not tell private memory from mapped files; see `NO_MEMORY`.

    Raises:
        PadimEdgeError: The process failed, most often for want of memory.
    """
    if resident("self") is None:
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
    # Never negative: what Python gives back after its imports is not the model's doing.
    return Memory(*(max(0, highest - first) for highest, first in zip(peak, before, strict=True)))


def resident(process: str) -> tuple[int, int] | None:
    """(private, mapped from files) bytes of memory of a process, by its number or `self`; `None` if it is not told."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if "RssAnon" not in found or "RssFile" not in found:
        return None
    private, mapped = (1024 * int(found[name].split()[0]) for name in ("RssAnon", "RssFile"))
    return private, mapped


@contextmanager
def _watched(process: str) -> Iterator[list[int]]:
    """The highest values of `resident` while the block runs."""
    peak = [0, 0]
    ended = threading.Event()

    def look() -> None:
        now = resident(process)
        if now is not None:
            peak[:] = map(max, peak, now)

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
    """Import, say so, wait; load and judge, say so, wait to be ended."""
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
