"""Runs commands of `padim-edge` in forked children, one after another, under strace that disturbs system calls.

A child starts with everything imported, so hundreds of disturbed runs take minutes. One JSON object per line comes in
on stdin: `{"cwd", "args", "inject"}`; one goes out on stdout: `{"status", "output", "calls", "failed", "printing"}`.
`inject` is what strace takes, such as `rename:signal=SIGKILL:when=2`, or null to count the calls. `failed` tells
whether a call failed for it, and `printing` whether that was a write to stdout or stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CALLS = ("fsync", "rename", "mkdir", "unlink", "rmdir", "unlinkat", "write", "pwrite64", "ftruncate", "fchmod", "chmod")
"""System calls that change files. Names of a link's own (`*at`) come from `shutil.rmtree`."""

_TOLD = re.compile(r" write\([12], ")


def serve() -> None:
    """Answer until stdin ends."""
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    import padim_edge_runtime.detector
    import padim_edge_runtime.heatmaps  # noqa: F401
    from padim_edge_model import onnx_file
    from padim_edge_runtime.devices.providers import import_onnxruntime

    import_onnxruntime()
    _export_once()
    onnx_file.EXTERNAL_ABOVE = 0  # every model has a data file
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_disturbed(request["cwd"], request["args"], request["inject"])), flush=True)


def _export_once() -> None:
    """Export the backbone, which takes seconds and writes nothing; children find the result in memory."""
    from padim_edge.network import exported
    from padim_edge.presets import preset

    exported(preset("edge", backbone="builtin", size="64"), "auto")


def _disturbed(cwd: str, args: list[str], inject: str | None) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder) / "output", Path(folder) / "log"
        child = os.fork()
        if not child:
            _child(cwd, args, output)
        os.waitpid(child, os.WUNTRACED)
        trace = ["-e", f"trace={','.join(CALLS)}"]
        command = ["strace", "-q", "-f", "-p", str(child), *trace, "-o", str(log)]
        with subprocess.Popen(command + ([] if inject is None else ["-e", f"inject={inject}"])) as tracer:
            deadline = time.monotonic() + 10
            while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
                if tracer.poll() is not None or time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    return {"status": None, "output": "strace could not attach", "calls": {}}
                time.sleep(0.001)
            os.kill(child, signal.SIGCONT)
            _, status = os.waitpid(child, 0)
        lines = log.read_text(errors="replace").splitlines()
        failed = [line for line in lines if line.endswith("(INJECTED)")]
        answer = {"status": status, "output": output.read_text(errors="replace"), "calls": _counted(lines)}
        return {**answer, "failed": bool(failed), "printing": any(map(_TOLD.search, failed))}


def _child(cwd: str, args: list[str], output: Path) -> None:
    from padim_edge_runtime.cli import app

    os.chdir(cwd)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 1
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        app(args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # the parent is told by the traceback
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _counted(lines: list[str]) -> dict[str, int]:
    """Return for each system call the largest number of times that one thread made it: strace counts by thread."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        thread, _, rest = line.partition(" ")
        name = rest.strip().partition("(")[0]
        if name in CALLS:
            counts[thread, name] += 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(count, most.get(name, 0))
    return most


if __name__ == "__main__":
    serve()
