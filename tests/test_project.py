"""The house: versions that move together, files where they belong, a README whose commands are true."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from padim_edge_runtime.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


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


def test_python_files_are_at_most_400_lines() -> None:
    long = {}
    for folder in ("padim_edge", "export", "runtime", "tests", "benchmarks", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            lines = len(path.read_text().splitlines())
            if lines > 400:
                long[str(path.relative_to(ROOT))] = lines
    assert not long


def command(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert found, name
    return found[1]


def test_the_readmes_commands_need_nothing_but_python_pip_and_git() -> None:
    for name in ("try", "test"):
        assert command(name).startswith("pip install uv && uv run "), name


def test_the_readmes_first_command_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `uv run padim-edge ...` of it, without installing uv."""
    monkeypatch.chdir(tmp_path)
    output = ""
    for step in command("try").split(" && ")[1:]:
        words = shlex.split(step)
        assert words[:3] == ["uv", "run", "padim-edge"]
        result = CliRunner().invoke(app, words[3:])
        assert result.exit_code == 0, result.output
        output += result.stdout
    decisions = dict(re.findall(r"^(?:\w+) +score.*sample/bottle/test/(\w+)/(\d+)\.png$", output, re.MULTILINE))
    assert decisions.keys() == {"good", "chip"}
    chips = [line for line in output.splitlines() if "/chip/" in line]
    goods = [line for line in output.splitlines() if "/test/good/" in line]
    assert any(line.startswith("ANOMALOUS") for line in chips)
    assert sum(line.startswith("ANOMALOUS") for line in goods) <= 1
    assert (tmp_path / "heatmaps" / "chip" / "000.png").stat().st_size > 10_000


def test_the_readmes_options_exist() -> None:
    """Every `padim-edge COMMAND --option` that the README shows."""
    for line in re.findall(r"padim-edge (\w+)([^`\n#&]*)", README):
        name, rest = line
        if name in ("in", "runtime", "COMMAND"):
            continue
        help_text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
        assert "Usage" in help_text, name
        for option in re.findall(r"(--[a-z-]+)", rest):
            assert option in help_text or option == "--help", (name, option)


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
