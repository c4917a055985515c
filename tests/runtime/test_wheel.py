"""The runtime as a device gets it: one wheel, installed into an empty environment, away from this repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import drawn_images
import golden as files
import pytest
import wheels
from wheels import ENVIRONMENT, ROOT, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.runtime(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a virtual environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    uv("venv", "--python", sys.executable, folder, cwd=folder.parent)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    uv("pip", "install", "--python", programs / "python", f"{wheel}[cpu]", cwd=folder.parent)
    return programs


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A neutral folder with a model, a good and a defective part."""
    files.copy(files.CROPPED, tmp_path)
    drawn_images.good(70).save(tmp_path / "good.png")
    drawn_images.defective(71)[0].save(tmp_path / "defective.png")
    return tmp_path


def run(program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)


def test_the_wheel_holds_its_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    tops = {name.split("/")[0] for name in names}
    packages = {
        "padim_edge_artifact",
        "padim_edge_line",
        "padim_edge_model",
        "padim_edge_runtime",
        "padim_edge_learn",
    }
    page = "padim_edge_line/server/page/"
    (info,) = tops - packages
    assert re.fullmatch(r"padim_edge_runtime-[\d.a-z]+\.dist-info", info)
    assert packages < tops
    assert {Path(name).suffix for name in names if not name.startswith((info, page))} <= {".py", ".typed"}
    assert {Path(name).suffix for name in names if name.startswith(page)} == {".css", ".html", ".js", ".svg"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert "License-Expression: Apache-2.0" in metadata
    assert str(ROOT) not in metadata


def test_every_module_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.endswith(".py")}
    sources = (ROOT / "runtime").glob("padim_edge_*/**/*.py")
    assert shipped == {path.relative_to(ROOT / "runtime").as_posix() for path in sources}


def test_the_environment_holds_no_toolkit(environment: Path, bench: Path) -> None:
    script = (
        "import importlib.util as u, json; print(json.dumps([n for n in "
        "('torch', 'torchvision', 'onnx', 'onnxscript', 'scipy', 'sklearn', 'padim_edge', 'padim_edge_export', "
        "'numpy', 'PIL', 'onnxruntime', 'typer') if u.find_spec(n)]))"
    )
    done = run(environment / "python", "-c", script, cwd=bench)
    assert json.loads(done.stdout) == ["numpy", "PIL", "onnxruntime", "typer"], done.stderr


@pytest.fixture(scope="module")
def learner(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the extra that `update` needs."""
    folder = tmp_path_factory.mktemp("learner") / "venv"
    uv("venv", "--python", sys.executable, folder, cwd=folder.parent)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    uv("pip", "install", "--python", programs / "python", f"{wheel}[cpu,update]", cwd=folder.parent)
    return programs


def test_a_device_learns_without_torch(learner: Path, environment: Path, tmp_path: Path) -> None:
    import small_models  # the workstation's

    images = small_models.weave(30)
    fitted = small_models.fitted(small_models.dataset(images[:20]), small_models.small("edge"))
    fitted.export(tmp_path / "part.onnx", progress=False)
    fitted.save(tmp_path / "part.npz")
    (tmp_path / "new").mkdir()
    for i, image in enumerate(images[20:]):
        image.save(tmp_path / "new" / f"{i}.png")
    done = run(environment / "padim-edge", "update", "part.onnx", "new", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'padim-edge-runtime[update]'" in done.stderr
    done = run(learner / "padim-edge", "update", "part.onnx", "new", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 30
    done = run(learner / "padim-edge", "verify", "part-r2.onnx", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["devices"]["cpu"]["passed"] is True
    done = run(learner / "python", "-c", "import torch", cwd=tmp_path)
    assert "No module named 'torch'" in done.stderr


def test_the_command_judges(environment: Path, bench: Path) -> None:
    done = run(
        environment / "padim-edge", "infer", "golden_data.onnx", "good.png", "defective.png", "--json", cwd=bench
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["path"], each["anomalous"]) for each in found] == [("good.png", False), ("defective.png", True)]


def test_the_command_verifies(environment: Path, bench: Path) -> None:
    done = run(environment / "padim-edge", "verify", "golden_data.onnx", "--json", cwd=bench)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["devices"]["cpu"]["passed"] is True


def test_the_command_lists_only_what_is_installed(environment: Path, bench: Path) -> None:
    """The toolkit adds its commands where it is installed, and is not promised where it is not."""
    done = run(environment / "padim-edge", "--help", cwd=bench)
    assert done.returncode == 0, done.stderr
    for command in ("infer", "inspect", "verify", "doctor", "warm", "bench", "recalibrate", "update"):
        assert command in done.stdout
    assert "export" not in done.stdout
    assert "evaluate" not in done.stdout


def test_the_version_is_the_wheels(environment: Path, bench: Path, wheel: Path) -> None:
    done = run(environment / "padim-edge", "--version", cwd=bench)
    assert done.stdout.split()[-1] == wheel.name.split("-")[1]
