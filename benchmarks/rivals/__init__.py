"""Rivals: their versions, and how to run those that must not enter our own environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ANOMALIB", "OPENVINO", "ROOT", "Missing", "anomalib", "isolated", "isolated_environ", "reason"]

ROOT = Path(__file__).parents[2]
"""Root of the repository."""

PYTHON = "3.11"

OPENVINO = ("openvino==2026.4.1", "numpy==2.4.6", "pillow==13.0.0")
"""Packages that judge with an OpenVINO model."""

ANOMALIB = (
    "anomalib[openvino]==2.7.0",
    "torch==2.15.0",
    "torchvision==0.29.2",
    "timm==1.0.31",
    "onnx==1.23.2",
    "onnxscript==0.7.2",
    "nncf==3.4.0",
    *OPENVINO,
)
"""Packages that fit and export with anomalib; the newest of all on the day when this was written."""


class Missing(Exception):  # noqa: N818  a state of the machine, not an error of ours
    """A rival is not available here; the message is the reason, one sentence without a full stop."""


def isolated(packages: Sequence[str], *arguments: str) -> list[str]:
    """Return the command that runs `python ARGUMENTS` in an environment of its own with exactly these packages.

    uv keeps them in its cache, so that the second run starts in a second or two.

    Raises:
        Missing: There is no uv.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise Missing("it needs uv for an environment of its own, and uv is not installed")
    chosen = [part for package in packages for part in ("--with", package)]
    return [uv, "run", "--quiet", "--no-project", "--isolated", "--python", PYTHON, *chosen, "python", *arguments]


def isolated_environ(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment variables for it, without those by which Python or uv would find our own packages."""
    return {name: value for name, value in environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}


def anomalib(
    good: Path, output: Path, *, weights: Path | None = None, test: Path | None = None, threads: int = 2
) -> dict[str, Any]:
    """Fit anomalib's PaDiM on the PNG frames in `good` and export it into `output`; `anomalib_padim` does the work.

    Args:
        good: Frames to fit on, all of one size.
        output: Folder that gets `weights/onnx`, `weights/openvino` and, with `test`, `test.npz`: `names`, raw `scores`
            (N,) and `maps` (N, H, W) of these frames by name.
        weights: Weights file of its resnet18; random unless given.
        test: Frames to judge.
        threads: Threads of torch.

    Returns:
        The script's answer: versions, input, outputs, files and bytes.

    Raises:
        Missing: There is no uv, a package is not available, or anomalib itself fails.
    """
    script = Path(__file__).with_name("anomalib_padim.py")
    arguments = ["--good", good, "--output", output, "--threads", threads]
    arguments += ["--weights", weights.absolute()] if weights else []
    arguments += ["--test", test] if test else []
    done = subprocess.run(
        isolated(ANOMALIB, str(script), *map(str, arguments)),
        capture_output=True,
        text=True,
        check=False,
        env=isolated_environ(dict(os.environ)),
    )
    if done.returncode:
        raise Missing(f"anomalib in an environment of its own failed ({reason(done.stderr)})")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def reason(text: str) -> str:
    """Return the most telling line of an error output, without addresses and folders, fit to be published."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(\xd7|error|[\w.]*(Error|Exception|Missing)\b)", line)]
    line = (telling or lines or ["it said nothing"])[-1]
    line = re.sub(r"\w+://\S+", "an address", line)
    line = re.sub(r"(?<![\w.])(?:~|\.{0,2})(?:/[\w.+@-]+)+/([\w.+@-]+)", r"\1", line)
    return re.sub(r"^(\xd7|Missing:)\s*", "", line)[:300].rstrip(".")
