"""A model of one node, tried out on every device, in a process of its own: `python -m ...doctor.trial`.

That `get_available_providers` names a provider says nothing: only a session does. Importing a broken onnxruntime may
even end the interpreter, so it is another one that tries.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["Trial", "tiny_model", "tried"]

SECONDS = 120
"""That the trial may take; TensorRT builds an engine in it."""


@dataclass(frozen=True)
class Trial:
    """What came of it."""

    version: str | None
    """Of onnxruntime; `None` where it cannot be imported."""
    package: str | None
    """The distribution that the module says it comes from."""
    listed: tuple[str, ...]
    """Providers that it names."""
    usable: tuple[str, ...]
    """Devices on which the model gave the right answer, best first."""
    refused: dict[str, str]
    """Why not, by device."""
    failure: str | None
    """Why there was no trial at all."""


def tried() -> Trial:
    """Try every device."""
    command = [sys.executable, "-m", "padim_edge_runtime.doctor.trial"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603  our own
    except subprocess.TimeoutExpired:
        return _failed(f"importing and trying onnxruntime did not end within {SECONDS} seconds")
    if done.returncode < 0:
        return _failed(f"importing or trying onnxruntime ended the interpreter with signal {-done.returncode}")
    try:
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return Trial(
            said["version"],
            said["package"],
            tuple(said["listed"]),
            tuple(said["usable"]),
            dict(said["refused"]),
            said["failure"],
        )
    except (IndexError, KeyError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or ["no word"]
        return _failed(f"the trial of onnxruntime failed ({last[0][:200]})")


def _failed(reason: str) -> Trial:
    return Trial(None, None, (), (), {}, reason)


def tiny_model() -> bytes:
    """ONNX of `y = Relu(x)`, x float32 `(2,)`, written by hand, since a device has no onnx."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    def value(name: bytes) -> bytes:
        shape = field(1, field(1, 2))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu")
    graph = field(1, node) + field(2, b"trial") + field(11, value(b"x")) + field(12, value(b"y"))
    return field(1, 8) + field(7, graph) + field(8, field(2, 18))


def main() -> None:
    """Try, and print one line of JSON."""
    from padim_edge_artifact import DeviceError, PadimEdgeError
    from padim_edge_runtime.providers import DEVICES, import_onnxruntime, open_session

    said: dict[str, Any] = {
        "version": None,
        "package": None,
        "listed": [],
        "usable": [],
        "refused": {},
        "failure": None,
    }
    try:
        ort = import_onnxruntime()
    except DeviceError as error:
        sys.stdout.write(json.dumps({**said, "failure": str(error)}) + "\n")
        return
    import numpy as np

    said["version"], said["package"] = ort.__version__, getattr(ort, "package_name", None)
    said["listed"] = ort.get_available_providers()
    for device in DEVICES:
        try:
            session = open_session(tiny_model(), device).session
            found = session.run(None, {"x": np.array([-1, 2], np.float32)})[0]
        except PadimEdgeError as error:
            said["refused"][device] = str(error)
        except Exception as error:  # noqa: BLE001  onnxruntime's exceptions have no common base
            said["refused"][device] = " ".join(str(error).split())[:300]
        else:
            if found.tolist() == [0, 2]:
                said["usable"].append(device)
            else:
                said["refused"][device] = f"it gave {found.tolist()} for [0, 2]"
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
