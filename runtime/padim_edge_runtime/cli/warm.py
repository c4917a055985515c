"""The command `warm`."""

from __future__ import annotations

from typing import Annotated

import typer

from padim_edge_artifact.errors import DeviceError
from padim_edge_runtime.cli.options import (
    DEVICE,
    JsonOption,
    ModelArgument,
    any_case,
    batch_sizes,
    devices,
    print_json,
    warn,
)

__all__ = ["warm"]


def warm(
    model: ModelArgument,
    device: Annotated[
        str,
        typer.Option(
            help="By default tensorrt; the other devices need no warming.", rich_help_panel=DEVICE, **any_case(devices)
        ),
    ] = "tensorrt",
    batch: Annotated[
        str,
        typer.Option(
            metavar="1,8",
            help="Tune for the first of these sizes, and take batches up to the largest.",
            rich_help_panel=DEVICE,
        ),
    ] = "1,8",
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT's engine for a model on this machine ahead: infer, bench and verify then begin at once."""
    from padim_edge_runtime import progress
    from padim_edge_runtime.devices.providers import DEVICES
    from padim_edge_runtime.devices.tensorrt import Batches
    from padim_edge_runtime.devices.warm import STEPS
    from padim_edge_runtime.devices.warm import warm as run

    batches = Batches.of(batch_sizes(batch))
    if device not in DEVICES:
        raise DeviceError(f"--device is {device!r}, expected tensorrt, for which alone something is built ahead")
    if device != "tensorrt":
        warn(f"there is nothing to build ahead for {device}; only tensorrt needs an engine")
        return
    with progress.bar("building the engine", STEPS) as advance:
        done = run(model, batches, progress=advance)
    if as_json:
        print_json(done.to_json())
        return
    when = "was there" if done.build_seconds is None else f"built in {done.build_seconds:.1f} s"
    typer.echo(f"engine for batches of 1 to {batches.largest}, tuned for {batches.tuned}: {when}")
    typer.echo(f"{done.folder}, {done.bytes / 1e6:.1f} MB; the model loads in {done.load_seconds:.1f} s now")
