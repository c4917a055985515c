"""The C++ program of runtime/cpp, built as its README says, against the Python runtime on the same bytes."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import drawn_images
import golden as files
import numpy as np
import pytest
from judge_program import SOURCE, compare, judge, readme, refused, shell

from padim_edge_runtime import Detector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_program_is_short() -> None:
    for name, most in (("judge.cpp", 115), ("comparable.hpp", 260)):
        lines = (SOURCE / name).read_text().splitlines()
        assert len(lines) < most
        assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("model", [files.WHOLE, files.CROPPED], ids=["one file", "data file"])
def test_golden_models_decide_as_in_python(program: Path, model: Path, tmp_path: Path) -> None:
    prepare = Detector.load(model, "cpu").prepare
    frames = [prepare(drawn_images.good(70)), prepare(drawn_images.defective(71)[0])]
    assert compare(program, model, frames, tmp_path) == [False, True]


@pytest.mark.parametrize(
    ("name", "precision"),
    [("edge", "fp32"), ("edge", "int8"), ("free", "fp32"), ("free", "int8"), ("patchcore", "fp16")],
)
def test_exported_models_decide_as_in_python(program: Path, name: str, precision: str, tmp_path: Path) -> None:
    """Gaussians and memories have the same outputs, so the program knows neither."""
    import small_models

    from padim_edge.presets import preset

    good = small_models.dataset(small_models.weave(40))
    size = 128 if name == "patchcore" else None  # a tenth of the patches of 224 x 224 pixels takes minutes
    method = preset(name, backbone="builtin", seed=3, precision=precision, size=size)
    model = small_models.export_model(good, tmp_path / "weave.onnx", method).path
    prepare = Detector.load(model, "cpu").prepare
    decisions = compare(program, model, [prepare(each) for each in small_models.judged()], tmp_path)
    assert set(decisions) == {False, True}


def test_raw_camera_frames_are_judged_as_in_python(program: Path, tmp_path: Path) -> None:
    """The map has another size than the frame then."""
    import small_models

    method, camera = small_models.small("edge"), (120, 100)
    raw = dataclasses.replace(method, preprocessing=dataclasses.replace(method.preprocessing, camera=camera))
    good = small_models.dataset([drawn_images.good(i, camera) for i in range(30)])
    model = small_models.export_model(good, tmp_path / "weave.onnx", raw).path
    frames = [np.asarray(drawn_images.good(50, camera)), np.asarray(drawn_images.defective(60, camera)[0])]
    assert compare(program, model, frames, tmp_path) == [False, True]


def test_a_model_that_takes_bgr_is_refused(program: Path, tmp_path: Path) -> None:
    """Its input has another name, so that nobody feeds it RGB."""
    import small_models

    method = small_models.small("edge")
    swapped = method.changed(preprocessing=dataclasses.replace(method.preprocessing, color="bgr"))
    good = small_models.dataset(small_models.weave(8))
    model = small_models.export_model(good, tmp_path / "weave.onnx", swapped).path
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    assert "has the tensors image_bgr, score" in refused(program, model, "frame.rgb", cwd=tmp_path)


def test_the_readmes_commands_run(program: Path, tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(program.parent)
    shutil.copyfile(files.WHOLE, tmp_path / "bottle.onnx")
    drawn_images.defective(71)[0].save(tmp_path / "image.png")
    done = shell(readme("run"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (SOURCE / "README.md").read_text()
    assert (tmp_path / "map.f32").stat().st_size == 64 * 64 * 4


def test_ffmpeg_writes_the_very_frame(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    image = drawn_images.defective(71, (64, 64))[0]
    image.save(tmp_path / "image.png")
    done = shell(readme("ffmpeg"), tmp_path)
    assert done.returncode == 0, done.stderr
    expected = Detector.load(files.WHOLE, "cpu").prepare(image)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "frame.rgb", np.uint8), expected.ravel())


def test_what_the_user_can_do_wrong_gets_a_sentence(program: Path, tmp_path: Path) -> None:
    model = files.WHOLE
    (tmp_path / "short.rgb").write_bytes(bytes(64 * 64 * 3 - 1))
    (tmp_path / "long.rgb").write_bytes(bytes(64 * 64 * 3 + 1))
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    (tmp_path / "text.onnx").write_text("not a model\n")
    said = {
        case: refused(program, *case.split(), cwd=tmp_path)
        for case in (
            f"{model} short.rgb",
            f"{model} long.rgb",
            f"{model} nothing.rgb",
            f"{model} .",
            "nothing.onnx frame.rgb",
            ". frame.rgb",
            "text.onnx frame.rgb",
            f"{model} frame.rgb nowhere/map.f32",
        )
    }
    size = "bytes, expected 12288, 64 rows of 64 RGB pixels"
    assert said[f"{model} short.rgb"] == f"short.rgb has 12287 {size}"
    assert said[f"{model} long.rgb"] == f"long.rgb has 12289 {size}"
    for frame in ("nothing.rgb", "."):
        assert said[f"{model} {frame}"] == f"{frame} cannot be read; give the path of a raw RGB frame"
    for name in ("nothing.onnx", "."):
        assert said[f"{name} frame.rgb"] == f"{name} is no file; expected a model made by padim-edge export"
    assert said["text.onnx frame.rgb"].startswith("onnxruntime cannot load text.onnx (")
    assert said["text.onnx frame.rgb"].endswith(
        "copy it again, and the .data file that it may have, into the same folder"
    )
    assert said[f"{model} frame.rgb nowhere/map.f32"].startswith("nowhere/map.f32 could not be written; ")
    usage = judge(program, model, cwd=tmp_path)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: padim-edge-judge MODEL.onnx FRAME.rgb")


def test_a_map_that_cannot_be_written_leaves_nothing(program: Path, tmp_path: Path) -> None:
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    (tmp_path / "map.f32").mkdir()
    assert refused(program, files.WHOLE, "frame.rgb", "map.f32", cwd=tmp_path).startswith("map.f32 could not be ")
    assert {each.name for each in tmp_path.iterdir()} == {"frame.rgb", "map.f32", "home"}


def test_a_decision_that_nobody_got_is_an_error(program: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    with Path("/dev/full").open("w") as full:
        command = [program, files.WHOLE, tmp_path / "frame.rgb"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("padim-edge-judge: the decision could not be printed; ")


def test_a_data_file_must_be_there_and_whole(program: Path, tmp_path: Path) -> None:
    model = files.copy(files.CROPPED, tmp_path)
    data = tmp_path / "golden_data.onnx.data"
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 48 * 3))
    assert judge(program, model, "frame.rgb", cwd=tmp_path).returncode == 0
    data.write_bytes(data.read_bytes()[:1000])
    assert "copy it again" in refused(program, model, "frame.rgb", cwd=tmp_path)
    data.unlink()
    sentence = refused(program, model, "frame.rgb", cwd=tmp_path)
    assert "golden_data.onnx.data" in sentence
    assert "copy it again" in sentence


def test_a_model_of_somebody_else_is_refused(program: Path, tmp_path: Path) -> None:
    import onnx

    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[N,4] x) => (float[N,4] y, float[N,4] z) '
    onnx.save(onnx.parser.parse_model(text + "{ y = Relu(x) z = Neg(x) }"), tmp_path / "foreign.onnx")
    assert refused(program, "foreign.onnx", "frame.rgb", cwd=tmp_path) == (
        "foreign.onnx has the tensors x, y, z, no metadata of padim-edge, expected image, score, anomaly_map, "
        "patch_distance and that metadata; give a model made by padim-edge export"
    )


def forget(key: str) -> Callable[[dict[str, object]], object]:
    return lambda metadata: metadata.pop(key)


def test_other_metadata_is_refused(program: Path, tmp_path: Path) -> None:
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    model = files.rewrite(files.WHOLE, tmp_path / "other.onnx", lambda metadata: metadata.update(format_version=1))
    assert "not of format version 2" in refused(program, model, "frame.rgb", cwd=tmp_path)
    for key in ("format_version", "threshold"):
        model = files.rewrite(files.WHOLE, tmp_path / "without.onnx", forget(key))
        assert f"names no {key}; export it again" in refused(program, model, "frame.rgb", cwd=tmp_path)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0])
def test_a_threshold_that_is_no_distance_is_refused(program: Path, threshold: float, tmp_path: Path) -> None:
    (tmp_path / "frame.rgb").write_bytes(bytes(64 * 64 * 3))
    model = files.rewrite(files.WHOLE, tmp_path / "nan.onnx", lambda metadata: metadata.update(threshold=threshold))
    assert "has a threshold that is no distance; export it again" in refused(program, model, "frame.rgb", cwd=tmp_path)


def test_text_in_the_metadata_is_not_taken_for_the_threshold(program: Path, tmp_path: Path) -> None:
    """Whatever a class or a file is called, and however the JSON is laid out."""
    names = {"class_name": '"threshold": 1e9, "threshold":1e9', "created_by": "threshold"}
    model = files.rewrite(files.WHOLE, tmp_path / "named.onnx", lambda metadata: metadata.update(names))
    prepare = Detector.load(model, "cpu").prepare
    assert compare(program, model, [prepare(drawn_images.defective(71)[0])], tmp_path) == [True]


def configure(workplace: Path, cmake: str, build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Only cmake's first step."""
    command = ["cmake", "-S", str(workplace / "runtime" / "cpp"), "-B", str(build), *options]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": cmake}, check=False)


