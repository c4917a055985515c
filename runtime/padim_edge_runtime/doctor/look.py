"""All that `padim-edge doctor` looks at."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

from padim_edge_runtime.doctor import graphics, jetson
from padim_edge_runtime.doctor.findings import FAILED, FINE, NOTE, Finding, Report, guarded
from padim_edge_runtime.doctor.trial import Trial, tried
from padim_edge_runtime.prefetch import cores

__all__ = ["examine"]

_OLDEST = (3, 10)

_NOT_A_RUNTIME = ("-ep-", "-tools", "-extensions", "-genai")
"""Parts of names that begin as onnxruntime's and do not bring its module."""

_ENOUGH_MB = 500
"""Of free memory, for a model of the usual size."""


def examine() -> Report:
    """Look at everything. What cannot be looked at is a finding of its own."""
    trial = tried()
    board = jetson.find()
    findings = [
        *guarded("interpreter", _interpreter),
        *guarded("packages", _packages),
        *guarded("onnxruntime", partial(_onnxruntime, trial, board)),
        *guarded("devices", partial(_devices, trial)),
        *guarded("Jetson", partial(_jetson, board, trial)),
        *guarded("GPU", partial(graphics.examine, trial.version, platform.machine(), board)),
        *guarded("machine", _machine),
        *guarded("telemetry", _telemetry),
    ]
    return Report(tuple(findings), trial.usable)


def _interpreter() -> Iterator[Finding]:
    version, where = platform.python_version(), f"{platform.system()} {platform.machine()}"
    libc = " ".join(platform.libc_ver()).strip()
    old = sys.version_info[:2] < _OLDEST
    yield Finding(
        "interpreter",
        f"{platform.python_implementation()} {version}, {where}{f', {libc}' if libc else ''}",
        FAILED if old else FINE,
        "install Python 3.10 or newer" if old else None,
    )


def _packages() -> Iterator[Finding]:
    for name in ("padim-edge-runtime", "numpy", "pillow", "typer"):
        try:
            yield Finding(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", FAILED, f"pip install {name}")


def distributions() -> dict[str, str]:
    """Distributions that bring a module `onnxruntime`, with their versions."""
    found = {}
    for each in metadata.distributions():
        name = (each.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith("onnxruntime") and not any(part in name for part in _NOT_A_RUNTIME):
            found[name] = each.version
    return dict(sorted(found.items()))


def _onnxruntime(trial: Trial, board: jetson.Jetson | None) -> Iterator[Finding]:
    found = distributions()
    listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "no distribution"
    wanted = board.source if board else "pip install padim-edge-runtime[cpu] or padim-edge-runtime[gpu]"
    if len(found) > 1:
        names = " ".join(found)
        cure = f"they overwrite each other: pip uninstall -y {names}, then pip install one of them again"
        yield Finding("onnxruntime", f"{listed}: several", FAILED, cure)
    elif trial.failure:
        yield Finding("onnxruntime", f"{listed}: {trial.failure}", FAILED, wanted)
    elif trial.package and found and trial.package not in found:
        cure = f"pip uninstall -y {' '.join(found)}, then install it again"
        yield Finding("onnxruntime", f"{listed}, but the module is of {trial.package}", FAILED, cure)
    else:
        yield Finding("onnxruntime", f"{trial.version} ({listed})")


def _devices(trial: Trial) -> Iterator[Finding]:
    for device, provider in _providers().items():
        if device in trial.usable:
            yield Finding(f"device {device}", "usable, tried out")
        elif trial.version is None:
            continue
        elif provider in trial.listed:
            reason = trial.refused.get(device, "no reason was given")
            yield Finding(f"device {device}", f"named by onnxruntime, but not usable: {reason}", NOTE)
        else:
            yield Finding(f"device {device}", "not in this onnxruntime", FAILED if device == "cpu" else NOTE)


def _providers() -> dict[str, str]:
    from padim_edge_runtime.providers import DEVICES

    return DEVICES


def _jetson(board: jetson.Jetson | None, trial: Trial) -> Iterator[Finding]:
    if board is None:
        return
    jetpack = f"JetPack {board.jetpack}" if board.jetpack else "an unknown JetPack"
    usable = "cuda" in trial.usable
    yield Finding(
        "Jetson",
        f"{board.model}, Jetson Linux {board.release} ({jetpack})",
        FINE if usable else NOTE,
        None if usable else board.source,
    )


def _machine() -> Iterator[Finding]:
    given, there = cores(), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding(
        "threads", f"{given} of {there} cores for this process" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    )
    total, free = _memory_mb()
    if total is None or free is None:
        yield Finding("memory", "this system does not say", NOTE)
        return
    little = free < _ENOUGH_MB
    yield Finding(
        "memory",
        f"{free:.0f} MB free of {total:.0f}",
        NOTE if little else FINE,
        "close other programs, or use a model of --precision int8" if little else None,
    )


def _memory_mb(path: Path = Path("/proc/meminfo")) -> tuple[float | None, float | None]:
    try:
        lines = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
        total, free = (int(lines[key].split()[0]) / 1000 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None, None
    return total, free


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
