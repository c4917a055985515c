"""A model in the repository of NVIDIA Triton or of OpenVINO Model Server, as a new version that overwrites nothing.

`REPOSITORY/NAME/VERSION/model.onnx` is the very file, so its digests, its threshold and its scores stay what they were.
A version gets its folder's name when all of it is on the disk; servers that poll the repository see it whole.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_edge_artifact import ArtifactError, Metadata, PadimEdgeError, names
from padim_edge_artifact.container import read_metadata, read_verified
from padim_edge_artifact.files import flush, flush_folder, replacing, reserved, staging, written
from padim_edge_artifact.self_test import probe_image, sample_points
from padim_edge_learn.triton_config import TritonOptions, check_name, config_text, image_file
from padim_edge_runtime.devices.tensorrt import takes

__all__ = ["CHECK", "CONFIG", "MODEL", "SELF_TEST", "WARM_UP", "Packaged", "check_repository", "package"]

MODEL, CONFIG, WARM_UP = "model.onnx", "config.pbtxt", "warmup"
"""Names that servers know: of the model in its version's folder, of the configuration, of the folder of warm-ups."""
CHECK, SELF_TEST = "check.py", "self_test.json"
"""Names beside the model: the program that asks a server for the self-test, and the answer that it expects."""


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """A version of a model in a repository."""

    folder: Path
    """Folder of the version."""
    name: str
    """Name of the model on the server."""
    version: int
    """Number of the version, 1 or more."""
    device: str
    """Device that a new configuration names: `cpu`, `cuda` or `tensorrt`."""
    kept: bool
    """Whether the configuration there differs from the one that would have been written, and was left as it is."""

    def __str__(self) -> str:
        return f"{self.folder}: version {self.version} of {self.name}; ask a server with python {self.folder / CHECK}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that somebody should read; mostly none."""
        if not self.kept:
            return ()
        config = self.folder.parent / CONFIG
        return (f"{config} differs from what would be written now and was left as it is; remove it to have a new one",)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `package --json` prints."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "version": self.version,
            "device": self.device,
            "config_kept": self.kept,
        }


def check_repository(repository: Path, name: str) -> None:
    """Refuse a repository or a name that cannot take a model, before minutes of work.

    Raises:
        PadimEdgeError: The folder does not exist, or the name is none.
    """
    check_name(name)
    if not repository.is_dir():
        raise PadimEdgeError(f"the repository {repository} is no folder; make it, or choose another one")


def package(
    model: Path, repository: Path, options: TritonOptions | None = None, *, name: str | None = None
) -> Packaged:
    """Add a model to a repository under the next free version number.

    A configuration that is there is left as it is, since all versions share it.

    Args:
        model: The `.onnx` file.
        repository: Folder of all models.
        options: Options of the configuration.
        name: Name of the model on the server; `None` takes that of the file.

    Raises:
        ArtifactError: The model is damaged.
        PadimEdgeError: The name is none, the versions that are there take other images or another device, or a file
            cannot be written.
    """
    options, name = options or TritonOptions(), name or model.stem
    check_repository(repository, name)
    metadata = read_verified(model)
    text = config_text(name, metadata, options)
    target = repository / name
    with written(target), reserved([target]):
        version = 1 + max((_number(each.name) for each in target.iterdir()), default=0) if target.is_dir() else 1
        folder = target / str(version)
        if version > 1:
            _require_same(target, metadata)
        if target.is_dir():
            kept = _complete(target, text, metadata)
            with staging(folder) as unfinished:
                _fill(unfinished, model, metadata, (name, version))
                unfinished.rename(folder)
        else:
            kept = False
            with staging(target) as unfinished:
                (unfinished / folder.name).mkdir()
                _fill(unfinished / folder.name, model, metadata, (name, version))
                _complete(unfinished, text, metadata)
                flush_folder(unfinished)
                unfinished.rename(target)
            flush_folder(repository)
        flush_folder(target)
    return Packaged(folder=folder, name=name, version=version, device=options.chosen(metadata), kept=kept)


def _number(folder: str) -> int:
    """Return the version that servers read out of a folder's name, of which they take leading digits; 0 for none."""
    found = re.match(r"[0-9]{1,18}", folder)
    return int(found[0]) if found else 0


def _require_same(target: Path, metadata: Metadata) -> None:
    """Refuse a model that does not fit the configuration which it would share with the versions before.

    Raises:
        PadimEdgeError: The newest version that can be read takes other images, or is for other devices.
    """
    for path in sorted(target.glob(f"[0-9]*/{MODEL}"), key=lambda each: _number(each.parent.name), reverse=True):
        try:
            before = read_metadata(path)
        except ArtifactError as error:
            raise PadimEdgeError(
                f"{path.parent} holds no model of padim-edge that this version reads ({error}); choose another --name"
            ) from error
        old, new = _interface(before), _interface(metadata)
        if old != new:
            raise PadimEdgeError(
                f"{path.parent} has {old}, the model has {new}; versions of one model share {CONFIG}, so choose "
                "another --name"
            )
        return


def _interface(metadata: Metadata) -> str:
    """Describe what the configuration says about a model."""
    (height, width), (rows, columns), (h, w) = metadata.input_size, metadata.size, metadata.grid
    images = f"{metadata.preprocessing.color.upper()} images of {height}x{width}"
    engine = "" if takes(metadata) else ", no TensorRT"
    return f"{images}, maps of {rows}x{columns} and {h}x{w} patches{engine}"


def _complete(target: Path, text: str, metadata: Metadata) -> bool:
    """Write the configuration and the warm-up image where they are not there yet.

    Returns:
        Whether another configuration is there.
    """
    image, config = target / WARM_UP / image_file(metadata), target / CONFIG
    image.parent.mkdir(exist_ok=True)
    if not image.exists():
        with replacing(image) as file:
            file.write_bytes(probe_image(metadata.input_size).tobytes())
    if not config.exists():
        with replacing(config) as file:
            file.write_text(text, encoding="ascii")
    return config.read_text(encoding="utf-8", errors="replace") != text


def _fill(folder: Path, model: Path, metadata: Metadata, told: tuple[str, int]) -> None:
    """Copy a model into the unfinished folder of a version, with what `check.py` needs."""
    copy = folder / MODEL
    shutil.copyfile(model, copy)
    if (data := metadata.digests.data_file) is not None:
        shutil.copyfile(model.with_name(data), folder / data)
    if read_verified(copy).digests != metadata.digests:
        raise ArtifactError(f"{model} was changed by another program in the meantime; run the command again")
    (folder / SELF_TEST).write_text(json.dumps(_expected(metadata, told), indent=2) + "\n", encoding="ascii")
    shutil.copyfile(Path(__file__).with_name("triton_check.py"), folder / CHECK)
    for file in folder.iterdir():
        flush(file)
    flush_folder(folder)


def _expected(metadata: Metadata, told: tuple[str, int]) -> dict[str, Any]:
    """Return what `check.py` reads: the image to send, and the answer of the machine that made the model."""
    rows, columns = sample_points(metadata.size)
    test = metadata.self_test
    return {
        "model": told[0],
        "version": told[1],
        "digest": metadata.digests.model,
        "image": f"{WARM_UP}/{image_file(metadata)}",
        "input": metadata.preprocessing.input_name,
        "shape": [1, *metadata.input_size, 3],
        "score": {"output": names.SCORE, "expected": test.score},
        "map": {
            "output": names.ANOMALY_MAP,
            "rows": rows.tolist(),
            "columns": columns.tolist(),
            "expected": list(test.map_samples),
        },
        "tolerance": test.tolerance,
        "threshold": metadata.threshold,
    }
