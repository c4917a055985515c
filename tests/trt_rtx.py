"""Ask TensorRT whether it takes a model, without a GPU.

TensorRT for RTX builds ahead of time on a CPU, and its parser is the one of TensorRT 10 and 11. A wheel on PyPI carries
both libraries; it is 140 MB to fetch, so it is no dependency of the project but is put into an environment of its own:

    uv run --no-project --isolated --with onnxruntime-ep-nv-tensorrt-rtx==0.5.0 python tests/trt_rtx.py MODEL.onnx...

prints one JSON object a model: `{"parsed", "built", "errors": [{"node", "op", "reason"}], "engine_bytes", "seconds"}`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WHEEL = "onnxruntime-ep-nv-tensorrt-rtx==0.5.0"
PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
RTX = "libtensorrt_rtx.so.1.7.1"
PARSER = "libtensorrt_onnxparser_rtx.so.1.7.1"

BATCH = (1, 1, 8)
"""Smallest, expected and largest value of every free dimension."""


class UnavailableError(Exception):
    """The wheel, or uv, cannot be had here."""


@dataclass(frozen=True)
class Problem:
    """One complaint; where it came from the builder and not from the parser, the node stands in the reason."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Answer of TensorRT about one model."""

    parsed: bool
    built: bool
    errors: tuple[Problem, ...]
    engine_bytes: int
    seconds: float


def judge(models: Sequence[Path], timeout: float = 240) -> list[Verdict]:
    """Judge models in the wheel's own environment; an empty list only fetches the wheel.

    Raises:
        UnavailableError: There is no uv, or no network to fetch the wheel with, or no wheel for this machine.
    """
    if (uv := shutil.which("uv")) is None:
        raise UnavailableError("uv is not installed")
    reason = ""
    for network in (["--offline"], []):  # a wheel that was fetched before needs no network
        options = ["--no-project", "--isolated", *network, "--python", sys.executable, "--with", WHEEL]
        command = [uv, "run", *options, "python", str(Path(__file__).resolve()), *map(str, models)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"uv and {WHEEL} took more than {timeout:.0f} s") from None
        if done.returncode == 0:
            return [_from_json(line) for line in done.stdout.splitlines()]
        reason = " ".join(done.stderr.split())[-400:]
    raise UnavailableError(f"{WHEEL} could not be used: {reason}")


def _from_json(line: str) -> Verdict:
    content = json.loads(line)
    return Verdict(**content | {"errors": tuple(Problem(**error) for error in content["errors"])})


# The rest runs inside the wheel's environment.


class Dims(ctypes.Structure):
    """`nvinfer1::Dims64`."""

    _fields_ = (("count", c_int32), ("sizes", c_int64 * 8))


@dataclass(frozen=True)
class Slot:
    """A virtual method: its place in the table, its result, its arguments after `this`."""

    number: int
    result: Any
    arguments: tuple[Any, ...] = ()


# Places as in version 1.7.1. The public classes hold a pointer to the object with the virtual methods, whose tables can
# be read off the symbols of libtensorrt_shim.so in the same wheel (`nvinfer1::apiv::VShim...`); the first two places
# are the destructor's. The parser's classes are virtual themselves.
CREATE_CONFIG = Slot(5, c_void_p)
CREATE_NETWORK = Slot(6, c_void_p, (c_uint32,))
CREATE_PROFILE = Slot(7, c_void_p)
BUILD = Slot(11, c_void_p, (c_void_p, c_void_p))
ADD_PROFILE = Slot(23, c_int32, (c_void_p,))
SET_DIMENSIONS = Slot(2, c_bool, (c_char_p, c_int32, c_void_p))
COUNT_INPUTS = Slot(14, c_int32)
GET_INPUT = Slot(15, c_void_p, (c_int32,))
TENSOR_NAME = Slot(3, c_char_p)
TENSOR_DIMENSIONS = Slot(5, Dims)
MEMORY_SIZE = Slot(3, c_size_t)
PARSE_FILE = Slot(1, c_bool, (c_char_p, c_int))
COUNT_ERRORS = Slot(3, c_int)
GET_ERROR = Slot(4, c_void_p, (c_int,))
ERROR_REASON = Slot(1, c_char_p)
ERROR_NODE = Slot(6, c_char_p)
ERROR_OP = Slot(7, c_char_p)


def call(this: int, slot: Slot, *arguments: Any) -> Any:
    """Call a virtual method."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(c_void_p)))[0]
    return CFUNCTYPE(slot.result, c_void_p, *slot.arguments)(table[slot.number])(this, *arguments)


def inner(public: int | None) -> int:
    """The object behind a public one; it stands after the public one's table."""
    assert public, "TensorRT made no object"
    pointer: int | None = ctypes.cast(public, ctypes.POINTER(c_void_p))[1]
    assert pointer
    return pointer


