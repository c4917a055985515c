"""How fast is a model on this very machine? Percentiles, the first call, batches, memory, heat and power."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge_artifact.self_test import probe_image
from padim_edge_runtime.bench import footprint, sensors
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import cores

__all__ = ["Bench", "Throughput", "bench"]

FEWEST = 20
"""Timed calls, however long they take."""


@dataclass(frozen=True)
class Throughput:
    """Of one batch size."""

    batch: int
    rate: float
    """Images a second."""
    milliseconds: float
    """Median of a whole batch."""


@dataclass(frozen=True)
class Bench:
    """What was found. Times are from pixels in the model's frame to the decision, without decoding."""

    model: str
    """Name of the file."""
    device: str
    """Where it really ran."""
    refused: tuple[str, ...]
    """Why `auto` passed over better devices."""
    placement: str
    """Which nodes of the graph ran where, in words."""
    numbers: str
    """Precision, target and form."""
    size: tuple[int, int]
    """(H, W) of the frame in pixels."""
    machine: str
    cores: int
    onnxruntime: str
    load_ms: float
    """Reading, checking every byte, and opening; TensorRT builds its engine in it, where none is kept."""
    first_ms: float
    """The first call, which is longer: memory is taken, and CUDA searches for the fastest convolutions."""
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throughput: tuple[Throughput, ...]
    memory: footprint.Memory | None
    """Of loading and judging, on the host; `None` where the system does not tell."""
    celsius: dict[str, tuple[float, float]]
    """Temperatures before and after."""
    watts: dict[str, float]
    """Mean while judging one by one."""

    def to_json(self) -> dict[str, Any]:
        """The object that `bench --json` prints."""
        return asdict(self)


def bench(
    model: Path,
    device: str = "auto",
    *,
    batches: Sequence[int] = (1, 2, 4, 8),
    seconds: float = 5.0,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    tell: Callable[[str], object] = lambda _: None,
) -> Bench:
    """Measure.

    Args:
        model: The `.onnx` file.
        device: As for `Detector.load`.
        batches: Sizes whose throughput to measure, each 1 or more.
        seconds: For single images; every batch size gets a quarter of it.
        threads: CPU threads; `None` leaves it to onnxruntime.
        progress: Called with 1 after each of the `len(batches) + 2` parts.
        tell: As for `Detector.load`.

    Raises:
        ArtifactError: The model is refused.
        DeviceError: The device is not there, takes no batch of such a size, or fails while it runs.
    """
    from padim_edge_runtime.devices.providers import import_onnxruntime

    before = sensors.temperatures()
    start = time.perf_counter()
    detector = Detector.load(model, device, threads=threads, tell=tell)
    loaded = time.perf_counter()
    detector.require(max(batches, default=1))  # now, and not when all but the last one were measured
    frame = probe_image(detector.metadata.input_size)  # what is in it changes neither time nor memory
    detector(frame)
    first = time.perf_counter()
    watch = _Watch()
    times = _timed(lambda: detector(frame), seconds, watch.look)
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist()
    progress(1)
    throughput = []
    for batch in batches:
        together = np.repeat(frame[None], batch, axis=0)
        many = _timed(lambda stack=together: detector(stack), seconds / 4)  # type: ignore[misc]
        median = float(np.median(many))
        throughput.append(Throughput(batch, round(1e3 * batch / median, 2), round(median, 3)))
        progress(1)
    after = sensors.temperatures()
    used = footprint.memory(model, detector.device, threads=threads)
    progress(1)
    return Bench(
        model=model.name,
        device=detector.device,
        refused=detector.refused,
        placement=detector.placement,
        numbers=detector.metadata.numbers,
        size=detector.metadata.input_size,
        machine=f"{platform.system()} {platform.machine()}",
        cores=cores(),
        onnxruntime=str(import_onnxruntime().__version__),
        load_ms=round(1e3 * (loaded - start), 3),
        first_ms=round(1e3 * (first - loaded), 3),
        calls=len(times),
        p50_ms=round(p50, 3),
        p95_ms=round(p95, 3),
        p99_ms=round(p99, 3),
        throughput=tuple(throughput),
        memory=used,
        celsius={name: (value, after[name]) for name, value in before.items() if name in after},
        watts=watch.watts(),
    )


def _timed(call: Callable[[], object], seconds: float, look: Callable[[], object] = lambda: None) -> list[float]:
    """Milliseconds of calls, one after the other, for so long; the first ones, which warm up, are not counted."""
    for _ in range(3):
        call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < FEWEST or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - start))
        look()
    return found


class _Watch:
    """Looks at the power now and then."""

    _EVERY = 0.2

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._start, self._energy = time.perf_counter(), sensors.energy()
        self._next = self._start

    def look(self) -> None:
        """Often called, seldom looking."""
        if time.perf_counter() >= self._next:
            for name, value in sensors.power().items():
                self._seen.setdefault(name, []).append(value)
            self._next = time.perf_counter() + self._EVERY

    def watts(self) -> dict[str, float]:
        """Means by name."""
        found = {name: round(float(np.mean(values)), 2) for name, values in self._seen.items()}
        seconds = time.perf_counter() - self._start
        for name, joules in sensors.energy().items():
            spent = joules - self._energy.get(name, joules)
            if spent > 0:  # a counter that was full has begun again
                found[name] = round(spent / seconds, 2)
        return found
