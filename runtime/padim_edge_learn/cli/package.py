"""The command `package`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from padim_edge_runtime.cli.options import DEVICE, OUTPUT, JsonOption, ModelArgument, any_case, print_json, warn

__all__ = ["TritonOption", "package"]


def _devices() -> Iterable[str]:
    from padim_edge_learn.triton_config import DEVICES

    return DEVICES


TritonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="REPOSITORY",
        help="Also add the model to a repository of NVIDIA Triton or OpenVINO Model Server, as a new version.",
        rich_help_panel=OUTPUT,
    ),
]


def package(
    model: ModelArgument,
    triton: Annotated[
        Path,
        typer.Option(
            metavar="REPOSITORY",
            help="Repository of NVIDIA Triton or OpenVINO Model Server: the folder of all models.",
            rich_help_panel=OUTPUT,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model on the server. By default that of the file.", rich_help_panel=OUTPUT),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda or tensorrt: what the server runs the model on. By default tensorrt for a model that was "
            "exported with --target tensorrt, otherwise cpu.",
            rich_help_panel=DEVICE,
            **any_case(_devices),
        ),
    ] = "auto",
    max_batch: Annotated[
        int, typer.Option(help="Largest batch that the server puts together.", rich_help_panel=DEVICE)
    ] = 8,
    instances: Annotated[
        int, typer.Option(help="Number of copies of the model, on each GPU if any.", rich_help_panel=DEVICE)
    ] = 1,
    delay: Annotated[
        float,
        typer.Option(metavar="MS", help="Milliseconds that a request waits for others.", rich_help_panel=DEVICE),
    ] = 1.0,
    engine_cache: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder on the server that keeps TensorRT's engines.", rich_help_panel=DEVICE),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a model to the repository of an inference server, as a new version."""
    from padim_edge_learn.triton import package as run
    from padim_edge_learn.triton_config import TritonOptions

    options = TritonOptions(device=device, largest=max_batch, instances=instances, delay=delay, engines=engine_cache)
    made = run(model, triton, options, name=name)
    for sentence in made.warnings:
        warn(sentence)
    if as_json:
        print_json({"model": str(model), **made.to_json()})
    else:
        typer.echo(str(made))
