"""uv and the runtime's wheel, for the tests that install it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["ENVIRONMENT", "ROOT", "runtime", "uv"]

ROOT = Path(__file__).parents[1]
UNREACHABLE = re.compile(
    r"dns error|failed to lookup address|network is unreachable|connection refused|error sending request|timed out"
    r"|network was disabled|connect error",
    re.IGNORECASE,
)
"""Words with which uv says that there is no index. Any other failure is one of the wheel."""

ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key not in ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "ORT_DISABLE_TELEMETRY")
}


def uv(*arguments: object, cwd: Path) -> str:
    """Run uv; skip where it or its index is not there."""
    command = ["uv"] if shutil.which("uv") else [sys.executable, "-m", "uv"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False
    )
    if "No module named uv" in done.stderr:
        pytest.skip("uv is not installed")
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def runtime(folder: Path) -> Path:
    """The wheel of padim-edge-runtime, built into a folder; skip where this is not the repository."""
    if not (ROOT / "runtime" / "pyproject.toml").is_file():
        pytest.skip("this is not the repository, so no wheel can be built")
    uv("build", "--package", "padim-edge-runtime", "--wheel", "--out-dir", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built
