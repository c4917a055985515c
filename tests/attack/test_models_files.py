"""Model files that would make their reader open, wait for, or believe something else."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden as files
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import ArtifactError, DeviceError, read_metadata, read_verified
from padim_edge_artifact.external_data import check_graph
from padim_edge_artifact.names import METADATA_KEY
from padim_edge_artifact.protobuf import property_field
from padim_edge_runtime import Detector

ELSEWHERE = (
    *("second.bin", "/etc/passwd", "../secret", "a/../../b", "..\\secret", "C:\\secret", "\\\\server\\share\\x"),
    *("NUL", "con.data", "", ".", "golden_data.onnx.data/", "./golden_data.onnx.data", "golden_data.onnx.data\0x"),
    *("*/_ORT_MEM_ADDR_/*", "GOLDEN_DATA.ONNX.DATA", "file:///etc/passwd"),
)
"""Names of onnx's list of attacks by external data, and onnxruntime's own word for an address in memory."""


def external(location: str, name: str = "evil") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def constant(location: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["evil"], value=external(location))


def _subgraph(model: onnx.ModelProto, tensor: str) -> None:
    inner = helper.make_graph([], "inner", [], [], [external(tensor)])
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner))


def _deep(model: onnx.ModelProto, tensor: str) -> None:
    inner = helper.make_graph([constant(tensor)], "inner", [], [])
    for _ in range(8):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner))


def _sparse(model: onnx.ModelProto, tensor: str) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(external(tensor))


def _sparse_attribute(model: onnx.ModelProto, tensor: str) -> None:
    node = model.graph.node.add(op_type="Constant", output=["x"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.indices.CopyFrom(external(tensor))


def _several(model: onnx.ModelProto, tensor: str) -> None:
    attribute = model.graph.node.add(op_type="X").attribute.add(name="t", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(external("golden_data.onnx.data"))
    attribute.tensors.append(external(tensor))


def _second_entry(model: onnx.ModelProto, tensor: str) -> None:
    """onnxruntime takes the last of two."""
    both = external("golden_data.onnx.data")
    both.external_data.add(key="location", value=tensor)
    model.graph.initializer.append(both)


PLACES: dict[str, Callable[[onnx.ModelProto, str], object]] = {
    "constant of the graph": lambda model, name: model.graph.initializer.append(external(name)),
    "attribute": lambda model, name: model.graph.node.append(constant(name)),
    "graph in a node": _subgraph,
    "graph in a graph": _deep,
    "sparse constant": _sparse,
    "sparse attribute": _sparse_attribute,
    "list of tensors": _several,
    "second entry of a tensor": _second_entry,
}


def with_graph(model: Path, target: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A model with another graph, and the digest made true."""
    loaded = onnx.load(model, load_external_data=False)
    (text,) = (each.value for each in loaded.metadata_props if each.key == METADATA_KEY)
    change(loaded)
    del loaded.metadata_props[:]
    target.write_bytes(loaded.SerializeToString() + property_field(METADATA_KEY, text))
    return files.rewrite(target, target, lambda metadata: metadata)


