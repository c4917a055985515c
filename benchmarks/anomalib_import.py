"""Import PaDiMs that anomalib itself fitted, and compare scores and labels of all test images with anomalib's own.

anomalib runs in an environment of its own (`benchmarks.rivals`): its Engine fits on the good images of a class and
validates with the test images, its checkpoint and its ONNX export are imported. Three comparisons are made: our model
and anomalib's steps on the same frames (the certificate), those steps and anomalib itself with its own resize (so the
certificate's reference is anomalib), and our model with anomalib itself, each with its own resize.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rivals import ANOMALIB, Missing, isolated, isolated_environ, reason

WEIGHTS = "weights/resnet18-imagenet1k-v1-trunk.safetensors"

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class Set:
    """Images of a class."""

    folder: str
    """Folder of the class below data/."""
    size: tuple[int, int]
    """(H, W) of anomalib's frame."""
    sensitivity: float
    """Sensitivity of anomalib's threshold."""
    kinds: tuple[str, ...] = ()
    """Folders with defects; all but `good` where empty."""


SETS = {
    "bottle": Set(folder="mvtec_ad/bottle", size=(256, 256), sensitivity=0.5),
    "screw": Set(folder="mvtec_ad/screw", size=(256, 256), sensitivity=0.5),
    "cookie": Set(folder="others/cookie", size=(250, 190), sensitivity=0.4, kinds=("anomaly",)),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Agreement on the test images of one class, from one file."""

    class_name: str
    """Name of the class."""
    source: str
    """`checkpoint` or `onnx`."""
    images: int
    """Number of test images."""
    same_frame: float
    """Largest relative difference of our score and the certificate's reference on the same frames."""
    labels_same_frame: int
    """Number of images with equal labels there."""
    reference: float
    """Largest relative difference of the certificate's reference and anomalib itself, both with anomalib's resize."""
    own_resize: float
    """Largest relative difference of our score and anomalib's, each with its own resize."""
    labels_own_resize: int
    """Number of images with equal labels there."""
    anomalib_export: float
    """Largest relative difference of anomalib's own export from its own training, which is antialiasing alone."""


def main() -> None:
    """Parse the command line, fit with anomalib, import, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalib_import", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", default=Path("../shared"), help="has data/ and weights/")
    parser.add_argument("--classes", type=report.names, default=tuple(SETS))
    parser.add_argument("--python", metavar="FILE", help="Python with anomalib; by default uv makes an environment")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep anomalib's files there, and use those there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to that file")
    options = parser.parse_args()
    environment = report.probe(PACKAGES, threads=None)
    report.print_header("import of anomalib's PaDiM", environment)
    rows, failed, versions = [], [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.classes:
            folder = (options.folder or Path(scratch)) / name
            try:
                answer = fitted(name, options.data, folder, options.python)
            except Missing as error:
                failed.append(f"{name}: {error}")
                continue
            versions |= answer["versions"]
            rows += compare(name, options.data / "data" / SETS[name].folder / "test", folder, answer)
    columns = [field.name for field in dataclasses.fields(Row)]
    cells = [
        [f"{each:.1e}" if isinstance(each, float) else str(each) for each in dataclasses.astuple(row)] for row in rows
    ]
    report.print_table(columns, cells, words=2)
    for sentence in failed:
        print(sentence)
    settings = {"command": report.command("anomalib_import", without=("--json", "--data", "--python", "--folder"))}
    settings |= {"anomalib": versions, "sets": {name: dataclasses.asdict(SETS[name]) for name in options.classes}}
    report.write_json(
        options.json, "anomalib_import", environment, settings, [dataclasses.asdict(row) for row in rows], []
    )


def fitted(name: str, data: Path, folder: Path, python: str | None) -> dict[str, Any]:
    """Let anomalib fit, export and judge a class; return the answer of its script, which is kept in the folder.

    Raises:
        Missing: anomalib is not available here, or it failed.
    """
    kept = folder / "answer.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    images, chosen = data.absolute() / "data" / SETS[name].folder, SETS[name]
    kinds = chosen.kinds or sorted(each.name for each in (images / "test").iterdir() if each.name != "good")
    script = Path(__file__).parent / "rivals" / "anomalib_checkpoint.py"
    arguments = ["--good", images / "train/good", "--good-test", images / "test/good", "--defects"]
    arguments += [images / "test" / kind for kind in kinds]
    arguments += ["--weights", data.absolute() / WEIGHTS, "--output", folder.absolute(), "--size", *chosen.size]
    words = [str(script), *map(str, arguments), "--sensitivity", str(chosen.sensitivity)]
    done = subprocess.run(
        isolated(ANOMALIB, *words) if python is None else [python, *words],
        capture_output=True,
        text=True,
        check=False,
        env=isolated_environ(dict(os.environ)),
    )
    if done.returncode:
        raise Missing(f"anomalib in an environment of its own failed ({reason(done.stderr)})")
    kept.write_text(done.stdout.splitlines()[-1])
    return dict(json.loads(kept.read_text()))


def compare(name: str, test: Path, folder: Path, answer: dict[str, Any]) -> list[Row]:
    """Import the checkpoint and the ONNX model, and compare both with what anomalib answered."""
    from padim_edge.datasets import from_images
    from padim_edge.importing import Choice, import_anomalib
    from padim_edge.importing.parity import largest

    items = from_images([test / each for each in answer["images"]]).good
    theirs = list(answer["images"].values())
    low, high = answer["range"]
    limit = answer["threshold"] + (0.5 - SETS[name].sensitivity) * (high - low)
    exported = largest([(each["score_without_antialias"], each["score"]) for each in theirs])
    rows = []
    for source, key in (("checkpoint", "score"), ("onnx", "score_without_antialias")):
        output = folder / f"ours-{source}.onnx"
        made = import_anomalib(folder / answer[source], output, Choice(class_name=name, compared=items), progress=False)
        told = made.certificate
        rows.append(
            Row(
                class_name=name,
                source=source,
                images=len(told.images),
                same_frame=told.difference,
                labels_same_frame=len(told.images) - told.other_labels,
                reference=_largest([each.own_resize for each in told.images], theirs, key),
                own_resize=_largest([each.score for each in told.images], theirs, key),
                labels_own_resize=sum(
                    each.anomalous == (other[key] > limit) for each, other in zip(told.images, theirs, strict=True)
                ),
                anomalib_export=exported,
            )
        )
    return rows


def _largest(scores: Sequence[float], theirs: Sequence[dict[str, Any]], key: str) -> float:
    from padim_edge.importing.parity import largest

    return largest([(score, other[key]) for score, other in zip(scores, theirs, strict=True)])


if __name__ == "__main__":
    main()
