"""`python -m benchmarks.gpu` where there is no GPU: it says so, and all of it runs on the CPU."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch

from benchmarks import gpu
from benchmarks.torch_fused import TorchFused
from padim_edge_runtime.devices.providers import open_session

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_the_torch_module_agrees_with_the_graph(preset: str, tmp_path: Path) -> None:
    """Written apart from it: without shared cells, triangles or narrowed stages."""
    trunk, method = small_models.trunk_of("resnet18"), small_models.small(preset, "resnet18")
    model = small_models.export_model(small_models.dataset(small_models.weave(6)), tmp_path / "m.onnx", method)
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    score, anomaly_map = open_session(model.path, "cpu").session.run(["score", "anomaly_map"], {"image": frames})
    module = TorchFused(trunk, method, model.kept.statistics).eval()
    with torch.inference_mode():
        found = [each.numpy() for each in module(torch.from_numpy(frames))]
    np.testing.assert_allclose(found[0], score, rtol=1e-3)
    np.testing.assert_allclose(found[1], anomaly_map, rtol=1e-3, atol=1e-3 * anomaly_map.max())


def test_a_device_that_is_not_there_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu.is_there("cuda", {}):
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="nothing was measured") as end:
        gpu.main()
    assert end.value.code != 0
    printed = capsys.readouterr().out
    for device in ("cuda", "tensorrt"):
        assert f"left out: {device}: the device '{device}'" in printed


def test_the_command_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "gpu.json"
    words = "gpu --device cpu --backbone builtin --images 6 --preset edge --precision fp32,fp16 --batch 1,2 --rounds 2"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--json", str(output)])
    gpu.main()
    content = json.loads(output.read_text())
    assert [(row["engine"], row["precision"], row["batch"]) for row in content["results"]] == [
        ("onnxruntime", "fp32", 1),
        ("onnxruntime", "fp32", 2),
        ("onnxruntime", "fp16", 1),
        ("onnxruntime", "fp16", 2),
        (gpu.TORCH, "fp32", 1),
        (gpu.TORCH, "fp32", 2),
    ]
    assert all(target["reached"] for target in content["targets"])
    assert max(row["score_error"] for row in content["results"][:4]) < 1e-5, "the same file on the same device"
    assert {field.name for field in dataclasses.fields(gpu.Row)} == content["results"][0].keys()
    assert "left out" not in capsys.readouterr().out