def test_headers_newer_than_the_library_are_told(workplace: Path, cmake: str, headers: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").symlink_to(workplace / "onnxruntime" / "lib")
    shutil.copytree(headers, tmp_path / "include")
    header = tmp_path / "include" / "onnxruntime_c_api.h"
    text, times = re.subn(r"(#define ORT_API_VERSION) \d+", r"\1 999", header.read_text())
    assert times == 1
    header.write_text(text)
    done = configure(workplace, cmake, tmp_path / "build", f"-DONNXRUNTIME_ROOT={tmp_path}")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", tmp_path / "build"], env=os.environ | {"PATH": cmake}, check=True)
    done = judge(tmp_path / "build" / "padim-edge-judge", "model.onnx", "frame.rgb", cwd=tmp_path)
    assert done.returncode == 1
    assert "older than its headers, 1.999; build with headers that are not newer" in done.stderr.splitlines()[-1]


def test_a_folder_without_onnxruntime_is_told(workplace: Path, cmake: str, tmp_path: Path) -> None:
    done = configure(workplace, cmake, tmp_path / "build", f"-DONNXRUNTIME_ROOT={tmp_path}")
    assert done.returncode == 1
    assert "or give -DONNXRUNTIME_ROOT=FOLDER with include/ and lib/" in " ".join(done.stderr.split())


def test_an_installed_onnxruntime_is_found(workplace: Path, cmake: str, headers: Path, tmp_path: Path) -> None:
    """By the file that its own packages bring for cmake."""
    package = tmp_path / "lib" / "cmake" / "onnxruntime" / "onnxruntimeConfig.cmake"
    package.parent.mkdir(parents=True)
    package.write_text(
        "add_library(onnxruntime::onnxruntime SHARED IMPORTED)\n"
        "set_target_properties(onnxruntime::onnxruntime PROPERTIES\n"
        f"  IMPORTED_LOCATION {workplace}/onnxruntime/lib/libonnxruntime.so\n"
        f"  INTERFACE_INCLUDE_DIRECTORIES {headers})\n"
    )
    done = configure(workplace, cmake, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={tmp_path}")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", tmp_path / "build"], env=os.environ | {"PATH": cmake}, check=True)
    done = judge(tmp_path / "build" / "padim-edge-judge", "nothing.onnx", "frame.rgb", cwd=tmp_path)
    assert "nothing.onnx is no file" in done.stderr
