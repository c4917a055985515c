"""The command `bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_runtime.cli.options import (
    DEVICE,
    INPUT,
    DeviceOption,
    JsonOption,
    ModelArgument,
    batch_sizes,
    print_json,
    warn,
)

__all__ = ["bench"]


def bench(
    model: ModelArgument,
    batch: Annotated[
        str,
        typer.Option(metavar="1,2,4", help="Batch sizes whose throughput is measured.", rich_help_panel=INPUT),
    ] = "1,2,4,8",
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, help="Seconds for single images; each batch size gets a quarter of it.", rich_help_panel=INPUT
        ),
    ] = 5.0,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; one per core unless given.", rich_help_panel=DEVICE)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on this machine: latency, throughput by batch size, memory, heat and power."""
    from padim_edge_runtime import progress
    from padim_edge_runtime.bench.measure import Workload, lines
    from padim_edge_runtime.bench.measure import bench as run

    workload = Workload(tuple(batch_sizes(batch)), seconds, threads)
    with progress.bar("measuring", workload.parts) as advance:
        found = run(model, device, workload, progress=advance, tell=warn)
    if as_json:
        print_json(found.to_json())
        return
    for reason in found.refused:
        warn(reason)
    for name, value in lines(found):
        typer.echo(f"{name:>17}  {value}")
