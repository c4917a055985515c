"""Kept statistics: read to the bit, or refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import golden as files
import numpy as np
import pytest
from drawn_statistics import GRAPH, RECIPE, REMEMBERED, SOME, symmetric
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from padim_edge_artifact import ArtifactError, Memory, Statistics
from padim_edge_artifact.kept import KEPT_VERSION, Kept, read_kept, write_kept
from padim_edge_artifact.reference import Seen

KINDS = {"gaussians": SOME, "memory": REMEMBERED}

either = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of `KINDS`."""
    path, found = tmp_path_factory.mktemp("statistics") / "whole.npz", {}
    for kind, kept in KINDS.items():
        write_kept(path, kept)
        found[kind] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def content(contents: dict[str, bytes]) -> bytes:
    return contents["gaussians"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("statistics")


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_kept(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def assert_equal(found: Kept, expected: Kept) -> None:
    assert (found.recipe, found.graph, found.progress) == (expected.recipe, expected.graph, expected.progress)
    assert (found.statistics.count, found.statistics.grid) == (expected.statistics.count, expected.statistics.grid)
    assert np.array_equal(found.statistics.mean, expected.statistics.mean)
    assert np.array_equal(found.statistics.scatter, expected.statistics.scatter)
    if isinstance(expected.statistics, Memory):
        assert isinstance(found.statistics, Memory)
        assert np.array_equal(found.statistics.fold_of, expected.statistics.fold_of)
        assert np.array_equal(found.statistics.patches, expected.statistics.patches)
        for name, kind in (("vectors", np.float32), ("weights", np.int64)):
            for one, other in zip(getattr(found.statistics, name), getattr(expected.statistics, name), strict=True):
                assert one.dtype == kind
                assert np.array_equal(one, other)
    assert found.statistics.digest() == expected.statistics.digest()
    assert np.array_equal(found.evidence.fingerprints, expected.evidence.fingerprints)
    assert np.array_equal(found.evidence.named, expected.evidence.named)
    assert np.array_equal(found.seen.total, expected.seen.total)
    assert np.array_equal(found.seen.squares, expected.seen.squares)
    assert found.seen.likeness == expected.seen.likeness
    assert (found.seen.count, found.seen.brightness, found.seen.contrast, found.seen.shift) == (
        expected.seen.count,
        expected.seen.brightness,
        expected.seen.contrast,
        expected.seen.shift,
    )


@either
def test_what_is_written_is_read_to_the_bit(kind: str, tmp_path: Path) -> None:
    write_kept(tmp_path / "a.npz", KINDS[kind])
    assert_equal(read_kept(tmp_path / "a.npz"), KINDS[kind])


@pytest.mark.parametrize("empty", [Statistics.empty((2, 3), 3), Memory.empty((2, 3), 3)])
def test_nothing_seen_yet_survives_the_file(empty: Statistics | Memory, tmp_path: Path) -> None:
    """Its lowest and highest brightness are infinite, which JSON does not know."""
    recipe = REMEMBERED.recipe if isinstance(empty, Memory) else RECIPE
    nothing = Kept(recipe, GRAPH, empty, Seen.nothing((2, 3)))
    write_kept(tmp_path / "a.npz", nothing)
    assert_equal(read_kept(tmp_path / "a.npz"), nothing)


def test_more_patches_than_are_written_at_a_time(tmp_path: Path) -> None:
    many = Statistics(4, np.random.default_rng(1).standard_normal((150, 5)), symmetric(150, 5), (10, 15))
    parts = (dataclasses.replace(RECIPE.parts[0], dims=5, grid=(10, 15), codes=None),)
    recipe = dataclasses.replace(RECIPE, parts=parts)
    write_kept(tmp_path / "a.npz", Kept(recipe, GRAPH, many, Seen.nothing((10, 15))))
    assert np.array_equal(read_kept(tmp_path / "a.npz").statistics.scatter, many.scatter)


def test_numpy_reads_it(content: bytes, tmp_path: Path) -> None:
    """The format is documented as a `.npz`, so anybody's tools open it; the scatter is its lower triangle."""
    (tmp_path / "a.npz").write_bytes(content)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        rows, columns = np.tril_indices(3)
        assert np.array_equal(arrays["scatter"], SOME.statistics.scatter[:, rows, columns])
        assert json.loads(str(arrays["header"]))["recipe"]["class_name"] == "bottle"


@either
def test_the_same_statistics_give_the_same_bytes(kind: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    """Also at another time of day: no date is inside."""
    write_kept(tmp_path / "a.npz", KINDS[kind])
    assert (tmp_path / "a.npz").read_bytes() == contents[kind]
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_any_name_is_kept_as_it_is(tmp_path: Path) -> None:
    """numpy would add .npz to it."""
    write_kept(tmp_path / "bottle.statistics", SOME)
    assert [path.name for path in tmp_path.iterdir()] == ["bottle.statistics"]


@either
def test_a_file_cut_anywhere_is_refused(kind: str, contents: dict[str, bytes], scratch: Path) -> None:
    path, content = scratch / "cut.npz", contents[kind]
    for end in range(0, len(content), 23):
        path.write_bytes(content[:end])
        refusal(path)


@settings(deadline=None, max_examples=400)
@given(kind=st.sampled_from(tuple(KINDS)), data=st.data())
def test_a_changed_bit_is_refused_or_changes_nothing(
    contents: dict[str, bytes], scratch: Path, kind: str, data: st.DataObject
) -> None:
    """The archive also holds dates and such, which say nothing."""
    path, content = scratch / "flipped.npz", contents[kind]
    position = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(files.flipped(content, position, data.draw(st.integers(1, 255))))
    try:
        found = read_kept(path)
    except ArtifactError:
        return
    assert_equal(found, KINDS[kind])


def test_a_missing_file_a_folder_and_other_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.npz")
    refusal(tmp_path)
    for name, content in (("text.npz", b"hello"), ("empty.npz", b""), ("pickle.npz", b"\x80\x04N.")):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
    np.save(tmp_path / "array.npy", np.zeros(3))
    refusal(tmp_path / "array.npy")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refusal(tmp_path / "other.npz")


def test_pickled_arrays_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    arrays = whole_arrays()
    arrays["mean"] = np.array([Bomb()] * 18, dtype=object).reshape(6, 3)
    np.savez(tmp_path / "bomb.npz", **arrays)
    refusal(tmp_path / "bomb.npz")
    assert not (tmp_path / "exploded").exists()


def whole_arrays(**header: object) -> dict[str, np.ndarray]:
    """Arrays of a file, with other entries in its header."""
    rows, columns = np.tril_indices(3)
    first = {
        "version": KEPT_VERSION,
        "count": 7,
        "grid": [2, 3],
        "recipe": dataclasses.asdict(RECIPE),
        "progress": None,
        "likeness": dataclasses.asdict(SOME.seen.likeness),
    }
    return {
        "header": np.array(json.dumps({key: value for key, value in {**first, **header}.items() if value != "none"})),
        "graph": np.frombuffer(GRAPH, np.uint8),
        "seen": np.zeros(6),
        "thumbnails": np.zeros((2, 3)),
        "thumbnail_squares": np.zeros((2, 3)),
        "fingerprints": SOME.evidence.fingerprints,
        "named": SOME.evidence.named,
        "mean": SOME.statistics.mean,
        "scatter": np.ascontiguousarray(SOME.statistics.scatter[:, rows, columns]),
    }


def test_the_arrays_of_the_next_tests_are_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **whole_arrays())
    assert read_kept(tmp_path / "a.npz").statistics.count == 7


@pytest.mark.parametrize(
    "header",
    [
        {"version": KEPT_VERSION + 1},
        {"version": 1},
        {"version": KEPT_VERSION - 1},
        {"version": "none"},
        {"count": "none"},
        {"grid": "none"},
        {"grid": [2]},
        {"grid": [3, 3]},
        {"count": -1},
        {"count": None},
        {"recipe": {}},
        {"recipe": None},
        {"progress": 3},
        {"likeness": "none"},
        {"likeness": {"leans": [1.0, 2.0]}},
        {"progress": {"done": "many"}},
    ],
)
def test_another_version_or_a_wrong_header_is_refused(tmp_path: Path, header: dict[str, object]) -> None:
    np.savez(tmp_path / "header.npz", **whole_arrays(**header))
    sentence = refusal(tmp_path / "header.npz")
    if "version" in header:
        version = None if header["version"] == "none" else header["version"]
        assert f"version {version}, expected {KEPT_VERSION}" in sentence


def test_a_header_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for text in ("[2]", '"header"', "2"):
        np.savez(tmp_path / "header.npz", **{**whole_arrays(), "header": np.array(text)})
        refusal(tmp_path / "header.npz")


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    whole = whole_arrays()
    for name, array in (
        ("mean", whole["mean"][:, :2]),
        ("mean", whole["mean"][0]),
        ("mean", whole["mean"][None]),
        ("mean", whole["mean"].astype(np.float32)),
        ("scatter", whole["scatter"][:5]),
        ("scatter", whole["scatter"][:, :5]),
        ("scatter", whole["scatter"].astype(np.float32)),
        ("scatter", np.asfortranarray(whole["scatter"])),
        ("thumbnails", np.zeros((3, 2))),
        ("thumbnail_squares", np.zeros((3, 2))),
        ("seen", np.zeros(5)),
        ("graph", np.zeros(3)),
    ):
        np.savez(tmp_path / "shapes.npz", **{**whole, name: array})
        refusal(tmp_path / "shapes.npz")
    for name in whole:
        np.savez(tmp_path / "missing.npz", **{key: array for key, array in whole.items() if key != name})
        refusal(tmp_path / "missing.npz")


def remembered_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of a file with a memory."""
    write_kept(folder / "whole.npz", REMEMBERED)
    with np.load(folder / "whole.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_arrays_of_a_memory_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    whole = remembered_arrays(tmp_path)
    np.savez(tmp_path / "a.npz", **whole)
    assert_equal(read_kept(tmp_path / "a.npz"), REMEMBERED)
    fold_of, patches, lengths = (whole[name] for name in ("fold_of", "patches", "lengths"))
    vectors, weights = whole["vectors"], whole["weights"]
    more = lengths + np.eye(8, dtype=np.int64)[0] - np.eye(8, dtype=np.int64)[-1]
    folds = {"mean": whole["mean"][:7], "scatter": whole["scatter"][:7], "patches": patches[:7]}
    images = {"fingerprints": whole["fingerprints"][1:], "named": whole["named"][1:]}
    for changed in (
        {"fold_of": fold_of[:6]},
        {"fold_of": fold_of + 1},
        {"fold_of": fold_of - 1},
        {"fold_of": fold_of.astype(np.int32)},
        {"fold_of": fold_of.astype(np.float64)},
        {"fold_of": fold_of[None]},
        {"patches": patches[:7]},
        {"patches": patches - 4},
        {"patches": patches + 1},
        {"patches": patches.astype(np.float64)},
        {"weights": weights[1:]},
        {"weights": weights - 1},
        {"weights": -weights},
        {"weights": weights * 2},
        {"weights": weights.astype(np.float64)},
        {"weights": weights[:, None]},
        {"lengths": lengths[:-1]},
        {"lengths": lengths[None]},
        {"lengths": lengths[:0]},
        {"lengths": -lengths},
        {"lengths": more - 5 * more[0] * (np.arange(8) == 0)},
        {"lengths": np.append(lengths, 0)},
        {"vectors": vectors[1:]},
        {"vectors": vectors[:, 1:]},
        {"vectors": vectors[:, 0]},
        {"vectors": vectors.astype(np.float64)},
        {"vectors": vectors[0, 0]},
        {"mean": whole["mean"][:, :2]},
        {"scatter": whole["scatter"][:, :5]},
        folds,
        folds | {"lengths": lengths[:7], "fold_of": fold_of % 7, "vectors": vectors[:24], "weights": weights[:24]},
        images,
    ):
        np.savez(tmp_path / "shapes.npz", **{**whole, **changed})
        refusal(tmp_path / "shapes.npz")
    for name in whole:
        np.savez(tmp_path / "missing.npz", **{key: array for key, array in whole.items() if key != name})
        refusal(tmp_path / "missing.npz")


def test_gaussians_and_a_memory_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """The method says which of them a file holds."""
    for header, arrays in (
        (remembered_arrays(tmp_path)["header"], whole_arrays()),
        (whole_arrays()["header"], remembered_arrays(tmp_path)),
    ):
        np.savez(tmp_path / "mixed.npz", **{**arrays, "header": header})
        refusal(tmp_path / "mixed.npz")


def test_the_bank_belongs_to_what_statistics_must_share_to_be_merged() -> None:
    def same(**changes: object) -> str:
        bank = dataclasses.replace(REMEMBERED.recipe.method.bank, **changes)  # type: ignore[type-var, arg-type]
        method = dataclasses.replace(REMEMBERED.recipe.method, bank=bank)
        return dataclasses.replace(REMEMBERED, recipe=dataclasses.replace(RECIPE, method=method)).same

    assert same() == REMEMBERED.same != SOME.same
    others = ({"prototypes": 21}, {"prototypes": None, "share": 0.1}, {"whitened": False}, {"turned": True})
    assert len({same(), *(same(**changes) for changes in others)}) == 5


def test_the_digest_tells_statistics_apart() -> None:
    some = SOME.statistics
    digests = {some.digest(), dataclasses.replace(some, count=8).digest()}
    digests.add(dataclasses.replace(some, mean=some.mean + 1e-12).digest())
    digests.add(dataclasses.replace(some, scatter=some.scatter * (1 + 1e-12)).digest())
    assert len(digests) == 4
    assert dataclasses.replace(some, mean=some.mean.copy()).digest() == some.digest()


def test_a_graph_of_large_frames_has_names_that_are_read() -> None:
    """Sides from 128 on are bytes that are no text."""
    from padim_edge_artifact.external_data import tensor_names

    shape = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 224, 1000, 3])
    out = helper.make_tensor_value_info("part0", TensorProto.FLOAT, ["N", 200, 28, 28])
    model = helper.make_model(helper.make_graph([], "g", [shape], [out]))
    assert tensor_names(model.SerializeToString()) == (["image"], ["part0"])