@pytest.fixture
def model(golden_data: Path, tmp_path: Path) -> Path:
    return files.copy(golden_data, tmp_path)


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_verified(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_named_anywhere_in_the_graph_is_refused(model: Path, place: str) -> None:
    for name in ELSEWHERE:
        sentence = refusal(with_graph(model, model.with_name("evil.onnx"), lambda it: PLACES[place](it, name)))  # noqa: B023
        assert "its graph reads the file" in sentence
        assert "expected golden_data.onnx.data only" in sentence
    PLACES[place](loaded := onnx.load(model, load_external_data=False), "golden_data.onnx.data")
    check_graph(loaded.SerializeToString(), "golden_data.onnx.data")


@pytest.mark.parametrize("place", PLACES)
def test_a_model_without_a_data_file_reads_none(golden: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "second.bin").write_bytes(bytes(16))
    evil = with_graph(golden, tmp_path / "evil.onnx", lambda it: PLACES[place](it, "second.bin"))
    assert "expected no file" in refusal(evil)


def test_a_name_that_hides_behind_a_crafted_neighbour_is_found() -> None:
    """A reader that only counts the bytes of the right entry would be fooled by one inside an unknown field."""
    entry = files.field(1, "location") + files.field(2, "a.data")
    hidden = files.field(9, b"\x6a" + bytes([len(entry)])) + entry + files.field(2, "/etc/passwd")
    content = files.field(7, files.field(5, files.field(13, hidden)))
    with pytest.raises(ArtifactError, match="/etc/passwd"):
        check_graph(content, "a.data")


def test_a_large_graph_is_searched_too() -> None:
    big = numpy_helper.from_array(np.zeros(1 << 20, np.float32), "big")
    graph = helper.make_graph([], "g", [], [], [big, external("second.bin")])
    with pytest.raises(ArtifactError, match=r"second\.bin"):
        check_graph(helper.make_model(graph).SerializeToString(), None)


def test_a_graph_in_a_graph_without_end_is_refused() -> None:
    content = files.field(1, "location")
    for _ in range(200):
        content = files.field(6, files.field(1, files.field(5, content)))
    with pytest.raises(ArtifactError, match="messages in each other"):
        check_graph(files.field(7, files.field(1, files.field(5, content))), None)


@pytest.mark.parametrize("domain", ["com.microsoft", "evil", "ai.onnx.ml", "ai.onnx.preview.training"])
def test_operators_that_are_not_onnx_s_own_are_refused(golden: Path, tmp_path: Path, domain: str) -> None:
    """Some of them read files: EPContext of com.microsoft names one in an attribute."""
    evil = with_graph(golden, tmp_path / "e.onnx", lambda it: it.opset_import.add(domain=domain, version=1))
    assert "expected ONNX's own" in refusal(evil)


def test_functions_and_training_are_refused(golden: Path, tmp_path: Path) -> None:
    changes: tuple[Callable[[onnx.ModelProto], object], ...] = (
        lambda it: it.functions.add(name="f", domain="x"),
        lambda it: it.training_info.add(),
    )
    for change in changes:
        assert "functions or a training" in refusal(with_graph(golden, tmp_path / "e.onnx", change))


@pytest.mark.parametrize(
    ("offset", "length"), [("999999999999", "16"), ("-1", "16"), ("0", "999999999999"), ("x", "y")]
)
def test_constants_beyond_the_data_file_are_refused_in_a_sentence(model: Path, offset: str, length: str) -> None:
    def change(it: onnx.ModelProto) -> None:
        (tensor, *_) = (each for each in it.graph.initializer if each.external_data)
        for entry in tensor.external_data:
            entry.value = {"offset": offset, "length": length}.get(entry.key, entry.value)

    with_graph(model, model, change)
    with pytest.raises(ArtifactError, match="cannot load") as caught:
        Detector.load(model, "cpu")
    assert "\n" not in str(caught.value)


def test_a_constant_of_terabytes_is_refused_in_a_sentence(golden: Path, tmp_path: Path) -> None:
    def change(it: onnx.ModelProto) -> None:
        shape = numpy_helper.from_array(np.array([1 << 42], np.int64), "huge_shape")
        it.graph.initializer.append(shape)
        it.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]))
        it.graph.output.append(helper.make_tensor_value_info("huge", TensorProto.FLOAT, [1 << 42]))

    evil = with_graph(golden, tmp_path / "e.onnx", change)
    height, width = read_metadata(golden).input_size
    with pytest.raises((ArtifactError, DeviceError)) as caught:
        Detector.load(evil, "cpu")(np.zeros((1, height, width, 3), np.uint8))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
@pytest.mark.timeout(30)
def test_what_is_no_regular_file_is_refused_at_once(model: Path, tmp_path: Path) -> None:
    """Opening a pipe would wait for its writer."""
    pipe, listener = tmp_path / "pipe.onnx", socket.socket(socket.AF_UNIX)
    os.mkfifo(pipe)
    assert "is a pipe, expected a regular file" in refusal(pipe)
    assert "is a device" in refusal(Path("/dev/zero"))
    listener.bind(str(tmp_path / "s.onnx"))
    refusal(tmp_path / "s.onnx")
    listener.close()
    data = model.with_name("golden_data.onnx.data")
    data.unlink()
    os.mkfifo(data)
    assert "missing" in refusal(model)


def test_a_data_file_that_is_a_link_out_of_the_folder_is_refused(model: Path, tmp_path: Path) -> None:
    data, away = model.with_name("golden_data.onnx.data"), tmp_path / "away"
    away.mkdir()
    shutil.move(data, away / "d")
    data.symlink_to(away / "d")
    assert "is a link to" in refusal(model)
    assert "copy the file itself" in refusal(model)


