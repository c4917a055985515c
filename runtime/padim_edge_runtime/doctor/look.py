"""Everything that `padim-edge doctor` looks at."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import metadata

from padim_edge_runtime import memory
from padim_edge_runtime.doctor import graphics, jetson, libraries
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding, Report, guarded
from padim_edge_runtime.doctor.installer import pip
from padim_edge_runtime.doctor.trial import Trial, tried
from padim_edge_runtime.prefetch import cores

__all__ = ["examine"]

_OLDEST = (3, 10)

_NOT_A_RUNTIME = ("-ep-", "-tools", "-extensions", "-genai")
"""Parts of distribution names that begin with onnxruntime and do not bring its module."""

_ENOUGH = 500_000_000
"""Bytes of free memory that a model of the usual size needs."""

_UNTESTED = "padim-edge has not been tested on it yet, so run padim-edge verify MODEL"
"""Remark on devices that no model of ours has run on."""


def examine() -> Report:
    """Look at everything; what cannot be looked at is a finding of its own."""
    trial = tried()
    board = jetson.find()
    findings = [
        *guarded("interpreter", _interpreter),
        *guarded("packages", _packages),
        *guarded("onnxruntime", partial(_onnxruntime, trial, board)),
        *guarded("devices", partial(_devices, trial, board)),
        *guarded("Jetson", partial(_jetson, board, trial)),
        *guarded("GPU", partial(_gpu, trial, board)),
        *guarded("machine", _machine),
        *guarded("telemetry", _telemetry),
    ]
    return Report(tuple(findings), trial.usable)


def _interpreter() -> Iterator[Finding]:
    version, where = platform.python_version(), f"{platform.system()} {platform.machine()}"
    libc = " ".join(platform.libc_ver()).strip()
    cure = None
    if sys.version_info[:2] < _OLDEST:
        cure = "install Python 3.10 or newer"
    elif sys.maxsize < 2**32:  # as on a Raspberry Pi with a system of 32 bits, even below a kernel of 64
        where += ", 32 bits"
        cure = "install a system of 64 bits: onnxruntime has no wheels for 32"
    yield Finding(
        "interpreter",
        f"{platform.python_implementation()} {version}, {where}{f', {libc}' if libc else ''}",
        FAILED if cure else FINE,
        cure,
    )


def _packages() -> Iterator[Finding]:
    for name in ("padim-edge-runtime", "numpy", "pillow", "typer"):
        try:
            yield Finding(name, str(metadata.version(name)))
        except metadata.PackageNotFoundError:
            own = name == "padim-edge-runtime"
            cure = "install its wheel; this is a folder of its files" if own else pip(f"install {name}")
            yield Finding(name, "not installed", FAILED, cure)


def distributions() -> dict[str, str]:
    """List the distributions that bring a module `onnxruntime`, with their versions."""
    found = {}
    for each in metadata.distributions():
        try:
            name = (each.metadata["Name"] or "").lower().replace("_", "-")
            version = str(each.version)
        except Exception:  # noqa: BLE001, S112  left behind by an interrupted installation
            continue
        if name.startswith("onnxruntime") and not any(part in name for part in _NOT_A_RUNTIME):
            found[name] = version
    return dict(sorted(found.items()))


def _onnxruntime(trial: Trial, board: jetson.Jetson | None) -> Iterator[Finding]:
    found = distributions()
    listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "no distribution"
    away = _away(found)
    if len(found) > 1:
        cure = f"they overwrite each other: {away}{_wanted(board, found)}"
        yield Finding("onnxruntime", f"{listed}: several", FAILED, cure)
    elif trial.failure and "NumPy 1" in trial.failure:
        older = pip('install "numpy<2"')
        yield Finding("onnxruntime", f"{listed}: {trial.failure}", FAILED, older)
    elif trial.failure:
        yield Finding("onnxruntime", f"{listed}: {trial.failure}", FAILED, away + _wanted(board, found))
    elif trial.package and found and trial.package not in found:
        cure = away + _wanted(board, found)
        yield Finding("onnxruntime", f"{listed}, but the module is of {trial.package}", FAILED, cure)
    else:
        yield Finding("onnxruntime", f"{trial.version} ({listed})")


def _away(found: Iterable[str]) -> str:
    """Say what comes before another onnxruntime is installed."""
    return f"{pip('uninstall -y ' + ' '.join(found))}, then " if found else ""


def _wanted(board: jetson.Jetson | None, found: dict[str, str]) -> str:
    """Say where onnxruntime comes from: the one that is clearly wanted, or both."""
    if board is not None:
        return board.source
    cpu, gpu = (pip(f'install "padim-edge-runtime[{extra}]"') for extra in ("cpu", "gpu"))
    if len(found) == 1:
        return gpu if "onnxruntime-gpu" in found else cpu
    return f"{cpu}, or [gpu] in place of [cpu] for an NVIDIA GPU"


def _devices(trial: Trial, board: jetson.Jetson | None) -> Iterator[Finding]:
    for device, provider in _providers().items():
        if device in trial.usable:
            tested = "" if device == "cpu" else f"; {_UNTESTED}"
            yield Finding(f"device {device}", f"usable, tried out{tested}", NOTE if tested else FINE)
        elif trial.version is None:
            continue
        elif device in trial.ended:
            # `auto` would try it, too, and die of it.
            cure = "use --device cpu, not auto" if device != "cpu" else "install another version of onnxruntime"
            yield Finding(f"device {device}", trial.refused[device], FAILED, cure)
        elif provider in trial.listed:
            lacks = device != "cpu" and libraries.lacks(device, trial.missing or ())
            reason = trial.refused.get(device, "no reason was given")
            # What is missing is told below, and nothing is wrong with a machine that has no GPU or no TensorRT.
            harmless = lacks or device == "tensorrt" or (device == "cuda" and not trial.driver.capabilities)
            yield Finding(
                f"device {device}",
                "named by onnxruntime, but not usable: " + ("libraries are missing, see below" if lacks else reason),
                NOTE if harmless else FAILED,
            )
        else:
            cure = None
            if device == "cuda" and trial.driver.capabilities and board is None:
                cure = f"for the GPU: {_away(distributions())}" + pip('install "padim-edge-runtime[gpu]"')
            yield Finding(f"device {device}", "not in this onnxruntime", FAILED if device == "cpu" else NOTE, cure)


def _gpu(trial: Trial, board: jetson.Jetson | None) -> Iterator[Finding]:
    return graphics.examine(trial, platform.machine(), board, found=distributions())


def _providers() -> dict[str, str]:
    from padim_edge_runtime.devices.providers import DEVICES

    return DEVICES


def _jetson(board: jetson.Jetson | None, trial: Trial) -> Iterator[Finding]:
    if board is None:
        return
    jetpack = f"JetPack {board.jetpack}" if board.jetpack else "an unknown JetPack"
    usable = "cuda" in trial.usable
    yield Finding(
        "Jetson",
        f"{board.model}, Jetson Linux {board.release} ({jetpack}); {_UNTESTED}",
        NOTE,
        None if usable else _away(distributions()) + board.source,
    )


def _machine() -> Iterator[Finding]:
    given, there = cores(), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding(
        "threads", f"{given} of {there} cores for this process" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    )
    found = memory.of_machine()
    if found is None:
        yield Finding("memory", "this system does not say", NOTE)
        return
    little = found.free < _ENOUGH
    yield Finding(
        "memory",
        f"{found.free / 1e6:.0f} MB free of {found.total / 1e6:.0f}",
        NOTE if little else FINE,
        "close other programs, or use a model of --precision int8" if little else None,
    )


def _telemetry() -> Iterator[Finding]:
    said = os.environ.get("ORT_DISABLE_TELEMETRY")
    if said not in (None, "1"):
        yield Finding(
            "telemetry",
            f"ORT_DISABLE_TELEMETRY={said}, so onnxruntime 1.29 and newer may send some",
            NOTE,
            "unset ORT_DISABLE_TELEMETRY, or set it to 1",
        )
    else:
        yield Finding("telemetry", "off: padim-edge says so to onnxruntime before it is imported")
