"""Devices and the onnxruntime execution providers behind them. A device that was asked for is used or refused."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import ArtifactError, DeviceError
from padim_edge_artifact.schema import reason_of
from padim_edge_runtime.devices import tensorrt
from padim_edge_runtime.devices.engines import Engine

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["DEVICES", "Embedded", "Model", "Opened", "import_onnxruntime", "open_session"]

DEVICES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Devices and their execution providers, in the order in which `auto` tries them."""

_CUDA_OPTIONS = {"use_tf32": "0"}
"""Options of the CUDA provider. TF32 would round the factors of float32 products to 11 bits, and the whitening
magnifies that error. For speed, export fp16. The search among convolution algorithms keeps its default (EXHAUSTIVE). It
lengthens only the first call with each batch size."""

_FOLDER, _FOLDERS_SINCE = "session.model_external_initializers_file_folder_path", (1, 21)
"""Option that names the folder of a model's constants where the model itself is no file, and the first version with
it."""

_MISSING = re.compile(r"[\w.+-]+: cannot open shared object file")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Engines = Callable[[], AbstractContextManager[Engine]]
"""Gives the options of a session on TensorRT for as long as it is being opened; see `engines.engine`."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A model in a bundle, whose constants onnxruntime maps from the bundle's file."""

    content: bytes
    """Content of the model, as `container.Verified.graph`."""
    folder: Path
    """Folder of the bundle."""


Model = Path | bytes | Embedded
"""Forms of a model that a session can be opened from."""


@dataclass(frozen=True, eq=False)
class Opened:
    """An open session and where it runs."""

    session: onnxruntime.InferenceSession
    """The onnxruntime session."""
    device: str
    """A key of `DEVICES`."""
    refused: tuple[str, ...]
    """Why `auto` passed over better devices, one sentence each."""
    placement: str
    """Nodes of the graph by the device that they run on, in words."""
    largest: int | None
    """Largest batch size that the session takes; `None` for any. TensorRT's engines have one."""
    threads: int | None
    """CPU threads for one image; `None` where onnxruntime chose."""


