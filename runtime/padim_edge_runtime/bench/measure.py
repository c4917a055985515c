"""Speed of a model on this machine: percentiles, the first call, batches, memory, heat and power."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge_artifact.self_test import probe_image
from padim_edge_runtime.bench import footprint, sensors
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import cores

__all__ = ["Bench", "Throughput", "Workload", "bench", "lines"]

FEWEST = 20
"""Smallest number of timed calls, however long they take."""


@dataclass(frozen=True)
class Workload:
    """Calls to measure."""

    batches: tuple[int, ...] = (1, 2, 4, 8)
    """Batch sizes whose throughput is measured, each 1 or more."""
    seconds: float = 5.0
    """Seconds for single images; each batch size gets a quarter of it."""
    threads: int | None = None
    """CPU threads; `None` leaves it to onnxruntime."""

    @property
    def parts(self) -> int:
        """Number of times that `bench` reports progress."""
        return len(self.batches) + 2


@dataclass(frozen=True)
class Throughput:
    """Throughput with one batch size."""

    batch: int
    """Number of images in a batch."""
    rate: float
    """Images a second."""
    milliseconds: float
    """Median time of a whole batch."""


@dataclass(frozen=True)
class Bench:
    """Measured figures. Times are from pixels in the model's frame to the verdict, without decoding."""

    model: str
    """Name of the file."""
    device: str
    """Device that the model really ran on."""
    refused: tuple[str, ...]
    """Reasons why `auto` passed over better devices."""
    placement: str
    """Nodes of the graph by the device that they ran on, in words."""
    numbers: str
    """Precision, target and form of the Gaussians."""
    size: tuple[int, int]
    """(H, W) of the model's input in pixels."""
    machine: str
    """Operating system and kind of processor."""
    cores: int
    """Number of cores that the process could use."""
    onnxruntime: str
    """Version of onnxruntime."""
    load_ms: float
    """Time to read, check every byte, and open; includes the build of an engine where TensorRT has none yet."""
    first_ms: float
    """Time of the first call, which takes memory and lets CUDA search for the fastest convolutions."""
    calls: int
    """Number of timed calls with one image."""
    p50_ms: float
    """Median time of one image."""
    p95_ms: float
    """95th percentile of the time of one image."""
    p99_ms: float
    """99th percentile of the time of one image."""
    throughput: tuple[Throughput, ...]
    """Throughput by batch size."""
    memory: footprint.Memory | None
    """Memory on the host for loading and judging; `None` where the system does not tell."""
    celsius: dict[str, tuple[float, float]]
    """Temperatures before and after, by sensor."""
    watts: dict[str, float]
    """Mean power while single images were judged, by sensor."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `bench --json` prints."""
        return asdict(self)


def bench(
    model: Path,
    device: str = "auto",
    workload: Workload = Workload(),
    *,
    progress: Callable[[int], object] = lambda _: None,
    tell: Callable[[str], object] = lambda _: None,
) -> Bench:
    """Measure a model on this machine.

    Args:
        model: The `.onnx` file.
        device: As for `Detector.load`.
        workload: Calls to measure.
        progress: Called with 1 after each of the `workload.parts`.
        tell: As for `Detector.load`.

    Raises:
        ArtifactError: The model is refused.
        DeviceError: The device is not there, takes no batch of such a size, or fails while it runs.
    """
    from padim_edge_runtime.devices.providers import import_onnxruntime

    before = sensors.temperatures()
    start = time.perf_counter()
    detector = Detector.load(model, device, threads=workload.threads, tell=tell)
    loaded = time.perf_counter()
    detector.require(max(workload.batches, default=1))  # before anything is measured
    frame = probe_image(detector.metadata.input_size)  # its content changes neither time nor memory
    detector(frame)
    first = time.perf_counter()
    watch = _Watch()
    times = _timed(lambda: detector(frame), workload.seconds, watch.look)
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist()
    progress(1)
    throughput = []
    for batch in workload.batches:
        together = np.repeat(frame[None], batch, axis=0)
        many = _timed(lambda stack=together: detector(stack), workload.seconds / 4)  # type: ignore[misc]
        median = float(np.median(many))
        throughput.append(Throughput(batch, round(1e3 * batch / median, 2), round(median, 3)))
        progress(1)
    after = sensors.temperatures()
    used = footprint.memory(model, detector.device, threads=workload.threads)
    progress(1)
    return Bench(
        model=model.name,
        device=detector.device,
        refused=detector.refused,
        placement=detector.placement,
        numbers=str(detector.metadata.precision),
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


def lines(found: Bench) -> list[tuple[str, str]]:
    """Write the figures for people, as (name, value)."""
    height, width = found.size
    told = [
        ("model", f"{found.model}, {found.numbers}, {height}x{width}"),
        ("device", f"{found.device}; {found.machine}, {found.cores} cores, onnxruntime {found.onnxruntime}"),
        ("nodes", found.placement),
        ("load; first call", f"{found.load_ms:.1f} ms; {found.first_ms:.1f} ms"),
        (
            "one image",
            f"p50 {found.p50_ms:.2f} ms, p95 {found.p95_ms:.2f}, p99 {found.p99_ms:.2f}, of {found.calls} calls",
        ),
    ]
    told += [
        (f"batch of {each.batch}", f"{each.rate:.1f} images/s, {each.milliseconds:.2f} ms") for each in found.throughput
    ]
    memory = found.memory
    if memory is None:
        told.append(("memory", "this system does not tell"))
    else:
        told.append(("memory", f"{memory.private / 1e6:.0f} MB private, {memory.mapped / 1e6:.0f} MB of files"))
    told += [(name, f"{before:.1f} -> {after:.1f} degrees C") for name, (before, after) in found.celsius.items()]
    told += [(name, f"{value:.2f} W") for name, value in found.watts.items()]
    if not found.celsius and not found.watts:
        told.append(("heat and power", "this system does not show them"))
    return told


def _timed(call: Callable[[], object], seconds: float, look: Callable[[], object] = lambda: None) -> list[float]:
    """Time calls one after the other for so many seconds, in milliseconds; the first ones warm up and do not count."""
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
    """Readings of the power, taken now and then."""

    _EVERY = 0.2

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._start, self._energy = time.perf_counter(), sensors.energy()
        self._next = self._start

    def look(self) -> None:
        """Read the power if the last reading is long ago."""
        if time.perf_counter() >= self._next:
            for name, value in sensors.power().items():
                self._seen.setdefault(name, []).append(value)
            self._next = time.perf_counter() + self._EVERY

    def watts(self) -> dict[str, float]:
        """Return the mean power by sensor, in watts."""
        found = {name: round(float(np.mean(values)), 2) for name, values in self._seen.items()}
        seconds = time.perf_counter() - self._start
        for name, joules in sensors.energy().items():
            spent = joules - self._energy.get(name, joules)
            if spent > 0:  # a counter that was full has begun again
                found[name] = round(spent / seconds, 2)
        return found
