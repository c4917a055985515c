"""Saved statistics: loaded to the bit, or refused in one sentence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import golden as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, Statistics
from padim_edge_artifact.statistics import STATISTICS_VERSION

_RANDOM = np.random.default_rng(0)
SOME = Statistics(7, _RANDOM.standard_normal((6, 3)), _RANDOM.standard_normal((6, 3, 3)), (2, 3))


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    return SOME


@pytest.fixture(scope="module")
def content(statistics: Statistics, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("statistics") / "whole.npz"
    statistics.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("statistics")


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Statistics.load(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_what_is_saved_is_loaded_to_the_bit(statistics: Statistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "a.npz")
    loaded = Statistics.load(tmp_path / "a.npz")
    assert (loaded.count, loaded.grid) == (statistics.count, statistics.grid)
    assert np.array_equal(loaded.mean, statistics.mean)
    assert np.array_equal(loaded.scatter, statistics.scatter)


def test_the_same_statistics_give_the_same_bytes(statistics: Statistics, content: bytes, tmp_path: Path) -> None:
    """Also at another time of day: no date is inside."""
    statistics.save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == content
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_any_name_is_kept_as_it_is(statistics: Statistics, tmp_path: Path) -> None:
    """numpy would add .npz to it."""
    statistics.save(tmp_path / "bottle.statistics")
    assert [path.name for path in tmp_path.iterdir()] == ["bottle.statistics"]


def test_a_file_cut_anywhere_is_refused(content: bytes, scratch: Path) -> None:
    path = scratch / "cut.npz"
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        refusal(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_changed_bit_is_refused_or_changes_nothing(
    statistics: Statistics, content: bytes, scratch: Path, data: st.DataObject
) -> None:
    """The archive also holds dates and such, which say nothing."""
    path = scratch / "flipped.npz"
    position = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(files.flipped(content, position, data.draw(st.integers(1, 255))))
    try:
        loaded = Statistics.load(path)
    except ArtifactError:
        return
    assert (loaded.count, loaded.grid) == (statistics.count, statistics.grid)
    assert np.array_equal(loaded.mean, statistics.mean)
    assert np.array_equal(loaded.scatter, statistics.scatter)


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

    header = json.dumps({"version": STATISTICS_VERSION, "count": 1, "grid": [1, 1]})
    mean = np.array([Bomb()], dtype=object).reshape(1, 1)
    np.savez(tmp_path / "bomb.npz", header=np.array(header), mean=mean, scatter=np.zeros((1, 1, 1)))
    refusal(tmp_path / "bomb.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "header",
    [
        {"version": STATISTICS_VERSION + 1, "count": 7, "grid": [2, 3]},
        {"count": 7, "grid": [2, 3]},
        {"version": STATISTICS_VERSION, "grid": [2, 3]},
        {"version": STATISTICS_VERSION, "count": 7},
        {"version": STATISTICS_VERSION, "count": 7, "grid": [2]},
        {"version": STATISTICS_VERSION, "count": 7, "grid": [3, 3]},
        {"version": STATISTICS_VERSION, "count": -1, "grid": [2, 3]},
        {"version": STATISTICS_VERSION, "count": None, "grid": [2, 3]},
        [STATISTICS_VERSION],
        "header",
    ],
)
def test_another_version_or_a_wrong_header_is_refused(statistics: Statistics, tmp_path: Path, header: object) -> None:
    path = tmp_path / "header.npz"
    np.savez(path, header=np.array(json.dumps(header)), mean=statistics.mean, scatter=statistics.scatter)
    sentence = refusal(path)
    if isinstance(header, dict) and header.get("version") != STATISTICS_VERSION:
        assert f"version {header.get('version')}, expected {STATISTICS_VERSION}" in sentence


def test_arrays_that_do_not_fit_together_are_refused(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "shapes.npz"
    header = np.array(json.dumps({"version": STATISTICS_VERSION, "count": 7, "grid": [2, 3]}))
    for mean, scatter in (
        (statistics.mean[:, :2], statistics.scatter),
        (statistics.mean, statistics.scatter[:5]),
        (statistics.mean[0], statistics.scatter),
        (statistics.mean[None], statistics.scatter),
    ):
        np.savez(path, header=header, mean=mean, scatter=scatter)
        refusal(path)


@pytest.mark.parametrize(("offset", "bits"), [(8, 1), (8, 32), (8, 64), (10, 99), (6, 200)])
def test_an_archive_that_calls_itself_encrypted_or_otherwise_packed_is_refused(
    content: bytes, tmp_path: Path, offset: int, bits: int
) -> None:
    """One changed bit in its directory is enough for that; zipfile then raises RuntimeError and NotImplementedError."""
    path = tmp_path / "flags.npz"
    path.write_bytes(files.flipped(content, content.index(b"PK\x01\x02") + offset, bits))
    refusal(path)
