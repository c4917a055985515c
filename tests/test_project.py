"""The house: versions that move together, files where they belong, wheels that are whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def project(folder: str) -> dict[str, object]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def test_both_distributions_have_one_version_and_the_toolkit_needs_that_runtime() -> None:
    toolkit, runtime = project("."), project("runtime")
    assert toolkit["version"] == runtime["version"]
    assert f"padim-edge-runtime=={runtime['version']}" in toolkit["dependencies"]
    assert f"## {toolkit['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_onnxruntime_is_never_a_hard_dependency() -> None:
    for folder in (".", "runtime"):
        assert not [d for d in project(folder)["dependencies"] if d.startswith("onnxruntime")]


def test_the_device_needs_four_packages() -> None:
    names = {re.split(r"[<>=!~ ]", d)[0] for d in project("runtime")["dependencies"]}
    assert names == {"numpy", "pillow", "rich", "typer"}


@pytest.mark.slow
def test_the_toolkits_wheel_holds_both_packages_the_weights_and_the_licence(tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("needs uv on the PATH")
    subprocess.run(["uv", "build", "--wheel", "--out-dir", tmp_path, "-q"], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("padim_edge-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"padim_edge", "padim_edge_export"}
    assert {"padim_edge_export/builtin.safetensors", "padim_edge/py.typed", "padim_edge_export/py.typed"} <= names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert wheel.stat().st_size < 4e6
