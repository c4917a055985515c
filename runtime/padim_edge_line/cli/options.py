"""Options, errors and the start that the commands of a line share."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import DEVICE, OUTPUT, warn

if TYPE_CHECKING:
    from padim_edge_line.config import LineConfig

__all__ = [
    "LineArgument",
    "LogJsonOption",
    "address_of",
    "folder_of",
    "line_config",
    "names_of",
    "needs_extra",
    "start",
]

EXTRA = 'install it with pip install "padim-edge-runtime[line]"'

LineArgument = Annotated[Path, typer.Argument(metavar="LINE.toml", help="The file that describes the line.")]
LogJsonOption = Annotated[
    bool, typer.Option("--log-json", help="Write logs as JSON lines on stderr.", rich_help_panel=OUTPUT)
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Folder for the record and the kept images.", rich_help_panel=OUTPUT),
]
LineDeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt.", rich_help_panel=DEVICE)]


@contextmanager
def needs_extra() -> Iterator[None]:
    """Say in a sentence that the extra `line` is missing.

    Raises:
        PadimEdgeError: A package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or str(error)).split(".")[0]
        if name.startswith("padim_edge"):
            raise
        raise PadimEdgeError(f"this command needs the package {name}, which is not installed; {EXTRA}") from error


def start(make: Callable[[], LineConfig], *, log_json: bool, verbose: bool = False) -> None:
    """Run a line until SIGTERM or Ctrl-C.

    Args:
        make: Reads or makes the configuration.
        log_json: Whether logs are JSON lines.
        verbose: Whether messages of little weight are logged, too.
    """
    with needs_extra():
        from padim_edge_line import logs, service

        config = make()
        logs.set_up(as_json=log_json, verbose=verbose)
        service.run(config, tell=_tell_address if not log_json else _log_address)
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):  # a thread that hangs, in a driver or a name server's silence
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)


def _tell_address(url: str, token: str) -> None:
    warn(f"the page is at {url}; to mark images and change the product, open {url}#token={token}")


def _log_address(url: str, _: str) -> None:
    """Log the page's address without the token, which a log must not hold."""
    import logging

    logging.getLogger("padim_edge_line").info("the page is at %s", url)


def names_of(models: list[Path]) -> dict[str, Any]:
    """Name a product after each model file, and take all products of a bundle.

    Raises:
        PadimEdgeError: Two have the same name.
    """
    from padim_edge_artifact.bundle import is_bundle, open_bundle

    found: dict[str, Any] = {}
    names = [
        (model, name) for model in models for name in (open_bundle(model).members if is_bundle(model) else [model.stem])
    ]
    for model, given in names:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", given).strip("-.") or "product"
        if name in found:
            raise PadimEdgeError(f"two models are called {name}; rename one, or name the products in a line.toml")
        found[name] = {"model": str(model.absolute()), **({"bundled": given} if name != given else {})}
    return found


def address_of(text: str, what: str, port: int) -> dict[str, Any]:
    """Read `HOST:PORT` or `HOST`.

    Raises:
        PadimEdgeError: It is neither.
    """
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", text)
    if found is None:
        raise PadimEdgeError(f"{what} is {text!r}, expected a host, or a host and a port as in localhost:{port}")
    return {"host": found[1].strip("[]"), "port": int(found[2] or port)}


def line_config(path: Path) -> LineConfig:
    """Read a line's file.

    Raises:
        PadimEdgeError: It is wrong.
    """
    with needs_extra():
        from padim_edge_line.configuration import read

        return read(path)


def folder_of(path: Path) -> Path:
    """Return the folder of a line, given its file or the folder itself.

    Raises:
        PadimEdgeError: It is neither.
    """
    return path if path.is_dir() else line_config(path).folder
