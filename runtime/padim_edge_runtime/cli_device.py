"""The commands about this machine: `doctor`, `warm` and `bench`. Heavy imports stand inside, as in `cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, ModelArgument, print_json, warn

if TYPE_CHECKING:
    from padim_edge_runtime.bench.measure import Bench

__all__ = ["bench", "doctor", "warm"]

_MARKS = {"fine": "ok  ", "note": "note", "failed": "CURE"}


def doctor(as_json: JsonOption = False) -> None:
    """Look at this machine: onnxruntime, the devices that really work, their libraries, memory. Says what to cure."""
    from padim_edge_runtime.doctor import examine

    report = examine()
    if as_json:
        print_json(report.to_json())
    else:
        width = max(len(each.name) for each in report.findings)
        for each in report.findings:
            typer.echo(f"{_MARKS[each.verdict]}  {each.name:<{width}}  {each.value}")
            if each.cure:
                typer.echo(f"{'':<{width + 8}}-> {each.cure}")
        typer.echo(report.verdict)
    raise typer.Exit(0 if report.healthy else 1)


def bench(
    model: ModelArgument,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    batch: Annotated[str, typer.Option(metavar="1,2,4", help="Batch sizes whose throughput to measure.")] = "1,2,4,8",
    seconds: Annotated[float, typer.Option(min=0.1, help="For single images; a quarter of it for each batch.")] = 5.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core unless given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on this machine: latency, throughput by batch, memory, heat and power where they are shown."""
    from padim_edge_runtime import progress
    from padim_edge_runtime.bench.measure import bench as run

    sizes = _sizes(batch)
    with progress.bar("measuring", len(sizes) + 2) as advance:
        found = run(model, device, batches=sizes, seconds=seconds, threads=threads, progress=advance, tell=warn)
    if as_json:
        print_json(found.to_json())
        return
    for reason in found.refused:
        warn(reason)
    for name, value in _lines(found):
        typer.echo(f"{name:>17}  {value}")


def warm(
    model: ModelArgument,
    device: Annotated[str, typer.Option(help="tensorrt; the other devices need no warming.")] = "tensorrt",
    batch: Annotated[
        str, typer.Option(metavar="1,8", help="Tune for the first of these sizes, and take batches up to the largest.")
    ] = "1,8",
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT's engine for a model on this machine ahead: infer, bench and verify then begin at once."""
    from padim_edge_artifact import DeviceError
    from padim_edge_runtime import progress
    from padim_edge_runtime.devices import tensorrt
    from padim_edge_runtime.devices.providers import DEVICES

    batches = tensorrt.Batches.of(_sizes(batch))
    if device not in DEVICES:
        raise DeviceError(f"--device is {device!r}, expected tensorrt, for which alone something is built ahead")
    if device != "tensorrt":
        warn(f"there is nothing to build ahead for {device}; only tensorrt needs an engine")
        return
    with progress.bar("building the engine", tensorrt.STEPS) as advance:
        done = tensorrt.warm(model, batches, progress=advance)
    if as_json:
        print_json(done.to_json())
        return
    when = "was there" if done.build_seconds is None else f"built in {done.build_seconds:.1f} s"
    typer.echo(f"engine for batches of 1 to {batches.largest}, tuned for {batches.tuned}: {when}")
    typer.echo(f"{done.folder}, {done.bytes / 1e6:.1f} MB; the model loads in {done.load_seconds:.1f} s now")


def _sizes(text: str) -> list[int]:
    """Batch sizes, from text such as `1,2,4`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and 1 <= int(word) <= 1024 for word in words):
        raise PadimEdgeError(f"--batch is {text!r}, expected numbers from 1 to 1024, as in 1,2,4")
    return [int(word) for word in words]


def _lines(found: Bench) -> list[tuple[str, str]]:
    height, width = found.size
    lines = [
        ("model", f"{found.model}, {found.numbers}, {height}x{width}"),
        ("device", f"{found.device}; {found.machine}, {found.cores} cores, onnxruntime {found.onnxruntime}"),
        ("nodes", found.placement),
        ("load; first call", f"{found.load_ms:.1f} ms; {found.first_ms:.1f} ms"),
        (
            "one image",
            f"p50 {found.p50_ms:.2f} ms, p95 {found.p95_ms:.2f}, p99 {found.p99_ms:.2f}, of {found.calls} calls",
        ),
    ]
    lines += [
        (f"batch of {each.batch}", f"{each.rate:.1f} images/s, {each.milliseconds:.2f} ms") for each in found.throughput
    ]
    memory = found.memory
    if memory is None:
        lines.append(("memory", "this system does not tell"))
    else:
        lines.append(("memory", f"{memory.private / 1e6:.0f} MB private, {memory.mapped / 1e6:.0f} MB of files"))
    lines += [(name, f"{before:.1f} -> {after:.1f} degrees C") for name, (before, after) in found.celsius.items()]
    lines += [(name, f"{value:.2f} W") for name, value in found.watts.items()]
    if not found.celsius and not found.watts:
        lines.append(("heat and power", "this system does not show them"))
    return lines
