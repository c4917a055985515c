"""The command `padim-edge`, one file for each of its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from padim_edge_runtime.cli.program import app, main

__all__ = ["app", "main"]


def __getattr__(name: str) -> object:
    # Whoever imports the shared options only, as the commands of other packages do, does not load all commands.
    if name in __all__:
        from padim_edge_runtime.cli import program

        return getattr(program, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