def import_onnxruntime() -> ModuleType:
    """Import the installed onnxruntime with its telemetry off.

    Raises:
        DeviceError: No onnxruntime is installed, or it is broken.
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


def open_session(
    model: Model, device: str = "auto", *, threads: int | None = None, engines: Engines | None = None
) -> Opened:
    """Open a model on a device.

    Args:
        model: Path of an `.onnx` file, its bytes, or a model in a bundle.
        device: `auto`, or a key of `DEVICES`. Any value but `auto` fails if that device is unavailable.
        threads: CPU threads for one image; `None` leaves it to onnxruntime (one per core).
        engines: Asked when TensorRT is tried; `None` keeps no engine and builds one whenever the batch size grows.

    Raises:
        DeviceError: The device is unknown, not there, or does not take the model.
        ArtifactError: onnxruntime cannot load the model on any device.
    """
    if device != "auto":
        if device not in DEVICES:
            raise DeviceError(f"there is no device {device!r}; choose auto, {', '.join(DEVICES)}")
        return _open(model, device, threads, engines, ())
    refused: list[str] = []
    for candidate in DEVICES:
        if candidate == "cpu":
            break
        try:
            return _open(model, candidate, threads, engines, tuple(refused))
        except DeviceError as error:
            refused.append(str(error))
    return _open(model, "cpu", threads, None, tuple(refused))


def _open(model: Model, device: str, threads: int | None, engines: Engines | None, refused: tuple[str, ...]) -> Opened:
    ort = import_onnxruntime()
    listed = ort.get_available_providers()
    if DEVICES[device] not in listed:
        there = ", ".join(name for name, each in DEVICES.items() if each in listed)
        raise DeviceError(
            f"the device {device!r} is not in the installed onnxruntime {ort.__version__}, which has {there}; choose "
            "one of those, or install padim-edge-runtime[gpu]"
        )
    if device == "cpu":
        session = _session(ort, model, device, threads, [DEVICES[device]])
        return Opened(session, device, refused, "all nodes on cpu", None, threads)
    if device == "tensorrt" and isinstance(model, Embedded):
        raise DeviceError(
            "TensorRT builds its engine from a model file, and this model is in a bundle; take it out with padim-edge "
            "unbundle, or choose --device cuda"
        )
    _preload(ort)
    if device == "cuda":
        session = _session(ort, model, device, threads, [(DEVICES[device], _CUDA_OPTIONS)])
        return Opened(session, device, refused, _placement(session, device), None, threads)
    tensorrt.preload()
    with engines() if engines else nullcontext() as engine:
        wanted: list[Any] = [(DEVICES[device], dict(engine.options) if engine else {})]
        if DEVICES["cuda"] in listed:
            wanted.append((DEVICES["cuda"], _CUDA_OPTIONS))
        session = _session(ort, model, device, threads, wanted)
        placement = _placement(session, device)
    return Opened(session, device, refused, placement, engine.largest if engine else None, threads)


def _session(
    ort: ModuleType, model: Model, device: str, threads: int | None, wanted: list[Any]
) -> onnxruntime.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever its name and content say
    if threads is not None:
        options.intra_op_num_threads = threads
    if device == "cpu":
        # Otherwise, the second image gets a block for all of its activations beside what the first one left behind:
        # twice the memory at the same speed.
        options.enable_mem_pattern = False
        # TensorRT's codes and weights are int8 up to 127. Otherwise, onnxruntime on x86 makes the codes unsigned, and
        # processors without VNNI then add two products in 16 bits, and silently cut off larger sums.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    else:
        # session.disable_cpu_ep_fallback would refuse a model for one small node without a GPU kernel, such as an int8
        # model for the CPU has. So the placement of the nodes is recorded and reported; see `_placement`.
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if isinstance(model, Embedded):
        if tuple(int(part) for part in re.findall(r"\d+", ort.__version__)[:2]) < _FOLDERS_SINCE:
            raise ArtifactError(
                f"onnxruntime {ort.__version__} cannot map the constants of a bundle, expected "
                f"{'.'.join(map(str, _FOLDERS_SINCE))} or newer; take the model out with padim-edge unbundle"
            )
        options.add_session_config_entry(_FOLDER, os.fspath(model.folder))
    source = model.content if isinstance(model, Embedded) else model if isinstance(model, bytes) else os.fspath(model)
    noise: list[str] = []
    try:
        # The CPU session says nothing; the others print blocks on stdout, where results belong.
        with _captured(noise) if device != "cpu" else nullcontext():
            # enable_fallback: without it, onnxruntime prints and silently goes on with another provider.
            session = ort.InferenceSession(source, options, providers=wanted, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base besides Exception
        reason = reason_of(error, 300)  # it may quote names of the graph
        if device == "cpu":
            raise ArtifactError(
                f"onnxruntime {ort.__version__} cannot load {model if isinstance(model, Path) else 'the graph'} "
                f"({reason}); export the model again"
            ) from error
        if missing := _MISSING.search("".join(noise)):
            raise DeviceError(
                f"the device {device!r} is not usable here ({missing[0]}); see padim-edge doctor"
            ) from error
        raise DeviceError(f"the device {device!r} does not take the model ({reason})") from error
    if DEVICES[device] not in session.get_providers():
        said = _COLOURS.sub("", "".join(noise))
        missing = _MISSING.search(said)
        reason = missing[0] if missing else " ".join(said.split())[-300:] or "its libraries or its driver are missing"
        raise DeviceError(f"the device {device!r} is not usable here ({reason}); see padim-edge doctor")
    session.disable_fallback()  # in mid-run, too
    return session


def _preload(ort: ModuleType) -> None:
    """Let onnxruntime load CUDA and cuDNN from pip's packages, which the linker does not search; drop its prints."""
    with _captured([]), redirect_stdout(io.StringIO()), warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        ort.preload_dlls()  # not in versions before 1.21; what is missing, the session says


def _placement(session: onnxruntime.InferenceSession, device: str) -> str:
    """Say which nodes run where, as onnxruntime recorded it.

    Raises:
        DeviceError: No node runs on the device, though its provider is there.
    """
    try:
        assigned = [
            (str(part.ep_name), str(node.op_type))
            for part in session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]
    except Exception:  # noqa: BLE001  # older versions do not know the question; nothing depends on the answer
        assigned = []
    if not assigned:
        return "this onnxruntime does not tell which nodes run where"
    names = {provider: name for name, provider in DEVICES.items()}
    elsewhere: dict[str, list[str]] = {}
    for provider, operator in assigned:
        if provider != DEVICES[device]:
            elsewhere.setdefault(names.get(provider, provider), []).append(operator)
    if not elsewhere:
        return f"all {len(assigned)} nodes on {device}"
    told = "; ".join(
        f"{len(operators)} of {len(assigned)} nodes on {name} ({', '.join(sorted(set(operators)))})"
        for name, operators in elsewhere.items()
    )
    if sum(map(len, elsewhere.values())) == len(assigned):
        raise DeviceError(
            f"the device {device!r} does not take the model (it would run {told}); choose another --device"
        )
    return told


@contextmanager
def _captured(noise: list[str]) -> Iterator[None]:
    """Catch the prints of native code on stdout and stderr, which Python's redirection does not reach."""
    sys.stdout.flush()
    sys.stderr.flush()
    ours = sys.stderr
    with tempfile.TemporaryFile() as file:
        saved = {number: os.dup(number) for number in (1, 2)}
        try:
            if _writes_to(ours, 2):  # Python keeps the old one: a progress bar moves while an engine is built
                sys.stderr = open(saved[2], "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            for number in saved:
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stderr = ours
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            noise.append(file.read().decode(errors="replace"))


def _writes_to(stream: Any, number: int) -> bool:
    try:
        return bool(stream.fileno() == number)
    except (AttributeError, OSError, ValueError):
        return False
