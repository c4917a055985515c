"""Process that holds one method for `benchmarks.timing` and takes commands line by line.

Standard input brings one JSON object per line, `{"do": NAME, ...}` with the arguments of the function NAME below. Each
is answered by one line on standard output, or by `{"error": SENTENCE}`. The end of the input ends the process. Whatever
libraries print goes to standard error.

It also runs in environments that hold only one engine, numpy and Pillow, so heavy imports stand inside the engines'
functions.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_runtime.memory import peak_memory, resident

Pixels = npt.NDArray[np.uint8]
Judge = Callable[[Pixels], object]

MB = 1e6


@dataclass(frozen=True, eq=False)
class Opened:
    """A method, ready to judge."""

    judge: Judge
    """Function of `(H, W, 3)` uint8 in the model's frame that returns the method's own answer."""
    bytes: int
    """Size of all files, or of all arrays of a memory bank and the network."""
    precision: str = ""
    """Number type that the engine says it computes in, where it may choose by itself."""
    notes: tuple[str, ...] = ()
    """Limits of the figures, in sentences."""


@dataclass(frozen=True)
class Engine:
    """A way to run methods."""

    ready: Callable[[], object]
    """Function that imports the engine, whose memory is not the method's."""
    open: Callable[[Path, int, dict[str, Any]], Opened]
    """Function of the fitted method's folder, the threads and the options."""
    packages: tuple[str, ...]
    """Packages whose versions matter."""


@dataclass
class State:
    """State between two commands."""

    prepare: Callable[[Pixels], Pixels]
    """Function that brings an image into the model's frame."""
    image: Pixels
    """Image that is judged over and over."""
    frame: Pixels
    """The same image in the model's frame."""
    opened: Opened
    """Method."""
    memory_before: tuple[float, float] | None
    """Private memory and peak in MB before the method was loaded; `None` where the system does not tell."""


_state: list[State] = []


