"""The page of runtime/node, its script and its commands as they stand there, against the Python runtime."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import drawn_images
import golden as files
import pytest

from padim_edge_model.comparable import lower_quartile
from padim_edge_runtime import Detector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

README = Path(__file__).parents[2] / "runtime" / "node" / "README.md"

UNREACHABLE = re.compile(r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED)\b")
"""Words of npm where there is no registry; any other failure is one of the page."""

PATIENCE = 240
"""Seconds that a command may take; npm takes some 20 s, and without a network it may try for ever."""

ROUNDING = 1e-5
"""Relative; onnxruntime-node may be of another version, with other kernels, than the Python package."""


def block(name: str) -> str:
    """The block behind the comment `<!-- name -->`."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, name
    return found[1]


def shell(script: str, folder: Path, **others: str) -> subprocess.CompletedProcess[str]:
    """Run commands with this Python in front, other environment variables, and no word about telemetry.

    `timeout` ends all that the commands have started, and exits with 124.
    """
    hidden = ("ORT_DISABLE_TELEMETRY", "CI")  # the latter stops it as well
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | others
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["timeout", str(PATIENCE), "bash", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the page's script, a model, an image, and onnxruntime-node, which is removed in the end."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "judge.mjs").write_text(block("judge.mjs"))
    shutil.copyfile(files.WHOLE, folder / "bottle.onnx")
    files.copy(files.CROPPED, folder)
    drawn_images.defective(71)[0].save(folder / "image.png")
    done = shell(block("run").splitlines()[0], folder, npm_config_fetch_retries="0")
    if done.returncode == 124:
        pytest.skip(f"npm did not fetch onnxruntime-node within {PATIENCE} s")
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"npm cannot reach its registry: {' '.join(done.stderr.split())[-300:]}")
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder / "node_modules")  # 290 MB


def test_the_pages_commands_run(workplace: Path) -> None:
    install, *others = block("run").splitlines()
    assert install.endswith("npm install onnxruntime-node")
    done = shell("\n".join(others), workplace)
    assert done.returncode == 0, done.stderr
    detector = Detector.load(files.WHOLE, "cpu")
    expected = detector(detector.prepare(workplace / "image.png"))
    assert json.loads(done.stdout) == {
        "verdict": "anomalous",
        "score": pytest.approx(float(expected.score[0]), rel=ROUNDING),
        "threshold": expected.threshold,
        "anomalous": True,
        "map": [1, 64, 64],
    }


def test_a_model_that_takes_bgr_is_refused(workplace: Path) -> None:
    import small_models

    method = small_models.small("edge")
    swapped = method.changed(preprocessing=dataclasses.replace(method.preprocessing, color="bgr"))
    small_models.export_model(small_models.dataset(small_models.weave(8)), workplace / "bgr.onnx", swapped)
    (workplace / "any.rgb").write_bytes(bytes(64 * 64 * 3))
    done = shell("node judge.mjs bgr.onnx any.rgb", workplace)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bgr.onnx takes image_bgr, and this script feeds RGB; export it without --color bgr\n"


def test_a_model_with_a_data_file_judges(workplace: Path) -> None:
    detector = Detector.load(files.CROPPED, "cpu")
    for image, anomalous in ((drawn_images.good(70), False), (drawn_images.defective(71)[0], True)):
        frame = detector.prepare(image)
        frame.tofile(workplace / "cropped.rgb")
        done = shell("node judge.mjs golden_data.onnx cropped.rgb", workplace)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["score"] == pytest.approx(float(detector(frame).score[0]), rel=ROUNDING)
        assert found["anomalous"] is anomalous


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_of_a_memory_judges(workplace: Path, precision: str) -> None:
    """It has the outputs of Gaussians, so the script knows neither."""
    import small_models

    from padim_edge.presets import preset

    method = preset("free", backbone="builtin", seed=3, precision=precision)
    model = small_models.export_model(small_models.dataset(small_models.weave(40)), workplace / "free.onnx", method)
    assert model.metadata.prototypes
    detector = Detector.load(model.path, "cpu")
    decisions = set()
    for image in small_models.judged():
        frame = detector.prepare(image)
        frame.tofile(workplace / "free.rgb")
        done = shell("node judge.mjs free.onnx free.rgb", workplace)
        assert done.returncode == 0, done.stderr
        found, expected = json.loads(done.stdout), detector(frame)
        assert found["score"] == pytest.approx(float(expected.score[0]), rel=ROUNDING)
        assert found["map"] == [1, 224, 224]
        assert found["anomalous"] is bool(expected.score[0] > expected.threshold)
        decisions.add(found["anomalous"])
    assert decisions == {False, True}


def unlike_above(limit: float) -> Callable[[dict[str, Any]], object]:
    return lambda metadata: metadata["reference"].update(unlike=limit)


def with_threshold(threshold: float) -> Callable[[dict[str, Any]], object]:
    return lambda metadata: metadata.update(threshold=threshold)


def test_a_frame_that_is_unlike_nearly_everywhere_is_not_comparable(workplace: Path) -> None:
    """The limit lies between a good image and noise; a defect does not reach it, and a limit of 0 is none."""
    detector = Detector.load(files.WHOLE, "cpu")
    frames = {
        "good": detector.prepare(drawn_images.good(70)),
        "anomalous": detector.prepare(drawn_images.defective(71)[0]),
        "not comparable": drawn_images.noise(3, (64, 64)),
    }
    good, _, noise = (lower_quartile(detector(frame).patch_distance)[0] for frame in frames.values())
    assert noise > 2 * good
    for limit in (float(noise + good) / 2, 0.0):
        files.rewrite(files.WHOLE, workplace / "unlike.onnx", unlike_above(limit))
        for verdict, frame in frames.items():
            frame.tofile(workplace / "frame.rgb")
            done = shell("node judge.mjs unlike.onnx frame.rgb", workplace)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            assert found["verdict"] == (verdict if limit else "good" if verdict == "good" else "anomalous")


def test_a_threshold_that_is_no_distance_is_refused(workplace: Path) -> None:
    Detector.load(files.WHOLE, "cpu").prepare(drawn_images.good(70)).tofile(workplace / "good.rgb")
    for threshold in (float("nan"), -1.0):
        files.rewrite(files.WHOLE, workplace / "nan.onnx", with_threshold(threshold))
        done = shell("node judge.mjs nan.onnx good.rgb", workplace)
        assert (done.returncode, done.stdout) == (1, "")
        assert "expected distances; run padim-edge verify" in done.stderr


def test_a_frame_of_the_wrong_size_is_refused(workplace: Path) -> None:
    (workplace / "short.rgb").write_bytes(bytes(100))
    done = shell("node judge.mjs bottle.onnx short.rgb", workplace)
    assert done.returncode == 1
    assert done.stderr == "short.rgb has 100 bytes, expected 64 rows of 64 RGB pixels\n"


def test_nothing_is_told(workplace: Path, tmp_path: Path) -> None:
    """onnxruntime from 1.29 on keeps an identifier in the home folder while its telemetry is on."""
    Detector.load(files.WHOLE, "cpu").prepare(drawn_images.good(70)).tofile(workplace / "good.rgb")
    done = shell("node judge.mjs bottle.onnx good.rgb", workplace, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
