"""Devices are used or refused, never replaced; and onnxruntime is imported in silence."""

from __future__ import annotations

import json
import os
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import commands
import drawn_images
import fake_onnxruntime
import pytest

from padim_edge_artifact import ArtifactError, DeviceError
from padim_edge_artifact.self_test import probe_image
from padim_edge_runtime import Detector
from padim_edge_runtime.devices import providers


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    return partial(fake_onnxruntime.install, monkeypatch)


MODEL = Path("model.onnx")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "CUDAExecutionProvider", "cuda:0"])
def test_an_unknown_device_is_refused_and_the_known_ones_are_listed(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        providers.open_session(MODEL, name)
    assert f"no device {name!r}" in str(caught.value)
    assert all(known in str(caught.value) for known in ("auto", *providers.DEVICES))


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_installed_is_refused_and_those_that_are_there_are_listed(fake: Any, device: str) -> None:
    fake("cpu")
    with pytest.raises(DeviceError, match=f"'{device}' is not in the installed onnxruntime 9.9, which has cpu;"):
        providers.open_session(MODEL, device)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_falls_back_silently_is_refused_with_its_own_words(
    fake: Any, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime goes on with the CPU; what it prints then belongs into the sentence and not among the results."""
    fake("tensorrt cuda cpu")
    with pytest.raises(DeviceError, match=r"not usable here \(.*libcudnn\.so\.9 not found"):
        providers.open_session(MODEL, device)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("raising", ["", "cuda"])
def test_a_missing_library_is_named_without_the_noise_around_it(
    fake: Any, raising: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime 1.31 prints it in red; TensorRT's provider also raises, and CUDA's does not."""
    ort = fake("cuda cpu", raising=raising)
    session = ort.InferenceSession

    def noisy(*arguments: Any, **keywords: Any) -> Any:
        os.write(2, b"\x1b[1;31m2026-11-27 [E:onnxruntime] Failed to load library /x/libonnxruntime_providers_cuda.so ")
        os.write(2, b"with error: libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m")
        return session(*arguments, **keywords)

    monkeypatch.setattr(ort, "InferenceSession", noisy)
    with pytest.raises(DeviceError) as caught:
        providers.open_session(MODEL, "cuda")
    reason = "libcublasLt.so.13: cannot open shared object file"
    assert str(caught.value) == f"the device 'cuda' is not usable here ({reason}); see padim-edge doctor"


def test_a_device_that_raises_is_refused_in_one_line(fake: Any) -> None:
    fake("cuda cpu", raising="cuda")
    with pytest.raises(DeviceError, match=r"'cuda' does not take the model \(cuda cannot start\)"):
        providers.open_session(MODEL, "cuda")


def test_a_model_that_the_cpu_does_not_take_is_the_models_fault(fake: Any) -> None:
    fake("cpu", raising="cpu")
    with pytest.raises(ArtifactError, match=r"onnxruntime 9\.9 cannot load model\.onnx \(cpu cannot start\)"):
        providers.open_session(MODEL, "auto")


@pytest.mark.parametrize(
    ("listed", "working", "raising", "chosen", "refused"),
    [
        ("cpu", "cpu", "", "cpu", ["tensorrt", "cuda"]),
        ("tensorrt cuda cpu", "cpu", "", "cpu", ["tensorrt", "cuda"]),
        ("tensorrt cuda cpu", "cuda cpu", "", "cuda", ["tensorrt"]),
        ("tensorrt cuda cpu", "cuda cpu", "tensorrt", "cuda", ["tensorrt"]),
        ("tensorrt cuda cpu", "tensorrt cuda cpu", "", "tensorrt", []),
        ("cuda cpu", "cuda cpu", "", "cuda", ["tensorrt"]),
    ],
)
def test_auto_takes_the_best_that_works_and_says_why_not_the_others(
    fake: Any, listed: str, working: str, raising: str, chosen: str, refused: list[str]
) -> None:
    fake(listed, working, raising)
    opened = providers.open_session(MODEL, "auto")
    assert opened.device == chosen
    assert len(opened.refused) == len(refused)
    for reason, name in zip(opened.refused, refused, strict=True):
        assert repr(name) in reason
        assert "\n" not in reason


@pytest.mark.parametrize("device", providers.DEVICES)
def test_a_strict_device_refuses_nothing_and_never_changes_in_mid_run(fake: Any, device: str) -> None:
    ort = fake("tensorrt cuda cpu", "tensorrt cuda cpu")
    opened = providers.open_session(MODEL, device, threads=3)
    assert (opened.device, opened.refused) == (device, ())
    assert not opened.session.fallback  # type: ignore[attr-defined]
    (asked,) = ort.asked
    assert asked["enable_fallback"] == 0
    assert asked["options"].intra_op_num_threads == 3


def test_tensorrt_leaves_to_cuda_what_it_cannot_do(fake: Any) -> None:
    ort = fake("tensorrt cuda cpu", "tensorrt cuda cpu")
    providers.open_session(MODEL, "tensorrt")
    assert [name for name, _ in ort.asked[0]["providers"]] == [providers.DEVICES["tensorrt"], providers.DEVICES["cuda"]]
    ort = fake("tensorrt cpu", "tensorrt cpu")
    providers.open_session(MODEL, "tensorrt")
    assert [name for name, _ in ort.asked[0]["providers"]] == [providers.DEVICES["tensorrt"]]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_cuda_computes_float32_in_float32_wherever_it_computes(fake: Any, device: str) -> None:
    ort = fake("tensorrt cuda cpu", "tensorrt cuda cpu")
    providers.open_session(MODEL, device)
    assert dict(ort.asked[0]["providers"])[providers.DEVICES["cuda"]] == {"use_tf32": "0"}


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_libraries_of_pip_are_loaded_before_a_gpu_is_tried_and_what_that_prints_is_dropped(
    fake: Any, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ort = fake("tensorrt cuda cpu")
    calls = []

    def preload() -> None:
        calls.append(len(ort.asked))
        print("Failed to load libcudnn.so.9")
        os.write(2, b"native noise")
        raise RuntimeError("no such folder")

    ort.preload_dlls = preload
    with pytest.raises(DeviceError, match="not usable here") as caught:
        providers.open_session(MODEL, device)
    assert calls == [0]
    assert "Failed to load" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    providers.open_session(MODEL, "cpu")
    assert calls == [0]


def test_python_may_write_to_stderr_while_a_session_opens(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A progress bar moves while TensorRT builds; native noise is caught all the same."""
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115
    noise: list[str] = []
    ours = sys.stderr
    with providers._captured(noise):
        os.write(2, b"native")
        sys.stderr.write("50 %")
    assert sys.stderr is ours
    assert noise == ["native"]
    assert capfd.readouterr().err == "50 %"


@pytest.mark.parametrize(
    ("device", "assigned", "told"),
    [
        ("cuda", {"cuda": 40}, "all 40 nodes on cuda"),
        ("cuda", {"cuda": 38, "cpu": 2}, "2 of 40 nodes on cpu (Conv)"),
        (
            "tensorrt",
            {"cuda": 3, "cpu": 1, "tensorrt": 36},
            "3 of 40 nodes on cuda (Conv); 1 of 40 nodes on cpu (Conv)",
        ),
        ("tensorrt", {}, "this onnxruntime does not tell which nodes run where"),
        ("cuda", None, "this onnxruntime does not tell which nodes run where"),
    ],
)
def test_nodes_that_run_elsewhere_are_told(fake: Any, device: str, assigned: dict[str, int] | None, told: str) -> None:
    ort = fake("tensorrt cuda cpu", "tensorrt cuda cpu", assigned=assigned)
    opened = providers.open_session(MODEL, device)
    assert opened.placement == told
    assert ort.asked[0]["options"].entries == {
        "session.load_model_format": "ONNX",
        "session.record_ep_graph_assignment_info": "1",
    }


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_takes_no_node_is_refused_though_its_provider_is_there(fake: Any, device: str) -> None:
    fake("tensorrt cuda cpu", "tensorrt cuda cpu", assigned={"cpu": 40})
    with pytest.raises(DeviceError, match=r"does not take the model \(it would run 40 of 40 nodes on cpu"):
        providers.open_session(MODEL, device)
    opened = providers.open_session(MODEL, "auto")
    assert opened.device == "cpu"
    assert len(opened.refused) == 2


def test_the_real_onnxruntime_tells_where_nodes_run(golden: Path) -> None:
    ort = providers.import_onnxruntime()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(golden, options, providers=["CPUExecutionProvider"])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip(f"onnxruntime {ort.__version__} does not tell which nodes run where")
    told = providers._placement(session, "cpu")
    assert told.startswith("all ")
    assert int(told.split()[1]) > 20
    assert told.endswith(" nodes on cpu")
    with pytest.raises(DeviceError, match=r"it would run \d+ of \d+ nodes on cpu \(Add, Cast, "):
        providers._placement(session, "cuda")


class Failing:
    """An inner session whose second call fails as a GPU does."""

    def __init__(self, real: Any) -> None:
        self.real, self.calls = real, 0

    def run(self, *arguments: Any) -> Any:
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

        self.calls += 1
        if self.calls == 2:
            raise EPFail("CUDA failure 700: an illegal memory access was encountered")
        return self.real.run(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_a_device_that_fails_in_mid_run_is_an_error_and_nothing_takes_its_place(
    golden: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime's own Python code would print on stdout and go on with another provider, for good."""
    detector = Detector.load(golden, "cpu")
    session = detector.session
    before = session.get_providers()
    session._sess = failing = Failing(session._sess)
    frame = probe_image(detector.metadata.size)
    detector(frame)
    with pytest.raises(DeviceError, match=r"'cpu' failed while it ran \(.*CUDA failure 700"):
        detector(frame)
    assert failing.calls == 2
    assert session._sess is failing
    assert session.get_providers() == before
    assert capfd.readouterr() == ("", "")
    # With its fallback on, it does all that, so this test says something.
    failing.calls = 1
    session._fallback_providers = before
    session.enable_fallback()
    detector(frame)
    assert session._sess is not failing
    assert "Falling back" in capfd.readouterr().out


def test_infer_stops_with_one_sentence_where_the_device_fails_in_mid_run(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        drawn_images.good(i).save(tmp_path / f"{i}.png")
    load = Detector.load

    def failing(*arguments: Any, **keywords: Any) -> Detector:
        detector = load(*arguments, **keywords)
        detector.session._sess = Failing(detector.session._sess)
        return detector

    monkeypatch.setattr(Detector, "load", failing)
    stdout, stderr = commands.run("infer", golden, tmp_path, "--device", "cpu", "--json", code=1)
    assert all(json.loads(line)["path"] for line in stdout.splitlines())
    assert len(stdout.splitlines()) < 4
    (sentence,) = stderr.splitlines()
    assert "failed while it ran" in sentence
    assert capfd.readouterr() == ("", "")


def test_a_missing_onnxruntime_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, golden: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"cannot be imported .* install padim-edge-runtime\[cpu\]"):
        Detector.load(golden)


def test_a_hollow_onnxruntime_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, golden: Path) -> None:
    """Remains of two packages that share a folder, of which one was removed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(DeviceError, match=r"hollow, .* uninstall both and install one"):
        Detector.load(golden)


def test_telemetry_is_off_unless_somebody_turned_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    providers.import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    providers.import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_the_real_onnxruntime_opens_the_golden_model(golden: Path, device: str) -> None:
    opened = providers.open_session(golden, device)
    assert opened.device == device
    assert providers.DEVICES[device] in opened.session.get_providers()
    assert providers.open_session(golden.read_bytes(), device).device == device


def test_auto_names_the_device_that_the_session_itself_names(golden: Path) -> None:
    opened = providers.open_session(golden, "auto")
    better = list(providers.DEVICES).index(opened.device)
    assert opened.session.get_providers()[0] == providers.DEVICES[opened.device]
    assert len(opened.refused) == better
