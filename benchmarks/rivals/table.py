"""Table of the methods that are timed: how each is fitted, written into a folder, and run.

As a command, `python -m benchmarks.rivals.table NAME FOLDER SOURCE`, it fits one of them in a process of its own, so
that neither its memory nor its failures touch the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.images import Source, dataset, frames, write_frames
from benchmarks.rivals import OPENVINO, ROOT, Missing, anomalib, isolated, isolated_environ, reason
from benchmarks.rivals.turns import Worker

__all__ = ["METHODS", "Method", "made", "rival_versions", "start"]

Make = Callable[[Source, Path], None]

_MADE, _ANOMALIB = "made.json", "anomalib.json"

_OURS = ("padim_edge", "export", "runtime")
"""Folders of the code that a fitted model of ours depends on."""


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    """Name, as `--methods` takes it."""
    kind: str
    """`floor`, `ours` or `rival`."""
    engine: str
    """Key of `timing_worker.ENGINES`."""
    make: Make
    """Function that fits it and writes it into a folder; raises Missing where that cannot be done here."""
    code: tuple[str, ...]
    """Files and folders of the code that its files depend on."""
    label: str
    """Name in figures."""
    artifact: str = ""
    """Name of its files, where several rows run the same files; blank for the row's own name."""
    preset: str = "edge"
    """Preset whose preprocessing brings an image to its frame."""
    packages: tuple[str, ...] = ()
    """Packages of its own environment, where it cannot run in ours."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the engine."""

    @property
    def folder(self) -> str:
        """Name of the folder of its files."""
        return self.artifact or self.name


def ours(preset: str, precision: str = "fp32", rank: int | None = None, backbone: str = "resnet18") -> Method:
    """Return the row of a model of ours, for the CPU; `builtin` has the weights that ship."""

    def make(source: Source, folder: Path) -> None:
        import padim_edge
        from benchmarks.networks import weights_for

        numbers = padim_edge.Precision(precision, rank=rank)
        method = padim_edge.preset(preset, backbone=backbone, precision=numbers)
        with tempfile.TemporaryDirectory() as drawn:
            weights = weights_for(backbone, source.weights, Path(drawn))
            fitted = padim_edge.fit(dataset(source), method, weights=weights, progress=False)
            fitted.export(folder / "model.onnx", progress=False)

    own = backbone != "resnet18"
    name = "ours-" + "-".join([backbone] * own + [preset, precision]) + ("" if rank is None else f"-rank{rank}")
    label = f"padim-edge {backbone} " if own else "padim-edge "
    label += f"({preset}, {precision}" + (")" if rank is None else f", rank {rank})")
    return Method(name, "ours", "ours", make, _OURS, label, preset=preset)


def _make_bare(source: Source, folder: Path) -> None:
    from benchmarks.networks import stage_outputs, weights_for
    from padim_edge.presets import PRESETS

    with tempfile.TemporaryDirectory() as drawn:
        weights = weights_for("resnet18", source.weights, Path(drawn))
        model = stage_outputs("resnet18", weights, PRESETS["edge"].preprocessing.size)
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
    """Return the row of a method of `benchmarks.methods`."""

    def make(source: Source, folder: Path) -> None:
        from benchmarks import methods
        from benchmarks.methods import features
        from padim_edge.presets import PRESETS

        whole = PRESETS["edge"].preprocessing
        good = frames(dataset(source).good, whole)
        with tempfile.TemporaryDirectory() as drawn:
            given = source.weights if network == "resnet18" else None
            loaded = features.load(network, given, Path(drawn))
            methods.fit(method, good, loaded, whole.size, threads=_threads()).save(folder)

    return Method(name, "rival", "methods", make, ("benchmarks/methods", "benchmarks/networks.py"), label)


_ROWS = (
    Method("bare-backbone", "floor", "bare", _make_bare, ("export", "benchmarks/networks.py"), "ResNet-18 alone"),
    *(ours(preset, precision) for preset in ("paper", "edge", "accurate") for precision in ("fp32", "fp16", "int8")),
    *(ours("free", precision) for precision in ("fp32", "int8")),
    *(ours(preset, precision, backbone="builtin") for preset in ("edge", "accurate") for precision in ("fp32", "int8")),
    _anomalib("anomalib-onnx", "anomalib-onnx", "ONNX"),
    _anomalib("anomalib-openvino", "anomalib-openvino", "OpenVINO's choice", OPENVINO),
    _anomalib("anomalib-openvino-f32", "anomalib-openvino", "OpenVINO", OPENVINO, precision="f32"),
    _fitted("SPADE-R18", "SPADE, ResNet-18", "spade"),
    _fitted("SPADE-WR50", "SPADE, Wide ResNet-50-2 (random weights)", "spade", "wide_resnet50_2"),
    _fitted("PatchCore-1%", "PatchCore 1 %, ResNet-18", "patchcore-1"),
    _fitted("PatchCore-10%", "PatchCore 10 %, ResNet-18", "patchcore-10"),
    _fitted("VAE", "VAE, ResNet-18 encoder (untrained)", "vae"),
)

METHODS = {method.name: method for method in _ROWS}


def made(method: Method, source: Source, work: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder of a fitted method: from an earlier run where nothing has changed, else fitted now.

    Raises:
        Missing: It cannot be fitted here; the message is the reason.
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
    """Return the versions that a rival was fitted with in an environment of its own."""
    record = folder / _ANOMALIB
    if not record.is_file():
        return {}
    versions = json.loads(record.read_text(encoding="utf-8"))["versions"]
    return {package: versions[package] for package in ("anomalib", "timm")}


def start(method: Method, environ: Mapping[str, str]) -> Worker:
    """Start a worker process for a method, in an environment of its own where the method needs one.

    Raises:
        Missing: There is no such environment here.
    """
    environ = {**environ, "PYTHONUNBUFFERED": "1"}
    if not method.packages:
        return Worker([sys.executable, "-m", "benchmarks.timing_worker"], environ)
    # It sees our pure Python only: the way of an image into the frame, and the worker itself.
    own = {**isolated_environ(environ), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "runtime")))}
    return Worker(isolated(method.packages, "-m", "benchmarks.timing_worker"), own)


def _digest(code: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in (*code, "benchmarks/images.py"):
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _empty(folder: Path) -> None:
    """Remove the files of an earlier run, and no folder that holds anything else."""
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
