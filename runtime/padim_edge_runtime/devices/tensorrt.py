"""TensorRT's engines: for which batches they are built, where they are kept, and what onnxruntime is told about it.

TensorRT compiles a model for one machine, which takes from seconds to minutes. The result, an engine, is kept in a
folder named after all that it depends on (`key`), in one of the places that `roots` lists. onnxruntime itself would
take a kept engine for any model of the same file name. An engine is built in a folder of another name, which is renamed
when the session stands, so that an interrupted build leaves nothing that a later load would take.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact.errors import DeviceError
from padim_edge_artifact.files import replacing
from padim_edge_artifact.names import IMAGE

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata

__all__ = [
    "CACHE_VARIABLE",
    "STEPS",
    "Batches",
    "Engine",
    "Kept",
    "Warmed",
    "engine",
    "find",
    "key",
    "options",
    "preload",
    "roots",
    "shape",
    "takes",
    "version",
    "warm",
]

CACHE_VARIABLE = "PADIM_EDGE_CACHE"
"""Names a folder that is used in place of all others."""

_FOLDER_OF_PIP = "tensorrt_libs"
"""Where pip's packages of TensorRT put its libraries, and nobody looks for them."""

_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
"""The names that onnxruntime-gpu is linked to; the first one tells its version."""

_NEWER = "libnvinfer.so.11"
"""What an onnxruntime built for TensorRT 11 is linked to."""

_TF32 = "NVIDIA_TF32_OVERRIDE"
_WARMED = "warmed.json"

STEPS = 5
"""Of `warm`, for a progress bar."""

Load = Callable[[str], object]


@dataclass(frozen=True)
class Batches:
    """Batch sizes that an engine takes: from 1 on."""

    tuned: int = 1
    """The size that it is fastest for."""
    largest: int = 8

    def __str__(self) -> str:
        return f"{self.tuned}-of-{self.largest}"

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Batches:
        """The first of these sizes is what the engine is tuned for, the greatest is the largest that it takes."""
        return cls(sizes[0], max(sizes))


@dataclass(frozen=True)
class Kept:
    """Where the engine of a model for this machine stands, or will stand."""

    root: Path | None
    """One of `roots`; `None` where none of them can be written to."""
    key: str
    batches: Batches

    @property
    def folder(self) -> Path | None:
        """Of all engines of this model for this machine."""
        return None if self.root is None else self.root / self.key

    @property
    def engine(self) -> Path | None:
        """Of this engine."""
        return None if self.folder is None else self.folder / str(self.batches)

    @property
    def built(self) -> bool:
        """Whether it stands there."""
        return self.engine is not None and _there(self.engine)


@dataclass(frozen=True)
class Engine:
    """What a session on TensorRT is opened with."""

    options: Mapping[str, str]
    """Of onnxruntime's TensorRT provider."""
    largest: int
    """Batch size that the engine takes at most."""


@dataclass(frozen=True)
class Warmed:
    """What `warm` did."""

    folder: Path
    """Where the engine is kept."""
    bytes: int
    batches: Batches
    build_seconds: float | None
    """`None` where it had been built before."""
    load_seconds: float
    """What loading the model takes from now on."""

    def to_json(self) -> dict[str, object]:
        """The object that `warm --json` prints."""
        return {**asdict(self), "folder": str(self.folder)}


def shape(metadata: Metadata, batch: int) -> str:
    """The input with so many images, as TensorRT's tools write it."""
    height, width = metadata.input_size
    return f"{IMAGE}:{batch}x{height}x{width}x3"


def options(metadata: Metadata, batches: Batches, folder: Path | None, timings: Path | None = None) -> dict[str, str]:
    """Options of onnxruntime's TensorRT provider.

    Args:
        metadata: Of the model.
        batches: Sizes that the engine shall take.
        folder: Where the engine is kept; `None` keeps none.
        timings: Where the builder's measurements are kept; `None` keeps none.
    """
    # With explicit profiles the engine is built when the session is opened, and never again. Without, it is built by
    # the first call, and anew by each call with a larger batch.
    chosen = {
        "trt_profile_min_shapes": shape(metadata, 1),
        "trt_profile_opt_shapes": shape(metadata, batches.tuned),
        "trt_profile_max_shapes": shape(metadata, batches.largest),
    }
    if folder is not None:
        chosen |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
    if timings is not None:
        chosen |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(timings)}
    # No trt_fp16_enable and no trt_int8_enable, for any precision: onnxruntime asks TensorRT 10 for a strongly typed
    # network unless one of them is set, and types are what our graphs say (float16 constants and casts,
    # QuantizeLinear). With one set, TensorRT would be free to compute the float32 parts in float16 as well, squares of
    # distances included, which overflow there. TensorRT 11 knows strongly typed networks only. Workspace (all memory)
    # and builder level (3) are left as they are: nothing was measured that would speak for others.
    return chosen


