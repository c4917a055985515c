"""TensorRT's engines: where they are kept, and how a session gets one.

TensorRT compiles a model for one machine, which takes from seconds to minutes. The result is an engine. Its folder is
named after all that it depends on (`tensorrt.key`), because onnxruntime takes a kept engine for any model of the same
file name. An engine is built in a temporary folder, which is renamed when the session stands. So an interrupted build
leaves nothing that a later load would take.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact.errors import DeviceError
from padim_edge_artifact.files import replacing
from padim_edge_runtime.devices import tensorrt
from padim_edge_runtime.devices.driver import driver
from padim_edge_runtime.devices.tensorrt import Batches

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata

__all__ = ["CACHE_VARIABLE", "Engine", "Kept", "distrust", "engine", "find", "remember", "remembered", "roots"]

CACHE_VARIABLE = "PADIM_EDGE_CACHE"
"""Environment variable that names one folder for engines, used in place of all others."""

_TF32 = "NVIDIA_TF32_OVERRIDE"
_WARMED = "warmed.json"


@dataclass(frozen=True)
class Kept:
    """Place of a model's engine on this machine, whether it has been built or not."""

    root: Path | None
    """One of `roots`; `None` where none of them can be written to."""
    key: str
    """Name of `folder`; see `tensorrt.key`."""
    batches: Batches
    """Batch sizes that the engine takes."""

    @property
    def folder(self) -> Path | None:
        """Folder that holds every TensorRT engine built for this model on this machine."""
        return None if self.root is None else self.root / self.key

    @property
    def engine(self) -> Path | None:
        """Folder of the engine for these batches."""
        return None if self.folder is None else self.folder / str(self.batches)

    @property
    def built(self) -> bool:
        """Whether the engine is there."""
        return self.engine is not None and _there(self.engine)


@dataclass(frozen=True)
class Engine:
    """Options for opening a session on TensorRT."""

    options: Mapping[str, str]
    """Options of onnxruntime's TensorRT provider."""
    largest: int
    """Largest batch size that the engine takes."""


