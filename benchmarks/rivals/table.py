"""The methods that are timed, as rows of one table, and how each is fitted and laid down in a folder.

As a command, `python -m benchmarks.rivals.table NAME FOLDER SOURCE`, it fits one of them: in a process of its own, so
that neither its memory nor its failures are anybody else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rivals import OPENVINO, ROOT, Missing, anomalib, isolated, isolated_environ, reason
from benchmarks.rivals.images import Source, dataset, frames, write_frames
from benchmarks.rivals.turns import Worker

__all__ = ["METHODS", "Method", "made", "rival_versions", "start"]

Make = Callable[[Source, Path], None]

_MADE, _ANOMALIB = "made.json", "anomalib.json"

_OURS = ("padim_edge", "export", "runtime")
"""Folders whose code a fitted model of ours depends on."""


@dataclass(frozen=True)
class Method:
    """One row: what it is, how it is fitted, and how it runs."""

    name: str
    kind: str
    """`floor`, `ours` or `rival`."""
    engine: str
    """A key of `timing_worker.ENGINES`."""
    make: Make
    """Fits it and writes it into a folder; raises Missing where that cannot be done here."""
    code: tuple[str, ...]
    """Files and folders that what it writes depends on."""
    label: str
    """For figures."""
    artifact: str = ""
    """Name of what `make` writes, where several rows run the same files; else the row's own name."""
    preset: str = "edge"
    """Whose preprocessing brings an image to its frame."""
    packages: tuple[str, ...] = ()
    """Of its own environment, where it cannot run in ours."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the engine."""

    @property
    def folder(self) -> str:
        """Name of the folder of its files."""
        return self.artifact or self.name


def ours(preset: str, precision: str = "fp32", rank: int | None = None, backbone: str = "resnet18") -> Method:
    """A model of `padim_edge.build.build`, for the CPU; `builtin` with the weights that ship."""

    def make(source: Source, folder: Path) -> None:
        from benchmarks.backbone import load
        from padim_edge.build import build
        from padim_edge.presets import PRESETS
        from padim_edge_model.precision import Precision

        trunk = load(backbone, source.weights if backbone == "resnet18" else None, folder)
        chosen = Precision(precision, rank=rank)
        build(dataset(source), folder / "model.onnx", PRESETS[preset], trunk, precision=chosen)

    own = backbone != "resnet18"
    name = "ours-" + "-".join([backbone] * own + [preset, precision]) + ("" if rank is None else f"-rank{rank}")
    label = f"padim-edge {backbone} " if own else "padim-edge "
    label += f"({preset}, {precision}" + (")" if rank is None else f", rank {rank})")
    return Method(name, "ours", "ours", make, _OURS, label, preset=preset)


def _make_bare(source: Source, folder: Path) -> None:
    from benchmarks.backbone import load, stage_outputs
    from padim_edge.presets import PRESETS

    trunk = load("resnet18", source.weights, folder)
    model = stage_outputs(trunk, PRESETS["edge"].preprocessing.size)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _make_anomalib(source: Source, folder: Path) -> None:
    from padim_edge.presets import PRESETS

    found, whole = dataset(source), PRESETS["edge"].preprocessing
    write_frames(found.good, whole, folder / "good")
    if source.data:
        write_frames(found.test, whole, folder / "test")
    test = folder / "test" if source.data else None
    said = anomalib(folder / "good", folder, weights=source.weights, test=test, threads=_threads())
    (folder / _ANOMALIB).write_text(json.dumps(said, indent=1), encoding="utf-8")


def _anomalib(name: str, engine: str, label: str, packages: tuple[str, ...] = (), **options: Any) -> Method:
    code = ("benchmarks/rivals/anomalib_padim.py", "benchmarks/rivals/__init__.py")
    label = f"anomalib PaDiM, {label}"
    return Method(name, "rival", engine, _make_anomalib, code, label, "anomalib", packages=packages, options=options)


def _fitted(name: str, label: str, method: str, network: str = "resnet18") -> Method:
    """A method of `benchmarks.methods`."""

    def make(source: Source, folder: Path) -> None:
        from benchmarks import methods
        from benchmarks.methods import features
        from padim_edge.presets import PRESETS

        whole = PRESETS["edge"].preprocessing
        loaded = features.load(network, source.weights if network == "resnet18" else None)
        good = frames(dataset(source).good, whole)
        methods.fit(method, good, loaded, whole.size, threads=_threads()).save(folder)

    return Method(
        name, "rival", "methods", make, ("benchmarks/methods", "runtime/padim_edge_runtime/fitting.py"), label
    )


