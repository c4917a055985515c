"""The calls of trtexec: what TensorRT 10 and 11 take, as words that a shell gives back unchanged."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import golden
import pytest
from commands import run

from padim_edge_artifact import Metadata, PadimEdgeError, read_verified
from padim_edge_artifact.method import Precision
from padim_edge_runtime.devices.trtexec import calls


@pytest.fixture
def metadata(tmp_path: Path) -> Metadata:
    return read_verified(golden.copy(golden.CROPPED, tmp_path))


def test_both_forms_differ_by_one_word_that_only_ten_knows(metadata: Metadata) -> None:
    found = calls(Path("my model.onnx"), metadata, 8)
    ten, eleven = (shlex.split(found[version]) for version in ("10", "11"))
    assert set(ten) - set(eleven) == {"--stronglyTyped"}
    assert set(eleven) <= set(ten)
    assert "--onnx=my model.onnx" in eleven
    height, width = metadata.size
    assert f"--minShapes=image:1x{height}x{width}x3" in eleven
    assert f"--maxShapes=image:8x{height}x{width}x3" in eleven
    assert f"--optShapes=image:8x{height}x{width}x3" in eleven
    for word in ("--fp16", "--int8", "--bf16", "--best"):
        assert word not in ten


def in_int8(metadata: Metadata, target: str) -> Metadata:
    method = dataclasses.replace(metadata.method, precision=Precision("int8", target))
    return dataclasses.replace(metadata, method=method)


def test_what_tensorrt_does_not_take_has_no_call(metadata: Metadata) -> None:
    with pytest.raises(PadimEdgeError, match="--target tensorrt"):
        calls(Path("m.onnx"), in_int8(metadata, "cpu"))
    assert calls(Path("m.onnx"), in_int8(metadata, "tensorrt"))
    with pytest.raises(PadimEdgeError, match="expected 1 or more"):
        calls(Path("m.onnx"), metadata, 0)


def test_inspect_prints_them(tmp_path: Path) -> None:
    model = golden.copy(golden.CROPPED, tmp_path)
    stdout, _ = run("inspect", model, "--trtexec", 4)
    lines = stdout.splitlines()
    assert lines[0] == "# TensorRT 10"
    assert lines[1].startswith("trtexec --onnx=")
    assert lines[2] == "# TensorRT 11"
    assert len(lines) == 4