def test_links_within_the_folder_and_links_of_both_files_are_followed(model: Path, tmp_path: Path) -> None:
    data, links = model.with_name("golden_data.onnx.data"), tmp_path / "links"
    data.rename(model.with_name("blob"))
    data.symlink_to("blob")
    assert Detector.load(model, "cpu").self_test().passed
    links.mkdir()
    (links / model.name).symlink_to(model)
    (links / data.name).symlink_to(model.with_name("blob"))
    assert Detector.load(links / model.name, "cpu").self_test().passed


def test_a_model_file_that_grows_or_shrinks_while_it_is_read_is_never_half_believed(model: Path) -> None:
    """Twenty readers against a writer; a file that is mapped would end the process when it is cut short."""
    content, stop = model.read_bytes(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            os.truncate(model, len(content) // 3)
            model.write_bytes(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        expected = read_metadata(files.CROPPED)
        for _ in range(20):
            try:
                assert read_verified(model) == expected
            except ArtifactError as error:
                assert str(error)  # noqa: PT017  # both outcomes are right
    finally:
        stop.set()
        writer.join()


class TestOverwritten:
    """Constants are mapped from the data file, so who writes into it changes the loaded model."""

    @pytest.fixture
    def detector(self, model: Path) -> Detector:
        return Detector.load(model, "cpu")

    @pytest.fixture
    def data(self, model: Path) -> Path:
        return model.with_name("golden_data.onnx.data")

    def frames(self, detector: Detector) -> np.ndarray:
        return np.zeros((1, *detector.metadata.input_size, 3), np.uint8)

    def test_in_place(self, detector: Detector, data: Path) -> None:
        before = detector(self.frames(detector)).score
        assert detector(self.frames(detector)).score == before
        with data.open("r+b") as file:
            file.write(bytes(100))
        os.utime(data, ns=(1, 1))
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"was overwritten under the loaded model.*load the model again"):
                detector(self.frames(detector))

    def test_cut_short(self, detector: Detector, data: Path) -> None:
        os.truncate(data, 0)
        with pytest.raises(DeviceError, match="was overwritten"):
            detector(self.frames(detector))

    def test_while_it_runs(self, detector: Detector, data: Path) -> None:
        class Slow:
            def run(self, *arguments: Any) -> Any:
                found = detector.session.run(*arguments)
                data.write_bytes(data.read_bytes())
                return found

        slow = dataclasses.replace(detector, opened=dataclasses.replace(detector.opened, session=Slow()))
        with pytest.raises(DeviceError, match="was overwritten"):
            slow(self.frames(detector))

    @pytest.mark.parametrize("how", ["renamed over", "removed", "linked", "moved"])
    def test_the_old_file_lives_on_behind_another_name(self, detector: Detector, data: Path, how: str) -> None:
        before = detector(self.frames(detector)).score
        if how == "renamed over":
            shutil.copyfile(data, data.with_name("new"))
            data.with_name("new").replace(data)
        elif how == "linked":
            os.link(data, data.with_name("other"))
        elif how == "moved":
            data.rename(data.with_name("other"))
        else:
            data.unlink()
        assert detector(self.frames(detector)).score == before

    @pytest.mark.parametrize("which", [0, 1])
    def test_between_the_digest_and_the_session(
        self, model: Path, data: Path, which: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from padim_edge_runtime.devices import providers

        opened = providers.open_session

        def late(*arguments: Any, **options: Any) -> Any:
            file = (model, data)[which]
            shutil.copyfile(file, file.with_name("new"))
            file.with_name("new").replace(file)
            return opened(*arguments, **options)

        monkeypatch.setattr(providers, "open_session", late)
        with pytest.raises(ArtifactError, match=r"was changed while it was read; load the model again|again and again"):
            Detector.load(model, "cpu")

    def test_no_file_stays_open_behind_a_detector(self, model: Path) -> None:
        before = len(list(Path("/proc/self/fd").glob("*")))
        for _ in range(5):
            Detector.load(model, "cpu")
        assert len(list(Path("/proc/self/fd").glob("*"))) <= before


def test_a_model_without_a_data_file_needs_no_guard(golden: Path) -> None:
    assert Detector.load(golden, "cpu").guard is None
