"""The model file as bytes: whole ones are read, all others are refused in one sentence and nothing else escapes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import golden as files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, container, read_metadata, read_verified, rewriting
from padim_edge_artifact.metadata import to_json
from padim_edge_artifact.names import FORMAT_VERSION, SIZE_KEY

POSITIONS = 200
"""Places at which files are cut; the whole test stays under a second."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("container")


def refusal(path: Path) -> str:
    """The sentence with which `read_verified` refuses a file."""
    with pytest.raises(ArtifactError) as caught:
        read_verified(path)
    assert "\n" not in str(caught.value)
    assert path.stem in str(caught.value), caught.value
    return str(caught.value)


def test_the_golden_models_are_whole(golden: Path, golden_data: Path) -> None:
    assert read_verified(golden) == read_metadata(golden)
    assert read_verified(golden).digests.data_file is None
    assert read_verified(golden_data).digests.data_file == "golden_data.onnx.data"


def test_a_model_cut_anywhere_is_refused(golden: Path, scratch: Path) -> None:
    content, path = golden.read_bytes(), scratch / "cut.onnx"
    ends = {len(content) * i // POSITIONS for i in range(POSITIONS)} | {len(content) - i for i in range(1, 50)}
    for end in sorted(ends):
        path.write_bytes(content[:end])
        refusal(path)
        with pytest.raises(ArtifactError):
            read_metadata(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_model_with_any_bit_changed_is_refused(scratch: Path, data: st.DataObject) -> None:
    content, path = files.WHOLE.read_bytes(), scratch / "flipped.onnx"
    tail = st.integers(len(content) - 1500, len(content) - 1)  # the metadata, small beside the constants
    position = data.draw(st.integers(0, len(content) - 1) | tail)
    path.write_bytes(files.flipped(content, position, data.draw(st.integers(1, 255))))
    refusal(path)


@settings(deadline=None, max_examples=50)
@given(position=st.integers(0, 49151), bits=st.integers(1, 255))
def test_a_data_file_with_any_bit_changed_is_refused(scratch: Path, position: int, bits: int) -> None:
    model = files.copy(files.CROPPED, scratch)
    path = model.with_name(f"{model.name}.data")
    path.write_bytes(files.flipped(path.read_bytes(), position, bits))
    assert "digest" in refusal(model)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_are_refused(scratch: Path, content: bytes) -> None:
    path = scratch / "random.onnx"
    path.write_bytes(content)
    refusal(path)


@settings(deadline=None, max_examples=200)
@given(metadata=st.text(max_size=50))
def test_anything_under_our_key_is_refused_unless_it_is_metadata(scratch: Path, metadata: str) -> None:
    path = scratch / "random.onnx"
    path.write_bytes(files.foreign(metadata))
    with pytest.raises(ArtifactError):
        read_verified(path)


def test_a_foreign_onnx_file_is_said_to_be_foreign(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(files.foreign())
    assert "not made by padim-edge" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"hello", b"\x89PNG\r\n\x1a\n" + b"\x00" * 64, b"\xff" * 64])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    assert ("empty" in refusal(path)) == (not content)


def test_a_folder_a_missing_file_and_a_file_as_a_folder_are_refused(tmp_path: Path, golden: Path) -> None:
    assert "folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "missing.onnx")
    refusal(files.copy(golden, tmp_path) / "inner.onnx")
    refusal(tmp_path / ("long" * 100))


def test_an_embedded_zero_in_the_path_is_refused() -> None:
    refusal(Path("zero\0.onnx"))


def test_rewriting_without_a_change_is_accepted(golden: Path, tmp_path: Path) -> None:
    """Otherwise the refusals below would prove nothing."""
    path = files.rewrite(golden, tmp_path / "same.onnx", lambda metadata: metadata)
    assert read_verified(path).threshold == read_verified(golden).threshold


@pytest.mark.parametrize("version", [1, FORMAT_VERSION + 1])
def test_a_whole_model_of_another_format_version_is_refused_by_name(golden: Path, tmp_path: Path, version: int) -> None:
    """Both versions are named, and what to do."""
    path = files.rewrite(golden, tmp_path / "old.onnx", lambda metadata: metadata.update(format_version=version))
    sentence = refusal(path)
    assert sentence == (
        f"{path} cannot be used: the model has format version {version}, this padim-edge reads version "
        f"{FORMAT_VERSION}; install the padim-edge that wrote it, or export it again with this one"
    )


@pytest.mark.parametrize("digits", ["", "0", "0" * 64, "\ud800" * 64, "é" * 64, "nowhere".ljust(64)])
def test_a_wrong_digest_of_itself_is_refused(golden: Path, tmp_path: Path, digits: str) -> None:
    content = json.loads(to_json(read_metadata(golden)))
    content["digests"]["model"] = digits
    sentence = refusal(files.rewrite(golden, tmp_path / "model.onnx", json.dumps(content)))
    if digits in ("", "0" * 64):
        assert "damaged" in sentence or "changed by another tool" in sentence
    else:
        assert "expected 64 hexadecimal digits" in sentence


class TestDataFile:
    """A model whose constants stand in a data file beside it."""

    @pytest.fixture
    def model(self, golden_data: Path, tmp_path: Path) -> Path:
        return files.copy(golden_data, tmp_path)

    @pytest.fixture
    def data(self, model: Path) -> Path:
        return model.with_name(f"{model.name}.data")

    def test_missing(self, model: Path, data: Path) -> None:
        data.unlink()
        assert "golden_data.onnx.data is missing" in refusal(model)

    def test_missing_because_both_files_were_renamed(self, model: Path, data: Path, tmp_path: Path) -> None:
        """The data file is known by its content; another model's of the same size is not taken for it."""
        (tmp_path / "another.onnx.data").write_bytes(bytes(49152))
        model = model.rename(tmp_path / "bottle.onnx")
        data.rename(tmp_path / "bottle.onnx.data")
        assert "golden_data.onnx.data is missing" in refusal(model)
        assert "renamed to bottle.onnx.data, so rename it to golden_data.onnx.data again" in refusal(model)
        (tmp_path / "bottle.onnx.data").rename(tmp_path / "golden_data.onnx.data")
        read_verified(model)

    def test_missing_and_nowhere_near(self, model: Path, data: Path) -> None:
        data.unlink()
        assert "give the .data file that name again if it was renamed" in refusal(model)

    def test_missing_beside_a_link_to_the_model(self, model: Path, data: Path, tmp_path: Path) -> None:
        (tmp_path / "links").mkdir()
        link = tmp_path / "links" / model.name
        link.symlink_to(model)
        assert f"link {data.resolve()} beside it as well" in refusal(link)
        link.with_name(data.name).symlink_to(data)
        read_verified(link)

    def test_a_link_that_leads_nowhere(self, model: Path, data: Path) -> None:
        data.unlink()
        data.symlink_to("moved.data")
        assert "is a link to moved.data, which is not there" in refusal(model)

    def test_a_folder_in_its_place(self, model: Path, data: Path) -> None:
        data.unlink()
        data.mkdir()
        assert "golden_data.onnx.data is missing" in refusal(model)

    @pytest.mark.parametrize("size", [0, 1, 4096, 49151])
    def test_short(self, model: Path, data: Path, size: int) -> None:
        os.truncate(data, size)
        assert f"has {size} bytes, expected 49152" in refusal(model)

    def test_long(self, model: Path, data: Path) -> None:
        data.write_bytes(data.read_bytes() + b"\0")
        assert "has 49153 bytes, expected 49152" in refusal(model)

    def test_of_another_model(self, model: Path, data: Path) -> None:
        data.write_bytes(bytes(49152))
        assert "belongs to another model" in refusal(model)

    @pytest.mark.parametrize("name", ["../secret.data", "/etc/passwd", "a/b.data", "", ".", "..", "./x.data", "a/"])
    def test_a_name_that_leads_elsewhere_is_refused(self, model: Path, name: str) -> None:
        def change(metadata: dict[str, Any]) -> None:
            metadata["digests"]["data_file"] = name

        sentence = refusal(files.rewrite(model, model, change))
        assert "a name in the same folder" in sentence

    def test_the_metadata_alone_can_be_read_without_it(self, model: Path, data: Path) -> None:
        data.unlink()
        assert read_metadata(model).digests.data_bytes == 49152


def appended(content: bytes, *texts: str) -> bytes:
    """Add entries to the metadata, as a tool does that keeps ours."""
    return content + b"".join(files.field(files.METADATA_PROPS, files.field(1, text)) for text in texts)


class TestChangedByAnotherTool:
    """A whole file of another size than we wrote was rewritten; damage leaves the size as it was, or ends the file."""

    @pytest.fixture
    def model(self, golden: Path, tmp_path: Path) -> Path:
        path = files.copy(golden, tmp_path)
        rewriting.replace_metadata(path, read_metadata(path))  # the golden model may be older than the size in it
        return path

    def test_the_size_is_true(self, model: Path) -> None:
        assert int(container._properties(model)[SIZE_KEY]) == model.stat().st_size

    @pytest.mark.parametrize("texts", [("simplifier",), ("a", "b" * 300)])
    def test_a_rewritten_model_is_not_called_damaged(self, model: Path, texts: tuple[str, ...]) -> None:
        before = model.stat().st_size
        model.write_bytes(appended(model.read_bytes(), *texts))
        sentence = refusal(model)
        assert "was changed by another tool" in sentence
        assert f"padim-edge wrote {before} bytes, now it has {model.stat().st_size}" in sentence
        assert "damaged" not in sentence

    def test_a_model_with_any_constant_changed_is_called_damaged(self, model: Path) -> None:
        content = model.read_bytes()
        for position in range(2000, len(content) - 8000, 997):
            model.write_bytes(files.flipped(content, position, 1))
            assert "another tool" not in refusal(model)

    def test_a_model_without_its_size_may_be_either(self, model: Path) -> None:
        model.write_bytes(appended(model.read_bytes().replace(SIZE_KEY.encode(), b"somebody_elses__"), "simplifier"))
        assert "is damaged or was changed by another tool" in refusal(model)


def test_the_digest_does_not_depend_on_what_stands_in_its_place(golden: Path, tmp_path: Path) -> None:
    digest = read_metadata(golden).digests.model
    blank = tmp_path / "blank.onnx"
    blank.write_bytes(golden.read_bytes().replace(digest.encode(), container.BLANK_DIGEST.encode()))
    assert container.model_digest(blank, container.BLANK_DIGEST) == container.model_digest(golden, digest) == digest


@pytest.mark.parametrize("name", [files.WHOLE.name, files.CROPPED.name])
def test_replacing_the_metadata_changes_nothing_else(tmp_path: Path, name: str) -> None:
    """Also when it is done again and again, and by text of another length."""
    model = files.copy(files.WHOLE.with_name(name), tmp_path)
    rewriting.replace_metadata(model, read_metadata(model))  # written by a version that had fewer fields
    before, first = model.read_bytes(), read_metadata(model)
    for class_name in ("a", "a much longer name of a class" * 9, first.class_name):
        written = rewriting.replace_metadata(model, dataclasses.replace(read_metadata(model), class_name=class_name))
        assert read_verified(model) == written
        assert written == dataclasses.replace(first, class_name=class_name, digests=written.digests)
    assert model.read_bytes() == before


def test_the_metadata_of_a_damaged_model_is_not_replaced(golden: Path, tmp_path: Path) -> None:
    """The new digest would declare it whole."""
    model, damaged = tmp_path / "model.onnx", files.flipped(golden.read_bytes(), 5000, 1)
    model.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="damaged"):
        rewriting.replace_metadata(model, read_metadata(golden))
    assert model.read_bytes() == damaged
