"""The program `padim-edge`: its commands, and errors as one sentence. Other packages add commands by entry points."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.bench import bench
from padim_edge_runtime.cli.bundle import bundle
from padim_edge_runtime.cli.card import card
from padim_edge_runtime.cli.doctor import doctor
from padim_edge_runtime.cli.infer import infer
from padim_edge_runtime.cli.inspect import inspect
from padim_edge_runtime.cli.options import MACHINE, MODELS, warn
from padim_edge_runtime.cli.unbundle import unbundle
from padim_edge_runtime.cli.verify import verify
from padim_edge_runtime.cli.warm import warm

__all__ = ["app", "main"]

COMMAND_GROUP = "padim_edge.commands"
"""Group of entry points that are called with the app, to add commands to it."""

TOOLKIT = ("export", "fit", "merge", "evaluate", "compare", "plant", "rehearse", "sample", "import")
"""Commands of the package `padim-edge`, which a device has not."""


_interrupted = threading.Event()
"""Set by Ctrl-C and by SIGTERM, which `main` has to treat with care."""
_TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM has ended, as shells give it."""
_UNFINISHED = "nothing unfinished stands under a final name"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: everything is tidied up on the way."""


class _Sentences(TyperGroup):
    """A group of commands that turns the errors users can cause into one sentence and exit code 1."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in TOOLKIT and self.get_command(ctx, args[0]) is None:
            raise PadimEdgeError(
                f"{args[0]} is a command of the package padim-edge, and here is its runtime only; install padim-edge "
                "(usually on a workstation, where models are made)"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PadimEdgeError as error:
            sentence = str(error)
        except _Terminated:
            _interrupted.set()
            warn(f"ended by SIGTERM; {_UNFINISHED}")
            raise typer.Exit(_TERMINATED) from None
        except KeyboardInterrupt:
            _interrupted.set()
            sentence = f"interrupted; {_UNFINISHED}"
        except BrokenPipeError:  # the reader of our output has gone: nobody is left to be told
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except MemoryError:
            sentence = "the memory of this machine does not suffice; close other programs or use a larger machine"
        except OSError as error:
            where = f" on {error.filename}" if error.filename else ""
            sentence = f"the system refused ({error.strerror or error}{where}); check the path, its rights and the disk"
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            sentence = "the system starts no more threads for this process; raise its limits, or close other programs"
        warn(sentence)
        raise typer.Exit(1)


app = typer.Typer(
    name="padim-edge",
    cls=_Sentences,
    help="Find defects in images of a part, from good images alone: PaDiM as one ONNX graph.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda asked: _print_version() if asked else None,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


def _print_version() -> None:
    typer.echo(f"padim-edge {version('padim-edge-runtime')}")
    raise typer.Exit


def _add_commands() -> None:
    commands: dict[str, tuple[Callable[..., None], ...]] = {
        MODELS: (infer, inspect, card, verify, bundle, unbundle),
        MACHINE: (doctor, warm, bench),
    }
    for panel, each in commands.items():
        for command in each:
            app.command(rich_help_panel=panel)(command)


def _add_commands_of_others() -> None:
    for entry in entry_points(group=COMMAND_GROUP):
        try:
            entry.load()(app)
        except (ImportError, AttributeError, PackageNotFoundError) as error:  # the other commands work without them
            warn(f"the commands of {entry.value} are missing ({error}); install padim-edge again")


_add_commands()
_add_commands_of_others()


def main() -> None:
    """Run the command `padim-edge`."""
    _open_streams()
    _handle_sigterm()
    try:
        app()
    except SystemExit as end:
        # Python notes a Ctrl-C that arrives inside `exec`, where dataclasses are made. Under `python -m` it then ends
        # by the signal, although the interruption was caught and the exit code is known.
        # Under torchrun, threads of torch may ask for the interpreter while it is torn down, and abort the process.
        if _interrupted.is_set() or os.environ.get("WORLD_SIZE", "1") != "1":
            _end_at_once(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _open_streams() -> None:
    """Open the standard streams that are closed, and let stdout take every name of a file."""
    # Or the next file that is opened would take their numbers, and native libraries would write messages into it.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # Python found it closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the process's life
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # names of files need not fit the terminal's encoding


def _handle_sigterm() -> None:
    """Let SIGTERM raise an exception, unless it is ignored or handled already."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the tidying up
    raise _Terminated


def _end_at_once(code: int) -> NoReturn:
    """End the process without Python's own tidying up; everything that must be closed is closed by now."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