def key(metadata: Metadata, version: str, capability: str, *, tf32: bool = False) -> str:
    """Name of the folder of a model's engines: model and data, TensorRT's version, the GPU's compute capability."""
    digests = metadata.digests
    content = hashlib.sha256(f"{digests.model} {digests.data}".encode()).hexdigest()[:16]
    return f"{content}-{_builder(version, capability)}{'-tf32' if tf32 else ''}"


def _builder(version: str, capability: str) -> str:
    return f"tensorrt{version}-sm{capability.replace('.', '')}"


def roots(model: Path, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Folders for engines, the one to prefer first: beside the model, then the user's cache."""
    if chosen := environment.get(CACHE_VARIABLE):
        return (Path(chosen),)
    home = environment.get("XDG_CACHE_HOME")
    users = Path(home) if home else Path(environment.get("HOME") or "~").expanduser() / ".cache"
    return (model.absolute().with_name(f"{model.name}.tensorrt"), users / "padim-edge")


def version(load: Load = ctypes.CDLL) -> str:
    """Of the TensorRT library, such as `10.9.0`; `unknown` where there is none."""
    for name in (_LIBRARIES[0], _NEWER):
        try:
            number = int(load(name).getInferLibVersion())  # type: ignore[attr-defined]
        except (OSError, AttributeError):
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return "unknown"


def preload(load: Load = lambda path: ctypes.CDLL(path, ctypes.RTLD_GLOBAL)) -> None:
    """Load the libraries out of pip's package of TensorRT, if there is one; the linker finds all others."""
    found = util.find_spec(_FOLDER_OF_PIP)
    places = list(found.submodule_search_locations or ()) if found else []
    for name in _LIBRARIES:
        for path in (Path(place) / name for place in places):
            if path.is_file():
                with contextlib.suppress(OSError):  # the session will say what is missing
                    load(str(path))


def _capability() -> str:
    """Of the first GPU, which is the one that onnxruntime takes."""
    from padim_edge_runtime.doctor.graphics import driver

    return next(iter(driver(ctypes.CDLL)[0]), "unknown")


def find(model: Path, metadata: Metadata, batches: Batches | None = None) -> Kept:
    """The engine to load, or where to build it.

    Args:
        model: The `.onnx` file.
        metadata: Its metadata.
        batches: `None` takes those that `warm` built last, or 1 to 8.
    """
    preload()
    name = key(metadata, version(), _capability(), tf32=os.environ.get(_TF32, "0") != "0")
    around = roots(model)
    wanted = batches or next(filter(None, (_remembered(root / name) for root in around)), Batches())
    places = [Kept(root, name, wanted) for root in around]
    for place in places:  # one that was built somewhere else, and lies beside the model on a read-only disk, will do
        if place.built:
            return place
    return next((place for place in places if _writable(place.root)), Kept(None, name, wanted))


def _remembered(folder: Path) -> Batches | None:
    try:
        found = json.loads((folder / _WARMED).read_text(encoding="utf-8"))
        return Batches(int(found["tuned"]), int(found["largest"]))
    except (OSError, ValueError, KeyError, TypeError):  # most often there is none
        return None


def _there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _writable(root: Path | None) -> bool:
    """Whether the folder can be written to, or be made."""
    for place in () if root is None else (root, *root.parents):
        if _there(place):
            return os.access(place, os.W_OK | os.X_OK)
    return False


def takes(metadata: Metadata) -> bool:
    """Whether a model is of a kind that TensorRT takes: int8 for the CPU is not."""
    return (metadata.precision, metadata.target) != ("int8", "cpu")


@contextlib.contextmanager
def engine(model: Path, metadata: Metadata, batches: Batches | None, tell: Callable[[str], object]) -> Iterator[Engine]:
    """Options to open a session with inside the block; an engine that it built is kept when the block ends well.

    Raises:
        DeviceError: The model is int8 for the CPU, or the folder for engines cannot be written to.
    """
    if not takes(metadata):
        raise DeviceError("the device 'tensorrt' takes no int8 for the CPU; export the model with --target tensorrt")
    # TensorRT computes float32 in TF32 (11 bits) unless told not to, and onnxruntime has no option for it. The variable
    # is NVIDIA's own, and read when an engine is built.
    os.environ.setdefault(_TF32, "0")
    kept = find(model, metadata, batches)
    largest = kept.batches.largest
    if kept.engine is not None and kept.built:
        try:
            yield Engine(options(metadata, kept.batches, kept.engine), largest)
        except DeviceError as error:
            raise DeviceError(
                f"{error}; if TensorRT itself works, remove {kept.engine}, which may be damaged"
            ) from error
        return
    if version() != "unknown":
        told = f"TensorRT builds an engine for batches of 1 to {largest} now, which may take minutes"
        if kept.root is None:
            tell(f"{told}, every time: no folder for it can be written to; set {CACHE_VARIABLE} to one that can")
        else:
            tell(f"{told}, once; `padim-edge warm` does it ahead")
    if kept.folder is None or kept.engine is None or kept.root is None:
        yield Engine(options(metadata, kept.batches, None), largest)
        return
    timings = kept.root / f"timings-{kept.key.partition('-')[2]}"
    with _building(kept.folder, kept.engine, timings) as folder:
        yield Engine(options(metadata, kept.batches, folder, folder), largest)


@contextlib.contextmanager
def _building(folder: Path, final: Path, timings: Path) -> Iterator[Path]:
    """A temporary folder that becomes `final` if something was written into it.

    The builder's timings, which other engines for this GPU are built faster with, are copied in and out again:
    onnxruntime writes them in place, and cannot build anything from a half-written file.
    """
    made = [each for each in (folder, folder.parent) if not _there(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
        temporary.chmod(0o755)  # another user may run what this one warms
    except OSError as error:
        raise DeviceError(
            f"{folder} cannot be made for TensorRT's engine ({error.strerror or error}); set {CACHE_VARIABLE} to a "
            "folder that can be written to"
        ) from error
    try:
        with contextlib.suppress(OSError):  # without them it takes longer, that is all
            for path in timings.glob("*.timing"):
                shutil.copyfile(path, temporary / path.name)
        yield temporary
        with contextlib.suppress(OSError):
            timings.mkdir(exist_ok=True)
            for path in temporary.glob("*.timing"):
                path.replace(timings / path.name)
        if any(path.suffix == ".engine" for path in temporary.iterdir()):
            with contextlib.suppress(OSError):  # another process may have been faster
                temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for each in made:  # where TensorRT does not work, every load would leave them
            with contextlib.suppress(OSError):  # most often they are not empty
                each.rmdir()


def warm(model: Path, batches: Batches, progress: Callable[[int], object] = lambda _: None) -> Warmed:
    """Build the engine for these batch sizes if there is none, use it, and remember it for later loads.

    Args:
        model: The `.onnx` file.
        batches: Sizes that it shall take.
        progress: Called with 1 after each of the `STEPS` steps.

    Raises:
        ArtifactError: The model is refused.
        DeviceError: TensorRT is not usable here, or no folder can be written to.
    """
    import numpy as np

    from padim_edge_artifact import read_metadata
    from padim_edge_artifact.self_test import probe_image
    from padim_edge_runtime.detector import Detector

    metadata = read_metadata(model)
    kept = find(model, metadata, batches)
    if kept.folder is None:
        raise DeviceError(
            f"none of {', '.join(map(str, roots(model)))} can be written to; set {CACHE_VARIABLE} to a folder that can"
        )
    built = kept.built
    begin = time.perf_counter()
    detector = Detector.load(model, "tensorrt", batches=batches)
    seconds = time.perf_counter() - begin
    progress(1)
    frame = probe_image(metadata.input_size)
    for size in (1, batches.tuned, batches.largest):
        detector(np.repeat(frame[None], size, axis=0))
        progress(1)
    kept = find(model, metadata, batches)
    if kept.folder is None or kept.engine is None or not kept.built:
        raise DeviceError(
            f"TensorRT ran the model, but no engine came to stand in {kept.folder}; see that the disk has room"
        )
    del detector  # before another one takes memory of the GPU
    begin = time.perf_counter()
    Detector.load(model, "tensorrt", batches=batches)
    again = time.perf_counter() - begin
    if _remembered(kept.folder) != batches:
        with replacing(kept.folder / _WARMED) as temporary:
            temporary.write_text(json.dumps(asdict(batches)), encoding="utf-8")
    progress(1)
    size = sum(path.stat().st_size for path in kept.engine.iterdir())
    return Warmed(kept.engine, size, batches, None if built else round(seconds, 3), round(again, 3))
