"""Trial of every device with a model of one node, in a process of its own.

`get_available_providers` only names providers; a session shows whether one works. Importing a broken onnxruntime, or
opening a session on a broken driver, may end the interpreter. So another interpreter tries. It names each step before
it takes it. Where it dies of a step, the steps after that get a new process.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from padim_edge_runtime.devices.driver import Driver, driver
from padim_edge_runtime.devices.tiny import tiny_model
from padim_edge_runtime.doctor import libraries

__all__ = ["Trial", "tried"]

SECONDS = 120
"""Seconds that one process may take; TensorRT builds an engine in it."""

_IMPORT, _LIBRARIES, _DRIVER = "import", "libraries", "driver"
"""Steps besides the devices."""

_FOR_NUMPY_1 = ("compiled using NumPy 1.x", "_ARRAY_API not found")
"""Words of a module that was built for NumPy 1 and meets NumPy 2."""


@dataclass(frozen=True)
class Trial:
    """Outcome of the trial."""

    version: str | None
    """Version of onnxruntime; `None` where it cannot be imported."""
    package: str | None
    """Distribution that the module says it comes from."""
    listed: tuple[str, ...]
    """Providers that onnxruntime names."""
    usable: tuple[str, ...]
    """Devices on which the model gave the right answer, best first."""
    refused: dict[str, str]
    """Reason why a device is not usable, by device."""
    failure: str | None
    """Reason why there was no trial at all."""
    ended: tuple[str, ...] = ()
    """Devices that ended the interpreter."""
    missing: tuple[str, ...] | None = None
    """Libraries that onnxruntime asks for and a session does not get; `None` where that was not found out."""
    driver: Driver = field(default_factory=Driver)
    """NVIDIA's driver."""


def tried() -> Trial:
    """Try every device in another process, which may die of it."""
    said: dict[str, Any] = {"refused": {}, "usable": []}
    ended: dict[str, str] = {}
    words = ""
    for _ in range(6):  # one for each step that may die
        output, words, death = _process(tuple(ended))
        step = None
        for line in output.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue  # what native code prints
            if isinstance(found, dict):
                step = found.pop("step", step)
                said["refused"].update(found.pop("refused", {}))
                said["usable"] += found.pop("usable", [])
                said.update(found)
        if death is None or step is None or step in ended:
            break
        ended[step] = death
        if step == _IMPORT:
            break
    failure = said.get("failure")
    if step is None:
        said_last = "".join(f", {line[:200]}" for line in words.strip().splitlines()[-1:])
        failure = f"the trial of onnxruntime failed ({death or 'it ended without a word'}{said_last})"
    elif _IMPORT in ended:
        failure = f"importing onnxruntime {ended[_IMPORT]}"
    elif failure and any(sign in words for sign in _FOR_NUMPY_1):
        failure = "it was built for NumPy 1, and here is NumPy 2"
    devices = _devices()
    dead = {device: f"trying it {how}" for device, how in ended.items() if device in devices}
    return Trial(
        said.get("version"),
        said.get("package"),
        tuple(said.get("listed", ())),
        tuple(device for device in devices if device in said["usable"]),
        {**said["refused"], **dead},
        failure,
        tuple(dead),
        tuple(said["missing"]) if said.get("missing") is not None else None,
        Driver(tuple(said.get("capabilities", ())), said.get("cuda")),
    )


def _process(skipped: tuple[str, ...]) -> tuple[str, str, str | None]:
    """Run the process that tries; return its stdout, its stderr, and how it died if it did."""
    # With our own path: `-m` would look into the current folder first, where a folder may be called as a package is.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from padim_edge_runtime.doctor.trial import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *skipped]
    try:
        done = subprocess.run(  # noqa: S603  our own
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        # These are bytes, whatever was asked for.
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return output, "", f"did not end within {SECONDS} seconds"
    except (OSError, ValueError) as error:
        return "", "", f"no second interpreter can be started: {error}"
    if done.returncode < 0:
        return done.stdout, done.stderr, f"ended the interpreter with signal {-done.returncode}"
    if done.returncode:
        return done.stdout, done.stderr, f"ended the interpreter with exit code {done.returncode}"
    return done.stdout, done.stderr, None


def main(skipped: list[str]) -> None:
    """Take all steps but the skipped ones; print one line of JSON before and after each."""

    def step(name: str, take: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name in skipped:
            return {}
        _tell({"step": name})
        found = take()
        _tell(found)
        return found

    if step(_IMPORT, _import).get("failure") is None:
        for device in _devices()[::-1]:  # the surest first
            step(device, lambda device=device: _try(device))  # type: ignore[misc]
    # After the sessions, which may have loaded some from elsewhere.
    step(_LIBRARIES, lambda: {"missing": libraries.missing(ctypes.CDLL)})
    step(_DRIVER, lambda: asdict(driver()))


def _tell(what: dict[str, Any]) -> None:
    # On a line of its own, whatever native code wrote before.
    sys.stdout.write(f"\n{json.dumps(what)}\n")
    sys.stdout.flush()


def _devices() -> list[str]:
    from padim_edge_runtime.devices.providers import DEVICES

    return list(DEVICES)


def _import() -> dict[str, Any]:
    from padim_edge_artifact import DeviceError
    from padim_edge_runtime.devices.providers import import_onnxruntime

    try:
        ort = import_onnxruntime()
        return {
            "version": ort.__version__,
            "package": getattr(ort, "package_name", None),
            "listed": ort.get_available_providers(),
        }
    except DeviceError as error:
        return {"failure": str(error)}
    except Exception as error:  # noqa: BLE001  whatever a broken package raises
        return {"failure": f"onnxruntime cannot be imported ({type(error).__name__}: {error})"}


def _try(device: str) -> dict[str, Any]:
    import numpy as np

    from padim_edge_artifact import PadimEdgeError
    from padim_edge_runtime.devices.providers import open_session

    try:
        session = open_session(tiny_model(), device).session
        found = session.run(None, {"x": np.array([-1, 2], np.float32)})[0].tolist()
    except PadimEdgeError as error:
        return {"refused": {device: str(error)}}
    except Exception as error:  # noqa: BLE001  onnxruntime's exceptions have no common base
        return {"refused": {device: " ".join(str(error).split())[:300]}}
    return {"usable": [device]} if found == [0, 2] else {"refused": {device: f"it gave {found} for [0, 2]"}}
