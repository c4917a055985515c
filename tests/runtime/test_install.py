"""The install pages' ways that can be gone here: a machine without a network, and the Python of JetPack 6."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import drawn_images
import golden as files
import pytest
import wheels
from wheels import ENVIRONMENT, ROOT, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NO_INDEX = re.compile(r"NameResolutionError|Failed to establish a new connection|Network is unreachable|timed out")
"""Words of pip where there is no index."""

WITHOUT = {
    **{key: value for key, value in ENVIRONMENT.items() if not key.startswith("PIP_")},
    "PIP_CONFIG_FILE": "/dev/null",
}
"""An environment in which pip knows of no index and no folder but those on its command line."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.runtime(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with two models, good parts and a defective one."""
    for path in (files.WHOLE, files.CROPPED, files.CROPPED.with_name(f"{files.CROPPED.name}.data")):
        shutil.copyfile(path, tmp_path / path.name)
    drawn_images.good(70).save(tmp_path / "good.png")
    drawn_images.defective(71)[0].save(tmp_path / "defective.png")
    (tmp_path / "held_out").mkdir()
    for i in range(30):
        drawn_images.good(100 + i).save(tmp_path / "held_out" / f"{i}.png")
    return tmp_path


def padim_edge(programs: Path, *arguments: object, cwd: Path, before: tuple[str, ...] = ()) -> str:
    """stdout of `padim-edge ARGUMENTS` in an environment; it must succeed."""
    command = [*before, str(programs / "padim-edge"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=WITHOUT, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout


def decisions(said: str) -> dict[str, bool]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    return {row["path"]: row["anomalous"] for row in rows}


def collect(machine: str, wheel: Path, folder: Path) -> Path:
    """The wheelhouse that the page's own command collects, for this Python in place of the page's."""
    page = (ROOT / "docs" / "deployment" / "offline.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^python -m pip download .*_{machine} .*$", page, re.MULTILINE)
    words = shlex.split(line)[1:]
    words[-1] = f"{wheel}[cpu]"
    words[words.index("--python-version") + 1] = ".".join(map(str, sys.version_info[:2]))
    collector = folder / "collector"
    if not collector.exists():
        uv("venv", "--seed", "--python", sys.executable, collector, cwd=folder)
    done = subprocess.run(
        [collector / "bin" / "python", *words], capture_output=True, text=True, cwd=folder, env=ENVIRONMENT, check=False
    )
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "wheelhouse"


def names(wheelhouse: Path) -> set[str]:
    return {path.name.split("-")[0].lower() for path in wheelhouse.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="the page collects wheels for Linux")
def test_without_a_network(wheel: Path, bench: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("offline")
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    wheelhouse = collect(machine, wheel, folder)
    assert {"numpy", "onnxruntime", "padim_edge_runtime", "pillow", "typer"} <= names(wheelhouse)
    assert {path.suffix for path in wheelhouse.iterdir()} == {".whl"}
    device = folder / "device"
    uv("venv", "--seed", "--python", sys.executable, device, cwd=folder)
    programs = device / "bin"
    install = ["-m", "pip", "install", "--no-index", "--find-links", wheelhouse, "padim-edge-runtime[cpu]"]
    isolated = no_network()
    done = subprocess.run(
        [*isolated, programs / "python", *install], capture_output=True, text=True, env=WITHOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    said = padim_edge(programs, "doctor", cwd=bench, before=isolated)
    assert said.splitlines()[-1] == "models run on cpu"
    said = padim_edge(programs, "verify", "golden_data.onnx", "--json", cwd=bench, before=isolated)
    assert json.loads(said)["devices"]["cpu"]["passed"] is True
    said = padim_edge(
        programs, "infer", "golden_data.onnx", "good.png", "defective.png", "--json", cwd=bench, before=isolated
    )
    assert decisions(said) == {"good.png": False, "defective.png": True}


def no_network() -> tuple[str, ...]:
    """Words before a command that shall have no network at all; none where this system cannot do that."""
    words = ("unshare", "--net")
    if shutil.which("unshare") and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return words
    return ()


def test_the_wheelhouse_of_an_arm64_board_is_as_complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """pip chooses other versions, or none, where a name of the platform is missing."""
    folder = tmp_path_factory.mktemp("arm64")
    here = names(collect("x86_64", wheel, folder).rename(folder / "x86_64"))
    there = collect("aarch64", wheel, folder)
    assert names(there) == here
    compiled = {path.name.split("-")[0] for path in there.iterdir() if not path.name.endswith("-any.whl")}
    assert {"numpy", "onnxruntime", "pillow"} <= compiled
    assert all("aarch64" in path.name for path in there.iterdir() if path.name.split("-")[0] in compiled)


def python310() -> str:
    """A Python 3.10; where none lies here, uv may find or bring one."""
    if sys.version_info[:2] == (3, 10):
        return sys.executable
    versions = sorted((Path.home() / ".pyenv" / "versions").glob("3.10.*/bin/python3.10"))
    for candidate in (shutil.which("python3.10"), *map(str, versions)):
        words = [candidate or "", "-c", "import sys; print(sys.version_info[:2] == (3, 10))"]
        if candidate and subprocess.run(words, capture_output=True, text=True, check=False).stdout == "True\n":
            return candidate
    return "3.10"


def test_python_3_10_as_on_jetpack_6(wheel: Path, bench: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the newest onnxruntime that there is for it, and a numpy before 2.3."""
    folder = tmp_path_factory.mktemp("jetpack")
    uv("venv", "--python", python310(), folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    uv(
        "pip", "install", "--python", programs / "python", wheel, "onnxruntime==1.23.2", "numpy<2.3", cwd=folder
    )  # fmt: skip
    found = json.loads(padim_edge(programs, "doctor", "--json", cwd=bench))
    values = {each["name"]: each["value"] for each in found["findings"]}
    assert values["interpreter"].startswith("CPython 3.10.")
    assert values["onnxruntime"] == "1.23.2 (onnxruntime 1.23.2)"
    assert (found["healthy"], found["devices"]) == (True, ["cpu"])
    for model in ("golden.onnx", "golden_data.onnx"):
        said = padim_edge(programs, "verify", model, "--json", cwd=bench)
        assert json.loads(said)["devices"]["cpu"]["passed"] is True
        said = padim_edge(
            programs, "infer", model, "good.png", "defective.png", "--json", "--heatmaps", "maps", cwd=bench
        )
        assert decisions(said) == {"good.png": False, "defective.png": True}
    assert "Gaussians" in padim_edge(programs, "inspect", "golden.onnx", cwd=bench)
    said = padim_edge(programs, "bench", "golden.onnx", "--seconds", "0.3", "--batch", "1,2", "--json", cwd=bench)
    assert json.loads(said)["p50_ms"] > 0
    said = padim_edge(
        programs, "recalibrate", "golden.onnx", "held_out", "--false-alarm-rate", "0.1", "--json", cwd=bench
    )
    assert json.loads(said)["threshold"] != json.loads(said)["threshold_before"]
    said = padim_edge(programs, "verify", "golden.onnx", "--json", cwd=bench)
    assert json.loads(said)["devices"]["cpu"]["passed"] is True