def open_method(
    *, engine: str, folder: str, image: str, preprocessing: dict[str, Any], threads: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Load a fitted method and answer with its size, its versions and the duration.

    Args:
        engine: Key of `ENGINES`.
        folder: Folder of the fitted method.
        image: File `.npy` of the image `(H, W, 3)`, of any size, that is judged over and over.
        preprocessing: Fields of `padim_edge_artifact.Preprocessing`; the same resize for all methods.
        threads: Threads for one image.
        options: Options of the engine.
    """
    from padim_edge_artifact import Preprocessing
    from padim_edge_runtime import image_files

    fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in preprocessing.items()}
    how = Preprocessing(**fields)

    def prepare(pixels: Pixels) -> Pixels:
        return image_files.prepare(pixels, how)

    pixels = np.load(image)
    frame = prepare(pixels)
    chosen = ENGINES[engine]
    chosen.ready()
    gc.collect()
    _forget_peak()
    before = _memory()
    start = time.perf_counter()
    opened = chosen.open(Path(folder), threads, options)
    seconds = time.perf_counter() - start
    _state[:] = [State(prepare, pixels, frame, opened, before)]
    return {
        "bytes": opened.bytes,
        "precision": opened.precision,
        "notes": list(opened.notes),
        "seconds": seconds,
        "versions": {"python": platform.python_version(), **_versions(("numpy", "pillow", *chosen.packages))},
    }


def warm_up(*, calls: int, seconds: float) -> dict[str, Any]:
    """Judge `calls` times, or as often as fits into `seconds`, twice at least; answer with the last duration."""
    (state,) = _state
    start = time.perf_counter()
    for done in range(1, calls + 1):
        last = time.perf_counter()
        state.opened.judge(state.frame)
        if done >= 2 and time.perf_counter() - start > seconds:
            break
    took = time.perf_counter() - last
    gc.collect()
    gc.disable()
    return {"seconds": took}


def turn(*, rest: float, lead: int) -> dict[str, Any]:
    """Time one call with the frame and one with the whole image, in milliseconds.

    Args:
        rest: Seconds to sleep first, because the engine before may still be spinning.
        lead: Untimed calls before the timed ones. They bring the constants back into the caches, as on a device.
    """
    (state,) = _state
    judge, prepare, frame, image = state.opened.judge, state.prepare, state.frame, state.image
    time.sleep(rest)
    for _ in range(lead):
        judge(frame)
    start = time.perf_counter()
    judge(frame)
    middle = time.perf_counter()
    judge(prepare(image))
    end = time.perf_counter()
    return {"frame": 1e3 * (middle - start), "image": 1e3 * (end - middle)}


def processor() -> dict[str, Any]:
    """Answer with the seconds of processor time that this process has taken so far."""
    return {"seconds": time.process_time()}


def memory() -> dict[str, Any]:
    """Answer with the MB that loading and judging have added; `null` where the system does not tell.

    private: resident memory that no file backs, which no other process can share and the system cannot drop.
    peak: largest resident set, mapped files included.
    """
    (state,) = _state
    now = _memory()
    if now is None or state.memory_before is None:
        return {"private": None, "peak": None}
    return {"private": now[0] - state.memory_before[0], "peak": now[1] - state.memory_before[1]}


DO: dict[str, Callable[..., dict[str, Any]]] = {
    "open": open_method,
    "warm_up": warm_up,
    "turn": turn,
    "processor": processor,
    "memory": memory,
}


def _memory() -> tuple[float, float] | None:
    """Return private memory now and the peak since `_forget_peak`, in MB; `None` where the system does not tell."""
    now, peak = resident(), peak_memory()
    return None if now is None or peak is None else (now.private / MB, peak / MB)


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _size(*files: Path) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _import_onnxruntime() -> None:
    from padim_edge_runtime.devices.providers import import_onnxruntime

    import_onnxruntime()


def _import_detector() -> None:
    import padim_edge_runtime.detector  # noqa: F401

    _import_onnxruntime()


def _import_openvino() -> None:
    import openvino  # type: ignore[import-not-found] # noqa: F401


def _import_methods() -> None:
    import benchmarks.methods  # noqa: F401

    _import_onnxruntime()


def _open_ours(folder: Path, threads: int, _options: dict[str, Any]) -> Opened:
    """Open a model through `Detector`, as `padim-edge infer` runs it: with checks, p-value and decision."""
    from padim_edge_runtime import Detector

    model = folder / "model.onnx"
    detector = Detector.load(model, "cpu", threads=threads)
    return Opened(detector, _size(*folder.glob("model.onnx*")))


def _open_bare(folder: Path, threads: int, _options: dict[str, Any]) -> Opened:
    """Open the backbone alone: uint8 frame in, three layers out."""
    from padim_edge_artifact import names
    from padim_edge_runtime.devices.providers import open_session

    model = folder / "model.onnx"
    session = open_session(model, "cpu", threads=threads).session
    return Opened(lambda frame: session.run(None, {names.IMAGE: frame[None]}), _size(model))


def _tensor(frame: Pixels) -> npt.NDArray[np.float32]:
    """Convert a frame to `(1, 3, H, W)` in [0, 1], as anomalib's graphs expect it."""
    tensor = np.empty((1, 3, *frame.shape[:2]), np.float32)
    np.multiply(frame.transpose(2, 0, 1), np.float32(1 / 255), out=tensor[0], casting="unsafe")
    return tensor


def _open_anomalib_onnx(folder: Path, threads: int, _options: dict[str, Any]) -> Opened:
    """Open the ONNX file as anomalib exports it, with our session options."""
    from padim_edge_runtime.devices.providers import open_session

    model = folder / "weights" / "onnx" / "model.onnx"
    session = open_session(model, "cpu", threads=threads).session
    name = session.get_inputs()[0].name
    return Opened(lambda frame: session.run(None, {name: _tensor(frame)}), _size(*model.parent.iterdir()))


def _open_anomalib_openvino(folder: Path, threads: int, options: dict[str, Any]) -> Opened:
    """Open the OpenVINO files as anomalib exports them; `options` may hold `precision`."""
    import openvino

    model = folder / "weights" / "openvino" / "model.xml"
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if "precision" in options:
        settings["INFERENCE_PRECISION_HINT"] = options["precision"]
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Opened(
        lambda frame: compiled(_tensor(frame)),
        _size(model, model.with_suffix(".bin")),
        found,
    )


def _open_method(folder: Path, threads: int, _options: dict[str, Any]) -> Opened:
    """Open a fitted method of `benchmarks.methods`."""
    from benchmarks import methods

    fitted = methods.load(folder, threads=threads)
    return Opened(lambda frame: fitted(frame[None]), fitted.bytes, notes=fitted.notes)


ENGINES = {
    # It does nothing, so that the cost of measuring itself can be seen.
    "idle": Engine(lambda: None, lambda *_: Opened(lambda _: None, 0), ()),
    "bare": Engine(_import_onnxruntime, _open_bare, ("onnxruntime",)),
    "ours": Engine(_import_detector, _open_ours, ("padim-edge-runtime", "onnxruntime")),
    "anomalib-onnx": Engine(_import_onnxruntime, _open_anomalib_onnx, ("onnxruntime",)),
    "anomalib-openvino": Engine(_import_openvino, _open_anomalib_openvino, ("openvino",)),
    "methods": Engine(_import_methods, _open_method, ("onnxruntime", "torch", "scikit-learn")),
}


def main() -> None:
    """Answer until the input ends."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        try:
            reply = DO[message.pop("do")](**message)
        except Exception as error:  # noqa: BLE001  the process that asked must hear of any failure
            sentence = " ".join(str(error).split())
            reply = {"error": f"{type(error).__name__}: {sentence}"}
        print(json.dumps(reply), file=protocol, flush=True)


if __name__ == "__main__":
    main()