def roots(model: Path, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return the folders that may hold engines, the preferred one first: beside the model, then the user's cache."""
    if chosen := environment.get(CACHE_VARIABLE):
        return (Path(chosen),)
    home = environment.get("XDG_CACHE_HOME")
    users = Path(home) if home else Path(environment.get("HOME") or "~").expanduser() / ".cache"
    return (model.absolute().with_name(f"{model.name}.tensorrt"), users / "padim-edge")


def find(model: Path, metadata: Metadata, batches: Batches | None = None) -> Kept:
    """Return the engine to load, or the place to build it in.

    Args:
        model: The `.onnx` file.
        metadata: Its metadata.
        batches: Batch sizes; `None` takes those that `padim-edge warm` built last, or 1 to 8.
    """
    tensorrt.preload()
    name = tensorrt.key(metadata, tensorrt.version(), _capability(), tf32=os.environ.get(_TF32, "0") != "0")
    around = [root for root in roots(model) if all(distrust(each) is None for each in (root, root / name))]
    wanted = batches or next(filter(None, (remembered(root / name) for root in around)), Batches())
    kept = (Kept(root, name, wanted) for root in around)
    places = [place for place in kept if place.engine is not None and distrust(place.engine) is None]
    for place in places:  # an engine that was built elsewhere, and lies beside the model on a read-only disk, will do
        if place.built:
            return place
    return next((place for place in places if _writable(place.root)), Kept(None, name, wanted))


def distrust(folder: Path) -> str | None:
    """Say why engines from this folder are not loaded; `None` where they may be, or there is no such folder.

    An engine is as good as a program. So only root and the user who runs this may be able to put one there.
    """
    try:
        status = folder.stat()
    except OSError:
        return None
    if not hasattr(os, "geteuid"):  # Windows has no such owners and modes
        return None
    if status.st_uid not in (0, os.geteuid()):
        reason = "belongs to another user"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = "can be written to by other users"
    else:
        return None
    return (
        f"engines in {folder} are not used, because it {reason}; correct its owner and mode (chmod go-w), or set "
        f"{CACHE_VARIABLE} to a folder of your own"
    )


def _capability() -> str:
    return next(iter(driver().capabilities), "unknown")


def remembered(folder: Path) -> Batches | None:
    """Return the batches that `remember` wrote into the folder of a model's engines; `None` where there are none."""
    try:
        found = json.loads((folder / _WARMED).read_text(encoding="utf-8"))
        return Batches(int(found["tuned"]), int(found["largest"]))
    except (OSError, ValueError, KeyError, TypeError):  # most often there is no such file
        return None


def remember(folder: Path, batches: Batches) -> None:
    """Write the batches that later loads shall take into the folder of a model's engines.

    Raises:
        PadimEdgeError: The folder cannot be written to.
    """
    if remembered(folder) != batches:
        with replacing(folder / _WARMED) as temporary:
            temporary.write_text(json.dumps(asdict(batches)), encoding="utf-8")


@contextlib.contextmanager
def engine(model: Path, metadata: Metadata, batches: Batches | None, tell: Callable[[str], object]) -> Iterator[Engine]:
    """Give the options to open a session with inside the block, and keep the engine when the block ends well.

    Args:
        model: The `.onnx` file.
        metadata: Its metadata.
        batches: As for `find`.
        tell: Called with a sentence before an engine is built, which may take minutes.

    Raises:
        DeviceError: The model is int8 for the CPU, or the folder for engines cannot be written to.
    """
    if not tensorrt.takes(metadata):
        raise DeviceError("the device 'tensorrt' takes no int8 for the CPU; export the model with --target tensorrt")
    # TensorRT computes float32 in TF32 (11 bits) unless told not to, and onnxruntime has no option for it. NVIDIA's own
    # variable is read when an engine is built.
    os.environ.setdefault(_TF32, "0")
    kept = find(model, metadata, batches)
    for root in roots(model):
        places = (root, root / kept.key, root / kept.key / str(kept.batches))
        for sentence in list(filter(None, map(distrust, places)))[:1]:
            tell(sentence)
    largest = kept.batches.largest
    if kept.engine is not None and kept.built:
        try:
            yield Engine(tensorrt.options(metadata, kept.batches, kept.engine), largest)
        except DeviceError as error:
            raise DeviceError(
                f"{error}; if TensorRT itself works, remove {kept.engine}, which may be damaged"
            ) from error
        return
    if tensorrt.version() != "unknown":
        told = f"TensorRT builds an engine for batches of 1 to {largest} now, which may take minutes"
        if kept.root is None:
            tell(f"{told}, every time: no folder for it can be written to; set {CACHE_VARIABLE} to one that can")
        else:
            tell(f"{told}, once; `padim-edge warm` does it ahead")
    if kept.folder is None or kept.engine is None or kept.root is None:
        yield Engine(tensorrt.options(metadata, kept.batches, None), largest)
        return
    timings = kept.root / f"timings-{kept.key.partition('-')[2]}"
    with _building(kept.folder, kept.engine, timings) as folder:
        yield Engine(tensorrt.options(metadata, kept.batches, folder, folder), largest)


@contextlib.contextmanager
def _building(folder: Path, final: Path, timings: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `final` if an engine was written into it.

    The builder's timings, which speed up the next builds for this GPU, are copied in and out again. onnxruntime writes
    them in place, and cannot build anything from a half-written file.
    """
    made = [each for each in (folder, folder.parent) if not _there(each)]
    try:
        for each in reversed(made):  # whatever the mask of the user is, others must not write here
            each.mkdir(mode=0o755, parents=True, exist_ok=True)
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
            timings.mkdir(mode=0o755, exist_ok=True)
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


def _there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _writable(root: Path | None) -> bool:
    """Tell whether the folder can be written to, or be made."""
    for place in () if root is None else (root, *root.parents):
        if _there(place):
            return os.access(place, os.W_OK | os.X_OK)
    return False
