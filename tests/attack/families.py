"""Families of hostile inputs: each gives a mutant by its seed and number, and hands it to what reads it."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import golden as files
import numpy as np
from attack.complete import as_json
from attack.mutating import (
    changed_archive,
    changed_bytes,
    changed_json,
    changed_message,
    changed_safetensors,
    outside,
    places,
    with_value,
)
from drawn_statistics import REMEMBERED, SOME

from padim_edge_artifact import Metadata, container
from padim_edge_artifact.kept import read_kept, write_kept
from padim_edge_artifact.metadata import from_json, to_json
from padim_edge_artifact.names import METADATA_KEY
from padim_edge_artifact.protobuf import property_field
from padim_edge_artifact.schema import rows
from padim_edge_model.calibration import expanded, p_value, threshold
from padim_edge_model.comparable import check_frame, reference_of
from padim_edge_model.graph import of_kept
from padim_edge_model.repeats import groups, unpacked
from padim_edge_runtime import Detector
from padim_edge_runtime.worth import worth

__all__ = ["FAMILIES", "Family", "use_metadata"]

Family = Callable[[int, int, Path], None]
"""Hands a mutant, by seed and number, to its reader. A folder is for its files. Errors escape."""


def _draw(family: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{family} {seed} {number}")


@cache
def _golden() -> tuple[bytes, str]:
    """The golden model without its metadata, and these."""
    content, text = files.WHOLE.read_bytes(), container._properties(files.WHOLE)[METADATA_KEY]
    return content.removesuffix(property_field(METADATA_KEY, text)), text


def _digested(content: bytes, text: str, path: Path) -> Path:
    """Write a model with metadata whose digest is true."""
    present = json.loads(_golden()[1])["digests"]["model"]
    path.write_bytes(content + property_field(METADATA_KEY, text))
    if digest := container.model_digest(path, present):
        path.write_bytes(content + property_field(METADATA_KEY, text.replace(present, digest)))
    return path


def _judge(path: Path) -> None:
    detector = Detector.load(path, "cpu", threads=1)
    height, width = detector.metadata.input_size
    detector.inspect(np.full((height, width, 3), 128, np.uint8))
    detector.self_test()


def metadata(seed: int, number: int, folder: Path) -> None:
    """Other values in metadata; every fourth in a model whose digest is true."""
    draw = _draw("metadata", seed, number)
    if number % 4 == 0:
        content, text = _golden()
        base = json.loads(text)
        _judge(_digested(content, changed_json(draw, base, list(places(base))), folder / "m.onnx"))
        return
    base = as_json()
    if number % 4 == 1:
        row = draw.choice([each for each in rows(Metadata) if "bank" not in each.path[:2]])
        path = tuple(0 if each == "*" else each for each in row.path)
        present = base
        for key in path:
            present = None if present is None else present[key]  # type: ignore[call-overload]
        if present is None:
            return
        text = json.dumps(with_value(base, path, draw.choice(outside(row, present) or [present])))
    else:
        text = changed_json(draw, base, list(places(base)))
    use_metadata(from_json(text))


def use_metadata(found: Metadata) -> None:
    """Compute what readers compute of metadata."""
    assert from_json(to_json(found)) == found
    found.inspected.any()
    p_value(found.calibration, [0.0, found.threshold, 1e30])
    threshold(found.calibration, found.false_alarm_rate)
    expanded(found.calibration)
    unpacked(found.fingerprints)
    if found.size[0] * found.size[1] < 1 << 20:
        check_frame(np.zeros((*found.size, 3), np.uint8), found.reference, found.grid)
    worth(found)


def models(seed: int, number: int, folder: Path) -> None:
    """Damaged model files and data files, and files that are made to look like models."""
    draw, path = _draw("models", seed, number), folder / "golden_data.onnx"
    source = files.WHOLE if number % 2 else files.CROPPED
    content, data = source.read_bytes(), files.CROPPED.with_name("golden_data.onnx.data").read_bytes()
    kind = number % 5
    if kind == 4:
        data = changed_bytes(draw, data)
    elif kind == 3:
        content = changed_message(draw, content)
    elif kind == 2:
        at = len(content) - draw.randrange(1, 8000)
        content = content[:at] + changed_bytes(draw, content[at:])
    else:
        content = changed_bytes(draw, content)
    path.write_bytes(content)
    path.with_name("golden_data.onnx.data").write_bytes(data)
    _judge(path)


def graphs(seed: int, number: int, folder: Path) -> None:
    """Damaged graphs with a true digest: what a model of a stranger may hold."""
    draw = _draw("graphs", seed, number)
    content, text = _golden()
    _judge(_digested(changed_message(draw, content), text, folder / "g.onnx"))


@cache
def _statistics() -> tuple[bytes, ...]:
    import tempfile

    found = []
    for kept in (SOME, REMEMBERED):
        with tempfile.TemporaryDirectory() as folder:
            write_kept(Path(folder) / "s.npz", kept)
            found.append((Path(folder) / "s.npz").read_bytes())
    return tuple(found)


def statistics(seed: int, number: int, folder: Path) -> None:
    """Damaged statistics: bytes, members, headers of arrays, values, the JSON header and the graph."""
    draw, path = _draw("statistics", seed, number), folder / "s.npz"
    content = _statistics()[number % 2]
    match number % 7:
        case 0:
            content = changed_bytes(draw, content)
        case 1 | 2:
            content = _with_header(draw, content)
        case 3:
            content = _with_member(content, "graph.npy", lambda graph: changed_message(draw, graph))
        case _:
            content = changed_archive(draw, content)
    path.write_bytes(content)
    kept = read_kept(path)
    of_kept(kept)
    groups(kept.evidence.fingerprints)
    reference_of(kept.seen)
    assert kept.statistics.digest()
    assert kept.same
    assert kept.heads


def _with_header(draw: random.Random, content: bytes) -> bytes:
    def change(array: bytes) -> bytes:
        header = json.loads(np.frombuffer(array, "<u4").tobytes().decode("utf-32-le"))
        return np.array(changed_json(draw, header, list(places(header)))).tobytes()

    return _with_member(content, "header.npy", change)


def _with_member(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change the values of one array, and let its header say their true length."""
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        for each in old.namelist():
            array = old.read(each)
            if each == name:
                at = 10 + int.from_bytes(array[8:10], "little")
                values = change(array[at:])
                kind = f"<U{len(values) // 4}" if name == "header.npy" else "|u1"
                shape = "()" if name == "header.npy" else f"({len(values)},)"
                text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
                array = array[:8] + len(text).to_bytes(2, "little") + text + values
            new.writestr(each, array)
    return target.getvalue()


