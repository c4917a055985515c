"""Devices, and the onnxruntime execution providers behind them. A device that was asked for is used or refused."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from padim_edge_artifact import ArtifactError, DeviceError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["DEVICES", "Opened", "import_onnxruntime", "open_session"]

DEVICES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Devices and their execution providers, in the order in which `auto` tries them."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A session and where it runs."""

    session: onnxruntime.InferenceSession
    device: str
    """A key of `DEVICES`."""
    refused: tuple[str, ...]
    """Why `auto` passed over better devices, one sentence each."""


def import_onnxruntime() -> ModuleType:
    """The onnxruntime that is installed, with its telemetry off.

    Raises:
        DeviceError: None is installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, at import; from 1.29 it is on by default
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"onnxruntime cannot be imported ({error}); install padim-edge-runtime[cpu] or padim-edge-runtime[gpu], "
            "on a Jetson the onnxruntime-gpu wheel of its JetPack"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError(
            "the installed onnxruntime is hollow, as when one of onnxruntime and onnxruntime-gpu was removed after "
            "both were installed; uninstall both and install one of them again"
        )
    module: ModuleType = onnxruntime
    return module


def open_session(model: Path | bytes, device: str = "auto", *, threads: int | None = None) -> Opened:
    """Open a model on a device.

    Args:
        model: Path of an `.onnx` file, or its bytes.
        device: `auto`, or a key of `DEVICES`, which is then used or refused, never replaced.
        threads: CPU threads for one picture; `None` leaves it to onnxruntime (one a core).

    Raises:
        DeviceError: The device is unknown, not there, or does not take the model.
        ArtifactError: onnxruntime cannot load the model on any device.
    """
    if device != "auto":
        if device not in DEVICES:
            raise DeviceError(f"there is no device {device!r}; choose auto, {', '.join(DEVICES)}")
        return Opened(_open(model, device, threads), device, ())
    refused: list[str] = []
    for candidate in DEVICES:
        if candidate == "cpu":
            break
        try:
            return Opened(_open(model, candidate, threads), candidate, tuple(refused))
        except DeviceError as error:
            refused.append(str(error))
    return Opened(_open(model, "cpu", threads), "cpu", tuple(refused))


def _open(model: Path | bytes, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    ort = import_onnxruntime()
    provider = DEVICES[device]
    listed = ort.get_available_providers()
    if provider not in listed:
        there = ", ".join(name for name, each in DEVICES.items() if each in listed)
        raise DeviceError(
            f"the device {device!r} is not in the installed onnxruntime {ort.__version__}, which has {there}; choose "
            "one of those, or install padim-edge-runtime[gpu]"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = [provider, DEVICES["cuda"]] if device == "tensorrt" and DEVICES["cuda"] in listed else [provider]
    source = model if isinstance(model, bytes) else os.fspath(model)
    noise: list[str] = []
    try:
        # The CPU session says nothing; the others print blocks on stdout, where results belong.
        with _captured(noise) if device != "cpu" else nullcontext():
            # enable_fallback: without it, onnxruntime prints and silently goes on with another provider.
            session = ort.InferenceSession(source, options, providers=wanted, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base besides Exception
        reason = " ".join(str(error).split())[:300]
        if device == "cpu":
            raise ArtifactError(
                f"onnxruntime {ort.__version__} cannot load {model if isinstance(model, Path) else 'the graph'} "
                f"({reason}); export the model again"
            ) from error
        raise DeviceError(f"the device {device!r} does not take the model ({reason})") from error
    if provider not in session.get_providers():
        reason = " ".join("".join(noise).split())[-300:] or "its libraries or its driver are missing"
        raise DeviceError(f"the device {device!r} is not usable here ({reason}); choose another --device")
    session.disable_fallback()  # in mid-run, too
    return session


@contextmanager
def _captured(noise: list[str]) -> Iterator[None]:
    """Catch what native code prints on stdout and stderr, where Python's redirection does not reach."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        saved = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in saved:
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            noise.append(file.read().decode(errors="replace"))