@dataclass(frozen=True, eq=False)
class Logger:
    """An `nvinfer1::ILogger` that keeps the errors."""

    messages: list[str]
    pointer: int
    kept_alive: list[Any] = field(repr=False)


def make_logger() -> Logger:
    """Build the C++ object by hand: API language, two destructors, interface information, `log`."""
    messages: list[str] = []

    def log(_: int, severity: int, text: bytes) -> None:
        if severity <= 1:  # internal error, error
            messages.append(text.decode(errors="replace"))

    methods = [CFUNCTYPE(c_int, c_void_p)(lambda _: 0)] * 4  # the first four are never used
    methods.append(CFUNCTYPE(None, c_void_p, c_int, c_char_p)(log))
    table = (c_void_p * 5)(*[ctypes.cast(method, c_void_p) for method in methods])
    this = (c_void_p * 1)(ctypes.addressof(table))
    return Logger(messages, ctypes.addressof(this), [methods, table, this])


def load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """TensorRT and its parser, out of the wheel."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None, f"{WHEEL} is not installed"
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0])
    rtx, parser = (ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in (RTX, PARSER))
    rtx.createInferBuilder_INTERNAL.restype = parser.createNvOnnxParser_INTERNAL.restype = c_void_p
    rtx.createInferBuilder_INTERNAL.argtypes = (c_void_p, c_int32)
    parser.createNvOnnxParser_INTERNAL.argtypes = (c_void_p, c_void_p, c_int)
    return rtx, parser


def parse_and_build(model: Path) -> Verdict:
    """Parse a file and build its engine, with every free dimension from 1 to 8."""
    rtx, onnx_parser = load()
    logger = make_logger()
    builder = inner(rtx.createInferBuilder_INTERNAL(logger.pointer, rtx.getInferLibVersion()))
    network = call(builder, CREATE_NETWORK, 0)
    parser = onnx_parser.createNvOnnxParser_INTERNAL(network, logger.pointer, onnx_parser.getNvOnnxParserVersion())
    start = time.perf_counter()
    parsed = call(parser, PARSE_FILE, os.fsencode(model), 1)
    errors = [call(parser, GET_ERROR, i) for i in range(call(parser, COUNT_ERRORS))]
    problems = [
        Problem(*((call(error, slot) or b"").decode(errors="replace") for slot in (ERROR_NODE, ERROR_OP, ERROR_REASON)))
        for error in errors
    ]
    if not parsed:
        problems = problems or [Problem("", "", message) for message in logger.messages]
        return Verdict(False, False, tuple(problems), 0, round(time.perf_counter() - start, 3))
    logger.messages.clear()
    config = call(builder, CREATE_CONFIG)
    call(inner(config), ADD_PROFILE, _profile(builder, network))
    memory = call(builder, BUILD, network, config)
    problems += [Problem("", "", message) for message in logger.messages]
    size = call(inner(memory), MEMORY_SIZE) if memory else 0
    return Verdict(True, bool(memory), tuple(problems), size, round(time.perf_counter() - start, 3))


def _profile(builder: int, network: int) -> int:
    profile: int = call(builder, CREATE_PROFILE)
    for i in range(call(inner(network), COUNT_INPUTS)):
        tensor = inner(call(inner(network), GET_INPUT, i))
        name, shape = call(tensor, TENSOR_NAME), call(tensor, TENSOR_DIMENSIONS)
        for which, free in enumerate(BATCH):
            sizes = [free if size == -1 else size for size in shape.sizes[: shape.count]]
            dims = Dims(shape.count, (c_int64 * 8)(*sizes))
            assert call(inner(profile), SET_DIMENSIONS, name, which, ctypes.addressof(dims)), name
    return profile


def main(models: Sequence[str]) -> None:
    """Print one line a model, each judged in a process of its own, so that a crash costs only its own verdict."""
    load()
    output = os.dup(1)
    os.dup2(2, 1)  # the libraries print, too

    def tell(verdict: Verdict) -> None:
        os.write(output, f"{json.dumps(asdict(verdict))}\n".encode())

    for model in models:
        if (child := os.fork()) == 0:
            tell(parse_and_build(Path(model)))
            os._exit(0)  # the libraries' own tidying up wants a GPU
        if status := os.waitpid(child, 0)[1]:
            tell(Verdict(False, False, (Problem("", "", f"TensorRT ended with wait status {status}"),), 0, 0.0))


if __name__ == "__main__":
    main(sys.argv[1:])
