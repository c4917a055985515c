"""The C++ program of runtime/cpp in tests: commands of its README, its runs, and Python's answers to its frames."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from padim_edge_model.comparable import check_frame
from padim_edge_runtime import Detector

__all__ = ["HEADER", "SOURCE", "compare", "judge", "readme", "refused", "shell"]

SOURCE = Path(__file__).parents[1] / "runtime" / "cpp"
HEADER = "onnxruntime_cxx_api.h"
PRINTED = re.compile(r"(NOT COMPARABLE|ANOMALOUS|good) +score (\S+)  threshold (\S+)(?:  ([a-z ]+))?\n")


def readme(name: str) -> str:
    """The shell block behind the comment `<!-- name -->`."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert found, name
    return found[1]


def shell(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a block of the README with this Python in front."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PATH": path} | environment,
        check=False,
    )


def judge(program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program with nothing in the environment, a home folder of its own, and look that it leaves nothing there.

    Without ORT_DISABLE_TELEMETRY, onnxruntime from 1.29 on leaves an identifier in the home folder.
    """
    (home := cwd / "home").mkdir(exist_ok=True)
    command = [str(program), *map(str, arguments)]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert not list(home.rglob("*"))
    return done


def refused(program: Path, *arguments: object, cwd: Path) -> str:
    """The one sentence of an error, in the program's own words."""
    done = judge(program, *arguments, cwd=cwd)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("padim-edge-judge: ")
    return line.removeprefix("padim-edge-judge: ")


def compare(program: Path, model: Path, frames: list[npt.NDArray[np.uint8]], folder: Path) -> list[bool]:
    """Decisions by the score on some frames, after all that is printed and the map were found equal to Python's."""
    detector = Detector.load(model, "cpu")
    for frame in frames:
        frame.tofile(folder / "frame.rgb")
        done = judge(program, model, "frame.rgb", "map.f32", cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        found = PRINTED.fullmatch(done.stdout)
        assert found, done.stdout
        expected = detector(frame)
        assert np.float32(found[2]) == expected.score[0]  # nine digits name one float32
        assert float(found[3]) == pytest.approx(expected.threshold, rel=1e-8)
        reference, grid = detector.metadata.reference, detector.metadata.grid
        reasons = check_frame(frame, reference, grid, expected.patch_distance[0]).warnings
        assert tuple((found[4] or "").split()) == reasons
        verdict = "NOT COMPARABLE" if reasons else "ANOMALOUS" if expected.anomalous[0] else "good"
        assert found[1] == verdict
        np.testing.assert_array_equal(np.fromfile(folder / "map.f32", "f4"), expected.anomaly_map.ravel())
    return [bool(each) for each in detector(np.stack(frames)).anomalous]
