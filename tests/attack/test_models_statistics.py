"""Statistics files that promise more than they hold, or hold what no fit has: one sentence, and little memory."""

from __future__ import annotations

import dataclasses
import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden as files
import numpy as np
import pytest
from drawn_statistics import GRAPH, REMEMBERED, SOME

from padim_edge_artifact import ArtifactError
from padim_edge_artifact.kept import Kept, read_kept, write_kept
from padim_edge_artifact.recipe import CodesRecord

LITTLE = 8 << 20
"""Bytes that a refusal may take; the files have a few kilobytes."""


def refusal(path: Path) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError) as caught:
            read_kept(path)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def members(kept: Kept, folder: Path) -> dict[str, bytes]:
    write_kept(folder / "whole.npz", kept)
    with zipfile.ZipFile(folder / "whole.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(kept: Kept, folder: Path, **arrays: Any) -> Path:
    """The file with other arrays, or other bytes, as members."""
    content = members(kept, folder)
    for name, array in arrays.items():
        target = io.BytesIO()
        if not isinstance(array, bytes):
            np.save(target, array)
        content[f"{name}.npy"] = array if isinstance(array, bytes) else target.getvalue()
    return packed(folder, content)


def packed(folder: Path, content: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "changed.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, values in content.items():
            archive.writestr(name, values)
    return path


def header(descr: str, shape: str, values: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values


@pytest.mark.parametrize("kept", [SOME, REMEMBERED], ids=["gaussians", "memory"])
def test_what_is_rewritten_without_a_change_is_read(kept: Kept, tmp_path: Path) -> None:
    assert read_kept(rewritten(kept, tmp_path)).statistics.digest() == kept.statistics.digest()


@pytest.mark.parametrize("name", ["mean", "scatter", "thumbnails", "seen", "graph", "fingerprints", "named"])
@pytest.mark.parametrize(
    "shape",
    [
        f"({2**60},)",
        f"({2**32}, {2**32})",
        f"(0, {2**40})",
        f"({2**40}, 0)",
        "(-1,)",
        "()",
        "(True,)",
        "(9**9,)",
        "[6, 3]",
    ],
)
def test_a_header_that_promises_more_than_there_is_is_refused(name: str, shape: str, tmp_path: Path) -> None:
    for kind in ("'<f8'", "'|u1'", "'<i8'", "'<u2'"):
        refusal(rewritten(SOME, tmp_path, **{name: header(kind, shape)}))


@pytest.mark.parametrize(
    "descr", ["'|O'", "'|V0'", "[('a', '<f8')]", "'<f8', 'x': '|O'", "'<U1000000000'", "'<M8[ns]'", "'>f8'"]
)
def test_other_types_are_refused(descr: str, tmp_path: Path) -> None:
    for name in ("mean", "header", "vectors"):
        refusal(rewritten(REMEMBERED, tmp_path, **{name: header(descr, "()")}))


@pytest.mark.parametrize(
    "text", [b"(" * 9000, b"{" * 90, b"1" * 9000, b"", b"\0", b"lambda: 0", b"[" * 200 + b"]" * 200]
)
def test_a_header_that_is_hard_to_parse_is_refused(text: bytes, tmp_path: Path) -> None:
    refusal(rewritten(SOME, tmp_path, mean=b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text))


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_of_zeros_is_refused_unopened(kind: int, tmp_path: Path) -> None:
    """A megabyte of zip would be a gigabyte of zeros. What we write is not compressed."""
    content = members(SOME, tmp_path)
    path = packed(tmp_path, content | {"mean.npy": header("'<f8'", f"({1 << 18}, 8)", bytes(16 << 20))}, kind)
    assert path.stat().st_size < 1 << 20
    assert "is compressed" in refusal(path)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    content = members(SOME, tmp_path)
    assert "members" in refusal(packed(tmp_path, content | {f"x{i}": b"" for i in range(60)}))
    crowd = packed(tmp_path, content | {f"{i:0200}": b"" for i in range(20_000)})
    assert "table of contents is too long" in refusal(crowd)


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    content = members(SOME, tmp_path)
    path = packed(tmp_path, content)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mean.npy", content["mean.npy"])
    assert "each once" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mean", "scatter", "thumbnails", "thumbnail_squares"])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float, tmp_path: Path) -> None:
    with np.load(io.BytesIO(whole(SOME, tmp_path)), allow_pickle=False) as arrays:
        array = arrays[name].copy()
    array.flat[-1] = value
    refusal(rewritten(SOME, tmp_path, **{name: array}))


def whole(kept: Kept, folder: Path) -> bytes:
    write_kept(folder / "whole.npz", kept)
    return (folder / "whole.npz").read_bytes()


@pytest.mark.parametrize("kept", [SOME, REMEMBERED], ids=["gaussians", "memory"])
def test_a_sum_of_squares_below_zero_is_refused(kept: Kept, tmp_path: Path) -> None:
    with np.load(io.BytesIO(whole(kept, tmp_path)), allow_pickle=False) as arrays:
        scatter = arrays["scatter"].copy()
    scatter[-1, -1] = -1e-9
    assert "no sum of squares" in refusal(rewritten(kept, tmp_path, scatter=scatter))


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with np.load(io.BytesIO(whole(REMEMBERED, tmp_path)), allow_pickle=False) as arrays:
        vectors = arrays["vectors"].copy()
    vectors[0, 0] = np.inf
    assert "not finite" in refusal(rewritten(REMEMBERED, tmp_path, vectors=vectors))


@pytest.mark.parametrize(
    "seen",
    [
        [-1, 1, 2, 1, 2, 0],
        [7.5, 1, 2, 1, 2, 0],
        [7, np.inf, 2, 1, 2, 0],
        [7, np.nan, 2, 1, 2, 0],
        [0, np.nan, 2, 1, 2, 0],
        [7, 1, 2, 1, 2, 0.5],
        [7, 1, 2, 1, 2, 1e30],
        [7, 1, 2, 1, 2, -1],
        [1e300, 1, 2, 1, 2, 0],
    ],
)
def test_sums_that_no_images_have_are_refused(seen: list[float], tmp_path: Path) -> None:
    refusal(rewritten(SOME, tmp_path, seen=np.array(seen, np.float64)))


@pytest.mark.parametrize(
    "graph",
    [
        b"",
        b"no graph",
        GRAPH[:-3],
        files.field(7, b""),
        GRAPH + files.field(25, b""),
        GRAPH + files.field(8, files.field(1, "com.microsoft")),
        GRAPH + files.field(7, files.field(5, files.field(13, files.field(1, "location") + files.field(2, "x")))),
        GRAPH + files.field(7, files.field(11, files.field(1, "another input"))),
    ],
    ids=["empty", "text", "cut", "without tensors", "functions", "operators", "external data", "inputs"],
)
def test_a_graph_that_is_none_of_ours_is_refused(graph: bytes, tmp_path: Path) -> None:
    write_kept(path := tmp_path / "a.npz", dataclasses.replace(SOME, graph=graph))
    refusal(path)


PART = SOME.recipe.parts[0]


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (dataclasses.replace(PART, dims=2), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, grid=(3, 2)), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, name="nowhere"), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, codes=CodesRecord("c", (0.5, 0.5), (1, 2))), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, codes=CodesRecord("c", (0.5,), (256,))), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, codes=CodesRecord("c", (-0.5,), (1,))), SOME.recipe.parts[1]),
        (dataclasses.replace(PART, name="x" * 300), SOME.recipe.parts[1]),
    ],
    ids=["none", "dims", "grid", "name", "codes", "zero point", "scale", "long name"],
)
def test_parts_that_do_not_fit_are_refused(parts: Any, tmp_path: Path) -> None:
    recipe = object.__new__(type(SOME.recipe))  # past its own check, as a file is
    for name, value in {**vars(SOME.recipe), "parts": parts}.items():
        object.__setattr__(recipe, name, value)
    write_kept(path := tmp_path / "a.npz", dataclasses.replace(SOME, recipe=recipe))
    refusal(path)


