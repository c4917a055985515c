"""An onnxruntime with GPU devices, for machines that have none: its sessions compute on the real CPU."""

from __future__ import annotations

import os
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from padim_edge_runtime.devices import engines, providers, tensorrt

__all__ = ["FakeOnnxruntime", "FakeSession", "install", "with_tensorrt"]


class FakeOptions:
    """Stands in for `SessionOptions`."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class FakeSession:
    """Stands in for an onnxruntime session.

    Args:
        providers: What it says it uses.
        assigned: Number of nodes by provider, all of them `Conv`; empty for a version that does not tell.
        real: A session that computes.
    """

    def __init__(self, providers: list[str], assigned: dict[str, int] | None = None, real: Any = None) -> None:
        self.providers = providers
        self.assigned = assigned
        self.fallback = True
        self.real = real

    def get_providers(self) -> list[str]:
        return self.providers

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_provider_graph_assignment_info(self) -> list[Any]:
        if self.assigned is None:
            raise RuntimeError("Session configuration entry must be set")
        node = types.SimpleNamespace(op_type="Conv")
        return [
            types.SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [node] * count)
            for name, count in self.assigned.items()
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class FakeOnnxruntime(types.ModuleType):
    """An onnxruntime that lists some providers, of which some work.

    Args:
        listed: Keys of `DEVICES` that it was compiled with.
        working: Those of them that this machine has drivers for.
        raising: Those that raise instead of going on with the CPU.
        assigned: As for `FakeSession`, with keys of `DEVICES`.
        computes: Whether its sessions run models.
    """

    def __init__(
        self,
        listed: str,
        working: str = "cpu",
        raising: str = "",
        assigned: dict[str, int] | None = None,
        *,
        computes: bool = False,
    ) -> None:
        super().__init__("onnxruntime")
        self.__version__ = "9.9"
        self.listed, self.working, self.raising = listed.split(), working.split(), raising.split()
        self.assigned = None if assigned is None else {providers.DEVICES[name]: n for name, n in assigned.items()}
        self.asked: list[dict[str, Any]] = []
        self.builds: Counter[str] = Counter()
        self.SessionOptions = FakeOptions
        self.real = providers.import_onnxruntime() if computes else None

    def get_available_providers(self) -> list[str]:
        return [providers.DEVICES[name] for name in self.listed]

    def InferenceSession(self, source: Any, options: object, **keywords: Any) -> FakeSession:  # noqa: N802
        self.asked.append({"source": source, "options": options, **keywords})
        named = [each if isinstance(each, tuple) else (each, {}) for each in keywords["providers"]]
        device = next(name for name, each in providers.DEVICES.items() if each == named[0][0])
        if device in self.raising:
            raise RuntimeError(f"{device}\n   cannot start")
        if device not in self.working:
            os.write(1, b"*** EP Error: libcudnn.so.9 not found ***\n")  # as native code does
            return FakeSession([providers.DEVICES["cpu"]])
        if "trt_profile_max_shapes" in named[0][1]:
            self._build(named[0][1])
        real = None if self.real is None else self.real.InferenceSession(source, providers=["CPUExecutionProvider"])
        return FakeSession([*(name for name, _ in named), providers.DEVICES["cpu"]], self.assigned, real)

    def _build(self, options: dict[str, str]) -> None:
        """Write the files of TensorRT's provider for a session with explicit profiles."""
        os.write(1, b"building\n")
        if options.get("trt_engine_cache_enable") != "True":
            self.builds["not kept"] += 1
            return
        engine = Path(options["trt_engine_cache_path"]) / "TensorrtExecutionProvider_graph_123_sm89.engine"
        shapes = options["trt_profile_max_shapes"]
        if engine.exists():
            if engine.read_text() != shapes:
                raise RuntimeError(f"could not deserialize engine from cache: {engine}")
            return
        self.builds[shapes] += 1
        engine.write_text(shapes)
        timings = Path(options["trt_timing_cache_path"]) / "TensorrtExecutionProvider_cache_sm89.timing"
        timings.write_text((timings.read_text() if timings.exists() else "") + "measured\n")


def install(patch: pytest.MonkeyPatch, *arguments: Any, **keywords: Any) -> FakeOnnxruntime:
    """Let `import onnxruntime` find a fake one."""
    module = FakeOnnxruntime(*arguments, **keywords)
    patch.setitem(sys.modules, "onnxruntime", module)
    return module


def with_tensorrt(patch: pytest.MonkeyPatch, cache: Path) -> FakeOnnxruntime:
    """The same with TensorRT 10.9 and a GPU of compute capability 8.9, and the user's cache in this folder."""
    patch.setattr(tensorrt, "version", lambda: "10.9.0")
    patch.setattr(engines, "_capability", lambda: "8.9")
    patch.delenv(engines.CACHE_VARIABLE, raising=False)
    patch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    patch.setenv("XDG_CACHE_HOME", str(cache))
    return install(patch, "tensorrt cuda cpu", "tensorrt cuda cpu", assigned={"tensorrt": 40}, computes=True)
