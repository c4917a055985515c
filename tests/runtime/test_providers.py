"""Devices are used or refused, never replaced; and onnxruntime is imported in silence."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from padim_edge_artifact import ArtifactError, DeviceError
from padim_edge_runtime import Detector, providers


class FakeSession:
    """Stands in for an onnxruntime session."""

    def __init__(self, providers: list[str]) -> None:
        self.providers = providers
        self.fallback = True

    def get_providers(self) -> list[str]:
        return self.providers

    def disable_fallback(self) -> None:
        self.fallback = False


class FakeOnnxruntime(types.ModuleType):
    """An onnxruntime that lists some providers, of which some work.

    Args:
        listed: Keys of `DEVICES` that it was compiled with.
        working: Those of them that this machine has drivers for.
        raising: Those that raise instead of going on with the CPU.
    """

    def __init__(self, listed: str, working: str = "cpu", raising: str = "") -> None:
        super().__init__("onnxruntime")
        self.__version__ = "9.9"
        self.listed, self.working, self.raising = listed.split(), working.split(), raising.split()
        self.asked: list[dict[str, Any]] = []
        self.SessionOptions = types.SimpleNamespace

    def get_available_providers(self) -> list[str]:
        return [providers.DEVICES[name] for name in self.listed]

    def InferenceSession(self, source: object, options: object, **keywords: Any) -> FakeSession:  # noqa: N802
        self.asked.append({"source": source, "options": options, **keywords})
        device = next(name for name, each in providers.DEVICES.items() if each == keywords["providers"][0])
        if device in self.raising:
            raise RuntimeError(f"{device}\n   cannot start")
        if device in self.working:
            return FakeSession([*keywords["providers"], providers.DEVICES["cpu"]])
        os.write(1, b"*** EP Error: libcudnn.so.9 not found ***\n")  # as native code does
        return FakeSession([providers.DEVICES["cpu"]])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(listed: str, working: str = "cpu", raising: str = "") -> FakeOnnxruntime:
        module = FakeOnnxruntime(listed, working, raising)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return module

    return install


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
    assert ort.asked[0]["providers"] == [providers.DEVICES["tensorrt"], providers.DEVICES["cuda"]]


def test_a_missing_onnxruntime_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, golden: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"cannot be imported .* install padim-edge-runtime\[cpu\]"):
        Detector.load(golden)


def test_a_hollow_onnxruntime_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, golden: Path) -> None:
    """What is left when one of two packages that share a folder is removed."""
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