def test_file_names_in_the_progress_may_be_any(tmp_path: Path) -> None:
    """They are names that some disk had, also such as no terminal shows."""
    assert SOME.progress is not None
    odd = dataclasses.replace(SOME.progress, unreadable=(("a\nb\udcff.png", "\x1b[2J cannot be read"),))
    write_kept(path := tmp_path / "a.npz", dataclasses.replace(SOME, progress=odd))
    assert read_kept(path).progress == odd


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
@pytest.mark.timeout(30)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    assert "is a pipe" in refusal(tmp_path / "pipe.npz")
    assert "is a device" in refusal(Path("/dev/zero"))


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "two files in one": lambda content: content + content,
    "nothing but its end": lambda content: content[-22:],
    "a directory before the file": lambda content: content[-22:-6] + b"\xff\xff\xff\xff" + content[-2:],
    "a comment": lambda content: content[:-2] + b"\xff\xff" + bytes(65535),
}


@pytest.mark.parametrize("cut", CUTS)
def test_archives_that_are_put_together_otherwise_are_read_or_refused(cut: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(CUTS[cut](whole(SOME, tmp_path)))
    try:
        assert read_kept(tmp_path / "a.npz").statistics.digest() == SOME.statistics.digest()
    except ArtifactError as error:
        assert "a.npz" in str(error)  # noqa: PT017  # both outcomes are right