_ROWS = (
    Method("bare-backbone", "floor", "bare", _make_bare, ("export", "benchmarks/backbone.py"), "ResNet-18 alone"),
    *(ours(preset, precision) for preset in ("paper", "edge", "accurate") for precision in ("fp32", "fp16", "int8")),
    *(ours(preset, precision, backbone="builtin") for preset in ("edge", "accurate") for precision in ("fp32", "int8")),
    _anomalib("anomalib-onnx", "anomalib-onnx", "ONNX"),
    _anomalib("anomalib-openvino", "anomalib-openvino", "OpenVINO's choice", OPENVINO),
    _anomalib("anomalib-openvino-f32", "anomalib-openvino", "OpenVINO", OPENVINO, precision="f32"),
    _fitted("SPADE-R18", "SPADE, ResNet-18", "spade"),
    _fitted("SPADE-WR50", "SPADE, Wide ResNet-50-2", "spade", "wide_resnet50_2"),
    _fitted("PatchCore-1%", "PatchCore 1 %, ResNet-18", "patchcore-1"),
    _fitted("PatchCore-10%", "PatchCore 10 %, ResNet-18", "patchcore-10"),
    _fitted("VAE", "VAE, ResNet-18 encoder", "vae"),
)

METHODS = {method.name: method for method in _ROWS}


def made(method: Method, source: Source, work: Path, environ: Mapping[str, str]) -> Path:
    """The folder of a fitted method: from an earlier run where nothing has changed, else fitted now.

    Raises:
        Missing: It cannot be fitted here; with the reason.
    """
    folder = work / f"{method.folder.replace('%', 'pc')}-{source.images}"
    settings = {**source.settings(), "code": _digest(method.code)}
    record = folder / _MADE
    if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["settings"] == settings:
        return folder
    if folder.is_dir():
        _empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    asked = [sys.executable, "-m", "benchmarks.rivals.table", method.name, str(folder), json.dumps(source.to_json())]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=dict(environ), cwd=ROOT)
    if done.returncode:
        raise Missing(reason(done.stderr))
    seconds = round(time.perf_counter() - start, 1)
    record.write_text(json.dumps({"settings": settings, "seconds": seconds}), encoding="utf-8")
    return folder


def rival_versions(folder: Path) -> dict[str, str]:
    """Versions with which a rival was fitted in an environment of its own, and that matter."""
    record = folder / _ANOMALIB
    if not record.is_file():
        return {}
    versions = json.loads(record.read_text(encoding="utf-8"))["versions"]
    return {package: versions[package] for package in ("anomalib", "timm")}


def start(method: Method, environ: Mapping[str, str]) -> Worker:
    """A worker process for a method; in an environment of its own where the method needs one.

    Raises:
        Missing: There is no such environment here.
    """
    environ = {**environ, "PYTHONUNBUFFERED": "1"}
    if not method.packages:
        return Worker([sys.executable, "-m", "benchmarks.timing_worker"], environ)
    # Of ours it sees what is pure Python: how an image is brought to the frame, and the worker itself.
    own = {**isolated_environ(environ), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "runtime")))}
    return Worker(isolated(method.packages, "-m", "benchmarks.timing_worker"), own)


def _digest(code: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in (*code, "benchmarks/rivals/images.py"):
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _empty(folder: Path) -> None:
    """Remove what an earlier run wrote there, and nothing but files of such a folder."""
    import shutil

    if not ((folder / _MADE).is_file() or not any(folder.iterdir()) or (folder / "started").is_file()):
        raise Missing(f"its work folder {folder.name} holds something else; choose another --work")
    shutil.rmtree(folder)


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "2"))


def main() -> None:
    """Fit one method into a folder."""
    name, folder, source = sys.argv[1], Path(sys.argv[2]), Source.from_json(json.loads(sys.argv[3]))
    (folder / "started").touch()
    with contextlib.redirect_stdout(sys.stderr):
        METHODS[name].make(source, folder)


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"Missing: {missing}")
