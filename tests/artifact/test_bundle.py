"""Bundles: many models in one file, each as good as its own file, none touched by a change of another."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
from pathlib import Path

import golden
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, PadimEdgeError, read_metadata
from padim_edge_artifact.bundle import HEAD, PAGE, Bundle, is_bundle, open_bundle
from padim_edge_artifact.bundling import Source, extract, write
from padim_edge_artifact.container import read_verified

MODELS = {"whole": golden.WHOLE, "cropped": golden.CROPPED}
"""A model with its constants inside, and one with a data file."""


def made(folder: Path, **sources: Path) -> Bundle:
    return write(folder / "line.padim", {name: Source(path) for name, path in (sources or MODELS).items()})


def contents(bundle: Bundle, product: str) -> list[bytes]:
    """All bytes of a product, graph and blobs, wherever they lie."""
    member = bundle.members[product]
    return sorted([bundle.blob(number) for number in member.blobs])


def test_models_come_back_byte_by_byte(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    (tmp_path / "out").mkdir()
    for name, path in MODELS.items():
        out = extract(bundle, name, tmp_path / "out" / path.name)
        assert out.read_bytes() == path.read_bytes()
        data = read_metadata(path).digests.data_file
        if data is not None:
            assert out.with_name(data).read_bytes() == path.with_name(data).read_bytes()


def test_metadata_are_those_of_the_file(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    for name, path in MODELS.items():
        assert read_verified(bundle.path, name) == read_verified(path)
        assert read_metadata(bundle.path, name) == read_metadata(path)


def test_common_constants_are_stored_once(tmp_path: Path) -> None:
    one = made(tmp_path, a=golden.WHOLE).stamp.size
    many = made(tmp_path, **{f"p{i}": golden.WHOLE for i in range(15)})
    graphs = sum(member.graph.size for member in many.members.values())
    assert many.stamp.size < one + graphs + 15 * PAGE
    assert len({number for member in many.members.values() for number in member.blobs}) == len(many.blobs)


def test_the_bytes_do_not_depend_on_the_name_of_the_file(tmp_path: Path) -> None:
    first = made(tmp_path)
    other = write(tmp_path / "other.padim", {name: Source(path) for name, path in MODELS.items()})
    assert first.path.read_bytes() == other.path.read_bytes()
    assert first.digest == other.digest == hashlib.sha256(_index(first.path)).hexdigest()


def _index(path: Path) -> bytes:
    content = path.read_bytes()
    _, _, _, offset, size, _ = HEAD.unpack(content[: HEAD.size])
    return content[offset : offset + size]


def test_blobs_begin_at_pages_and_fill_no_others(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    places = sorted((blob.offset, blob.offset + blob.size) for blob in bundle.blobs)
    assert all(start % PAGE == 0 for start, _ in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


def test_a_change_of_one_product_leaves_the_others_alone(tmp_path: Path) -> None:
    before = made(tmp_path)
    kept, graph = contents(before, "cropped"), before.graph(before.members["cropped"])
    metadata = read_verified(before.path, "cropped")
    changed = write(
        before.path,
        {"whole": Source(golden.CROPPED), "cropped": Source(before.path, "cropped"), "new": Source(golden.WHOLE)},
    )
    assert list(changed.members) == ["whole", "cropped", "new"]
    assert contents(changed, "cropped") == kept
    assert len(changed.graph(changed.members["cropped"])) == pytest.approx(
        len(graph), abs=40
    )  # numbers of blobs differ
    assert read_verified(changed.path, "cropped") == metadata
    assert read_verified(changed.path, "whole") == read_verified(golden.CROPPED)


def test_there_and_back_again_is_the_same_file(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    again = write(tmp_path / "again.padim", {name: Source(bundle.path, name) for name in bundle.members})
    assert again.path.read_bytes() == bundle.path.read_bytes()


def test_only_the_product_that_is_used_is_read(tmp_path: Path) -> None:
    """A bundle whose other product is damaged still gives the one that is not."""
    bundle = made(tmp_path)
    own = set(bundle.members["cropped"].blobs) - set(bundle.members["whole"].blobs)
    content = bytearray(bundle.path.read_bytes())
    content[bundle.blobs[min(own)].offset] ^= 1
    bundle.path.write_bytes(content)
    assert read_verified(bundle.path, "whole")
    with pytest.raises(ArtifactError, match="is damaged"):
        read_verified(bundle.path, "cropped")


def test_a_product_has_to_be_named_where_there_are_several(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    with pytest.raises(ArtifactError, match="several products; choose one of them: whole, cropped"):
        read_verified(bundle.path)
    with pytest.raises(ArtifactError, match="no product 'other', expected one of whole, cropped"):
        read_verified(bundle.path, "other")
    with pytest.raises(ArtifactError, match="is no bundle, so it has no product 'x'"):
        read_verified(golden.WHOLE, "x")
    single = made(tmp_path, only=golden.WHOLE)
    assert read_verified(single.path) == read_verified(golden.WHOLE)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x\0", "con"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(PadimEdgeError, match="no name of a product"):
        write(tmp_path / "x.padim", {name: Source(golden.WHOLE)})
    assert not list(tmp_path.iterdir())


def test_a_damaged_model_is_not_bundled(tmp_path: Path) -> None:
    model = golden.copy(golden.CROPPED, tmp_path)
    data = model.with_name(read_metadata(model).digests.data_file or "")
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="damaged"):
        write(tmp_path / "x.padim", {"a": Source(model)})
    assert not (tmp_path / "x.padim").exists()


def test_links_to_a_bundle_work(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.padim"
    link.symlink_to(bundle.path)
    assert read_verified(link, "cropped") == read_verified(golden.CROPPED)


@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_no_damage_is_overlooked(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever byte is changed or cut off, the answer is the right model, or one sentence."""
    folder = tmp_path_factory.getbasetemp() / "bundles"
    folder.mkdir(exist_ok=True)
    path = folder / "line.padim"
    if not path.exists():
        made(folder)
    content = bytearray(path.read_bytes())
    index = struct.unpack_from("<Q", content, 16)[0]
    place = data.draw(
        st.integers(0, HEAD.size - 1) | st.integers(index, len(content) - 1) | st.integers(0, len(content) - 1)
    )
    kind = data.draw(st.sampled_from(["change", "cut"]))
    if kind == "cut":
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    broken = folder / "broken.padim"
    broken.write_bytes(content)
    for name, model in MODELS.items():
        try:
            found = read_verified(broken, name)
        except ArtifactError:
            continue
        assert found == read_verified(model)


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"blobs": [], "products": []},
        {"blobs": [[0, 10, "0" * 64]], "products": []},
        {"blobs": [[64, -1, "0" * 64]], "products": [{}]},
        {"blobs": [[64, 2**70, "0" * 64]], "products": [{}]},
        {"blobs": [], "products": [{"name": "a", "graph": [64, 1, "0" * 64], "blobs": [3]}]},
        {"blobs": [], "products": [{"name": "a", "graph": [64, 10**9, "0" * 64], "blobs": []}]},
        {"blobs": [], "products": [{"name": 5, "graph": [64, 1, "0" * 64], "blobs": []}]},
        {"blobs": None, "products": [{"name": "a", "graph": [64, 1, "0" * 64], "blobs": []}]},
    ],
)
def test_a_forged_index_is_refused_in_one_sentence(tmp_path: Path, index: object) -> None:
    text = json.dumps(index).encode()
    path = tmp_path / "forged.padim"
    head = HEAD.pack(b"PADIMBND", 1, 0, HEAD.size, len(text), hashlib.sha256(text).digest())
    path.write_bytes(head + text)
    assert is_bundle(path)
    with pytest.raises(ArtifactError) as caught:
        read_verified(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_bundle_is_told_apart(tmp_path: Path) -> None:
    for path in (golden.WHOLE, tmp_path, tmp_path / "none"):
        assert not is_bundle(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert not is_bundle(pipe)
    with pytest.raises(ArtifactError, match="is no bundle"):
        open_bundle(golden.WHOLE)
    future = tmp_path / "future.padim"
    future.write_bytes(HEAD.pack(b"PADIMBND", 7, 0, HEAD.size, 0, bytes(32)))
    with pytest.raises(ArtifactError, match="of version 7, this padim-edge reads version 1"):
        open_bundle(future)


def test_scores_are_those_of_the_file(tmp_path: Path) -> None:
    from padim_edge_runtime.detector import Detector

    bundle = made(tmp_path)
    for name, path in MODELS.items():
        plain, bundled = Detector.load(path), Detector.load(bundle.path, product=name)
        assert bundled.self_test().passed
        height, width = plain.metadata.input_size
        frames = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)
        for one, other in zip(plain(frames).__dict__.values(), bundled(frames).__dict__.values(), strict=True):
            assert np.array_equal(one, other)


def test_a_loaded_model_notices_that_the_bundle_was_overwritten_and_not_that_it_was_replaced(tmp_path: Path) -> None:
    from padim_edge_artifact import DeviceError
    from padim_edge_runtime.detector import Detector

    bundle = made(tmp_path)
    detector = Detector.load(bundle.path, product="cropped")
    frame = np.zeros((*detector.metadata.input_size, 3), np.uint8)
    score = detector(frame).score
    write(bundle.path, {"cropped": Source(golden.WHOLE)})
    assert detector(frame).score == score, "the old file lives on behind the loaded model"
    again = Detector.load(bundle.path, product="cropped")
    with bundle.path.open("r+b") as file:
        file.seek(0, 2)
        file.write(b"x")
    with pytest.raises(DeviceError, match="was overwritten under the loaded model"):
        again(np.zeros((*again.metadata.input_size, 3), np.uint8))
