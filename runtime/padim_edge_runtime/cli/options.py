"""Options and printing that several commands share, so that they are the same everywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.terminal_text import visible

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata

__all__ = [
    "DECISION",
    "DEVICE",
    "DEVICE_HELP",
    "INPUT",
    "LINE",
    "MACHINE",
    "MODELS",
    "OUTPUT",
    "WORKSTATION",
    "DeviceOption",
    "FitDeviceOption",
    "JsonOption",
    "ModelArgument",
    "ProductOption",
    "VerboseOption",
    "any_case",
    "batch_sizes",
    "devices",
    "end_with",
    "print_json",
    "print_trtexec",
    "tell_worth",
    "warn",
]

INPUT, DECISION, OUTPUT, DEVICE = "Input", "Decision", "Output", "Device"
"""Panels of options in `padim-edge COMMAND --help`."""

MODELS, LINE, MACHINE, WORKSTATION = "Use a model", "On the line", "This machine", "Make and evaluate models"
"""Panels of commands in `padim-edge --help`."""

DEVICE_HELP = (
    "auto, cpu, cuda or tensorrt. Any value but auto fails if that device is unavailable; it never falls back."
)

FIT_DEVICE_HELP = (
    "Device that runs the backbone. By default cpu, because a GPU rounds differently and the model would depend on the "
    "machine. " + DEVICE_HELP
)


def any_case(known: Callable[[], Iterable[str]]) -> dict[str, Any]:
    """Return what an option needs that takes one of a few words: in capitals as well, and completed by the shell.

    Args:
        known: Gives the words. It is called only when the shell completes, so it may import what it needs.
    """
    return {
        "callback": lambda text: text.lower() if isinstance(text, str) else text,
        "autocompletion": lambda: list(known()),
    }


def devices() -> list[str]:
    """Return the words that `--device` takes."""
    from padim_edge_runtime.devices.providers import DEVICES

    return ["auto", *DEVICES]


ProductOption = Annotated[
    str | None,
    typer.Option("--product", metavar="NAME", help="Which model, where MODEL is a bundle.", rich_help_panel=INPUT),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model made by padim-edge export.")]
DeviceOption = Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=DEVICE, **any_case(devices))]
FitDeviceOption = Annotated[str, typer.Option(help=FIT_DEVICE_HELP, rich_help_panel=DEVICE, **any_case(devices))]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=OUTPUT)]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say why better devices were passed over.", rich_help_panel=OUTPUT),
]


def print_json(content: object) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def end_with(unreadable: Collection[str]) -> None:
    """End with exit code 1 where images could not be read, so that a program notices; they were named before."""
    if unreadable:
        raise typer.Exit(1)


def warn(sentence: str) -> None:
    """Print one line on stderr. Control characters in it are shown as escapes.

    Where stderr cannot be written to, nobody is told, and the work goes on.
    """
    try:
        typer.echo(f"padim-edge: {visible(sentence)}", err=True)
    except OSError:  # its reader has gone, or its disk is full
        with suppress(OSError, ValueError):  # or Python would complain at the end, and change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_trtexec(model: Path, metadata: Metadata, batch: int) -> None:
    """Print the calls of trtexec, each below its version of TensorRT, as lines that a shell takes."""
    from padim_edge_runtime.devices.trtexec import calls

    for version, call in calls(model, metadata, batch).items():
        typer.echo(f"# TensorRT {version}\n{call}")


def tell_worth(metadata: Metadata) -> None:
    """Say how far the good images can tell the false-alarm rate of the threshold."""
    from padim_edge_runtime.worth import worth

    warn(worth(metadata))


def batch_sizes(text: str) -> list[int]:
    """Read batch sizes from text such as `1,2,4`.

    Raises:
        PadimEdgeError: It holds anything but numbers from 1 to 1024.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and 1 <= int(word) <= 1024 for word in words):
        raise PadimEdgeError(f"--batch is {text!r}, expected numbers from 1 to 1024, as in 1,2,4")
    return [int(word) for word in words]
