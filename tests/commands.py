"""The command line inside the test's own process, and in several processes at once."""

from __future__ import annotations

import sys

from typer.testing import CliRunner

from padim_edge_runtime.cli import app

__all__ = ["run", "torchrun"]


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of `padim-edge ARGUMENTS`, which must end with `code` and without a traceback."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if code == 1:
        (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("padim-edge: ")][-1:]
        assert len(sentence) < 600, sentence
    return result.stdout, result.stderr


def torchrun(*arguments: object) -> list[str]:
    """Command that runs `padim-edge fit ARGUMENTS` in two processes on this machine."""
    two = ("--standalone", "--nproc-per-node", "2", "-m", "padim_edge", "fit")
    return [sys.executable, "-m", "torch.distributed.run", *two, *map(str, arguments)]
