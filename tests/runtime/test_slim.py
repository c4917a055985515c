"""The device needs numpy, Pillow and one onnxruntime: nothing else is loaded, nothing is written, nobody is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import drawn_images
import pytest

TOOLKIT = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "safetensors",
    "threadpoolctl",
    "padim_edge_export",
)
"""Modules that a workstation has and a device has not."""

HEAVY = ("numpy", "PIL", "onnxruntime", "rich.progress", *TOOLKIT)
"""Modules that `padim-edge --help` does not need; numpy alone takes longer than all the rest."""

IMPORT_SECONDS = 0.1
"""Bound on `import padim_edge_runtime`, which imports nothing but its errors."""

INFER = """
import runpy, sys
import padim_edge_runtime.detector
sys.argv = ["padim-edge", "infer", *sys.argv[1:], "--json", "--device", "cpu", "--heatmaps", "heat", "--csv", "t.csv"]
"""
HELP = """
import runpy, sys
sys.argv = ["padim-edge", "--help"]
"""
RUN = """
try:
    runpy.run_module("padim_edge_runtime", run_name="__main__")
except SystemExit as leaving:
    assert not leaving.code, leaving.code
import json
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def spawn(script: str, *arguments: object, cwd: Path, **environment: str) -> tuple[str, list[str]]:
    """Run a script in a fresh interpreter; its stdout, and the lines of its stderr."""
    kept = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "CI")}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**kept, **environment},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def loaded(script: str, *arguments: object, cwd: Path, **environment: str) -> set[str]:
    """Modules that a script has loaded when it ends."""
    return set(json.loads(spawn(script, *arguments, cwd=cwd, **environment)[1][-1]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    drawn_images.defective(1)[0].save(tmp_path / "part.png")
    return tmp_path / "part.png"


def test_judging_loads_nothing_of_the_toolkit(golden: Path, image: Path, tmp_path: Path) -> None:
    modules = loaded(INFER + RUN, golden, image, cwd=tmp_path)
    assert {"numpy", "PIL", "onnxruntime"} <= modules
    assert modules.isdisjoint(TOOLKIT)
    assert (tmp_path / "heat" / "part.png").is_file(), "and it did judge"


@pytest.mark.parametrize("name", TOOLKIT)
def test_a_module_of_the_toolkit_would_be_noticed(golden: Path, image: Path, tmp_path: Path, name: str) -> None:
    """The test above can fail. An empty package stands in, so that this one needs no toolkit."""
    (tmp_path / "fake" / name).mkdir(parents=True)
    (tmp_path / "fake" / name / "__init__.py").touch()
    script = f"import {name}\n{HELP if name != TOOLKIT[0] else INFER}{RUN}"
    modules = loaded(script, golden, image, cwd=tmp_path, PYTHONPATH=str(tmp_path / "fake"))
    assert modules & set(TOOLKIT) == {name}


def test_help_loads_neither_numpy_nor_anything_heavy(tmp_path: Path) -> None:
    """Also with the toolkit's commands installed. This is what keeps it under half a second, on any machine."""
    assert loaded(HELP + RUN, cwd=tmp_path).isdisjoint(HEAVY)


def test_importing_the_package_loads_no_numpy(tmp_path: Path) -> None:
    script = "import sys, json, padim_edge_runtime, padim_edge_artifact\n"
    modules = loaded(script + "print(json.dumps(sorted(sys.modules)), file=sys.stderr)", cwd=tmp_path)
    assert modules.isdisjoint(HEAVY)


def test_importing_the_package_is_quick(tmp_path: Path) -> None:
    """Processor time, so that other programs do not count; the best of some runs, since the first one compiles."""
    script = "import time; start = time.process_time(); import padim_edge_runtime; print(time.process_time() - start)"
    assert min(float(spawn(script, cwd=tmp_path)[0]) for _ in range(5)) < IMPORT_SECONDS


INSPECT = """
import json, sys
from padim_edge_runtime import Detector
inspection = Detector.load(sys.argv[1], "cpu").inspect(sys.argv[2])
assert inspection.anomalous and inspection.overlay().size == (96, 96)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def test_inspecting_from_python_loads_neither_a_command_line_nor_what_learns(
    golden: Path, image: Path, tmp_path: Path
) -> None:
    modules = loaded(INSPECT, golden, image, cwd=tmp_path)
    assert {"numpy", "PIL", "onnxruntime"} <= modules
    assert modules.isdisjoint((*TOOLKIT, "typer", "rich", "padim_edge_learn", "padim_edge"))


@pytest.mark.parametrize(
    "line",
    [
        "from padim_edge_runtime import Detector, Inspection, Unreadable, Result",
        "from padim_edge_runtime import PadimEdgeError, ArtifactError, DeviceError, ImageError",
        "from padim_edge_artifact import Metadata, Preprocessing, Statistics, read_metadata, read_verified",
        "import padim_edge_runtime as p; assert all(hasattr(p, name) for name in p.__all__)",
        "import padim_edge_artifact as p; assert all(hasattr(p, name) for name in p.__all__)",
        "import padim_edge_runtime as p; assert not hasattr(p, 'no_such_thing')",
    ],
)
def test_the_public_names_are_there(line: str, tmp_path: Path) -> None:
    spawn(line, cwd=tmp_path)


WATCHED = """
import os, sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print("telemetry off:", os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
"""

JUDGE = """
from padim_edge_runtime import Detector
detector = Detector.load(sys.argv[1])
assert detector(detector.prepare(sys.argv[2])).anomalous[0]
assert detector.self_test().passed
"""


def test_nothing_is_told_and_nothing_is_written(golden: Path, image: Path, tmp_path: Path) -> None:
    """onnxruntime reads the variable once, at import, and keeps an identifier in the home folder unless it is set."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    places = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    script = WATCHED + JUDGE
    stdout, stderr = spawn(script, golden, image, cwd=work, HOME=str(home), USERPROFILE=str(home), **places)
    assert stdout.splitlines() == ["telemetry off: 1"]
    assert stderr == []
    assert list(home.rglob("*")) == []
    assert list(work.rglob("*")) == []


OFFLINE = """
import socket, sys
def refuse(*arguments, **keywords):
    raise AssertionError(f"a connection to {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def test_judging_opens_no_connection(golden: Path, image: Path, tmp_path: Path) -> None:
    spawn(OFFLINE + JUDGE, golden, image, cwd=tmp_path)