def weights(seed: int, number: int, folder: Path) -> None:
    """Damaged weights of both formats."""
    from attack.weights import base, read

    draw, suffix = _draw("weights", seed, number), (".safetensors", ".pth", ".pth")[number % 3]
    content = base(suffix)
    if suffix == ".safetensors" and draw.random() < 0.8:
        content = changed_safetensors(draw, content)
    elif suffix == ".pth" and draw.random() < 0.6:
        content = changed_archive(draw, content) if draw.random() < 0.3 else _with_pickle(draw, content)
    else:
        content = changed_bytes(draw, content)
    path = folder / f"w{suffix}"
    path.write_bytes(content)
    read(path)


def _with_pickle(draw: random.Random, content: bytes) -> bytes:
    """Change the pickle inside a file of torch, and make the sums of the archive true."""
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        for each in old.namelist():
            values = old.read(each)
            new.writestr(each, changed_bytes(draw, values) if each.endswith("data.pkl") else values)
    return target.getvalue()


def images(seed: int, number: int, folder: Path) -> None:
    """Damaged images of every format that is read."""
    from attack.mutated_images import mutants  # type: ignore[import-not-found, unused-ignore]

    from padim_edge_runtime import image_files

    ((name, content),) = mutants(1_000_003 * seed + number, 1)
    path = (folder / name).with_stem("image")
    path.write_bytes(content)
    image_files.decode(path)


FAMILIES: dict[str, Family] = {
    "metadata": metadata,
    "models": models,
    "graphs": graphs,
    "statistics": statistics,
    "weights": weights,
    "images": images,
}
"""Families by name."""
