"""The shipped file keeps the promises of the format, and nothing half-written is left behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from small_models import dataset, export_model, fitted, small

from padim_edge import sample
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.exports import output_paths
from padim_edge.fitted import Fitted
from padim_edge.presets import preset
from padim_edge_artifact import ArtifactError, PadimEdgeError, names, read_metadata, read_verified
from padim_edge_model import onnx_file
from padim_edge_runtime import Detector
from padim_edge_runtime.image_files import Decoded

SMALL = small("edge")
"""The same method in a second."""


@pytest.fixture
def data_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models have a data file, too."""
    monkeypatch.setattr(onnx_file, "EXTERNAL_ABOVE", 0)


def weave(count: int) -> Dataset:
    return dataset([Image.fromarray(sample.draw_good("weave", i, size=64)) for i in range(count)])


@pytest.fixture(scope="module")
def of_three() -> Fitted:
    return fitted(weave(3), SMALL)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An `edge` model of the usual size, whose constants are so many that they go to a data file."""
    path = tmp_path_factory.mktemp("model") / "weave.onnx"
    export_model(weave(40), path, preset("edge", backbone="builtin"))
    return path


def test_the_checker_takes_the_file_and_its_versions_are_the_formats(model: Path) -> None:
    onnx.checker.check_model(str(model), full_check=True)
    loaded = onnx.load(model, load_external_data=False)
    assert loaded.ir_version == 8
    assert [(each.domain, each.version) for each in loaded.opset_import] == [("", 18)]


def test_inputs_and_outputs_are_the_formats_with_a_free_batch(model: Path) -> None:
    graph = onnx.load(model, load_external_data=False).graph

    def shape(value: onnx.ValueInfoProto) -> list[str | int]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    assert {v.name: shape(v) for v in graph.input} == {names.IMAGE: ["N", 224, 224, 3]}
    assert {v.name: shape(v) for v in graph.output} == {
        names.SCORE: ["N"],
        names.ANOMALY_MAP: ["N", 224, 224],
        names.PATCH_DISTANCE: ["N", 56, 56],
    }


def test_the_first_node_is_a_cast_and_no_node_is_one_that_tensorrt_refuses(model: Path) -> None:
    """TensorRT takes uint8 in a Cast only; the others are from the table of what its parser refuses."""
    nodes = onnx.load(model, load_external_data=False).graph.node
    assert nodes[0].op_type == "Cast"
    assert list(nodes[0].input) == [names.IMAGE]
    refused = {
        "Resize",
        "TopK",
        "NonZero",
        "Compress",
        "Unique",
        "MatMulInteger",
        "DynamicQuantizeLinear",
        "If",
        "Loop",
    }
    assert refused.isdisjoint(node.op_type for node in nodes)
    assert all(node.domain == "" for node in nodes)


def test_nothing_in_the_file_names_the_machine(model: Path) -> None:
    loaded = onnx.load(model, load_external_data=False)
    for tensor in loaded.graph.initializer:  # whose bytes may spell anything
        tensor.ClearField("raw_data")
    content = loaded.SerializeToString()
    assert names.METADATA_KEY.encode() in content
    for trace in (
        b"stack_trace",
        b".py",
        str(model.parent).encode(),
        str(Path.home()).encode(),
        str(Path.cwd()).encode(),
    ):
        assert trace not in content, trace


def test_the_constants_are_in_the_data_file_at_page_boundaries(model: Path) -> None:
    loaded = onnx.load(model, load_external_data=False)
    outside = [t for t in loaded.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    entries = [{e.key: e.value for e in t.external_data} for t in outside]
    assert [tuple(t.dims) for t in outside] == [(196, 25, 25), (784, 75, 50), (3136, 100, 25)]  # level by level
    assert {e["location"] for e in entries} == {data_of(model).name}
    assert all(int(e["offset"]) % 4096 == 0 for e in entries)
    ends = [int(e["offset"]) + int(e["length"]) for e in entries]
    assert all(int(e["offset"]) >= end for e, end in zip(entries[1:], ends, strict=False))
    assert [int(e["length"]) for e in entries] == [4 * int(np.prod(t.dims)) for t in outside]
    assert data_of(model).stat().st_size == ends[-1]
    assert model.stat().st_size < 5e6  # the backbone


def test_the_digests_are_true_and_the_model_answers_its_self_test(model: Path) -> None:
    digests = read_verified(model).digests
    assert digests.data is not None
    assert digests.data_file == f"weave.onnx.{digests.data[:8]}.data"
    outcome = Detector.load(model, "cpu").self_test()
    assert outcome.passed
    assert outcome.difference < 1e-6  # the same machine


def test_a_model_that_onnx_saved_again_is_said_to_be_another_tools(model: Path, tmp_path: Path) -> None:
    """It takes the constants into the file, as simplifiers do, and keeps our metadata and its digests."""
    assert int(props_of(model)[names.SIZE_KEY]) == model.stat().st_size
    path = tmp_path / "weave.onnx"
    onnx.save(onnx.load(model), path)
    with pytest.raises(ArtifactError, match="was changed by another tool"):
        Detector.load(path, "cpu")


@pytest.mark.usefixtures("data_file")
def test_a_data_file_elsewhere_is_reached_by_links_or_refused_with_what_to_do(of_three: Fitted, tmp_path: Path) -> None:
    """onnxruntime 1.24 and later open no data file outside of the model's own folder."""
    (store := tmp_path / "store").mkdir()
    of_three.export(store / "weave.onnx", progress=False)
    (both := tmp_path / "both").mkdir()
    stored = data_of(store / "weave.onnx")
    for name in ("weave.onnx", stored.name):
        (both / name).symlink_to(store / name)
    assert Detector.load(both / "weave.onnx", "cpu").self_test().passed
    (both / "weave.onnx").unlink()
    (both / "weave.onnx").write_bytes((store / "weave.onnx").read_bytes())
    if version_of(onnxruntime.__version__) < (1, 24):
        assert Detector.load(both / "weave.onnx", "cpu").self_test().passed
        return
    with pytest.raises(ArtifactError) as caught:
        Detector.load(both / "weave.onnx", "cpu")
    assert f"{both / stored.name} is a link to {stored}" in str(caught.value)
    assert "copy the file itself" in str(caught.value)
    assert "export" not in str(caught.value)


def data_of(model: Path) -> Path:
    name = read_metadata(model).digests.data_file
    assert name is not None
    return model.with_name(name)


def props_of(model: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(model, load_external_data=False).metadata_props}


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def test_batch_of_n_is_n_singles_and_the_score_is_the_maximum_of_the_map(model: Path) -> None:
    detector = Detector.load(model, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    together = detector(frames)
    np.testing.assert_array_equal(together.score, together.anomaly_map.max(axis=(1, 2)))
    singles = np.concatenate([detector(frame).anomaly_map for frame in frames])
    np.testing.assert_allclose(together.anomaly_map, singles, rtol=1e-5)  # a batch may be summed in another order


def test_a_small_model_is_a_single_file(of_three: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "EXTERNAL_ABOVE", 0)
    of_three.export(tmp_path / "one.onnx", progress=False)
    monkeypatch.setattr(onnx_file, "EXTERNAL_ABOVE", 1 << 30)
    of_three.export(tmp_path / "one.onnx", progress=False)  # the old model's data file goes, too
    assert [path.name for path in tmp_path.iterdir()] == ["one.onnx"]
    assert Detector.load(tmp_path / "one.onnx", "cpu").self_test().passed


@pytest.mark.usefixtures("data_file")
def test_exporting_again_replaces_both_files(of_three: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "weave.onnx"
    of_three.export(path, progress=False)
    first, old = read_verified(path), data_of(path)
    export_model(weave(5), path, small("edge", seed=1))
    second, new = read_verified(path), data_of(path)
    assert (first.images, second.images) == (3, 5)
    assert old != new  # a loaded model keeps its constants
    assert sorted(tmp_path.iterdir()) == [path, new]


@pytest.mark.usefixtures("data_file")
def test_the_data_file_of_another_model_is_refused(of_three: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "weave.onnx"
    of_three.export(path, progress=False)
    export_model(weave(3), other := tmp_path / "other.onnx", small("edge", seed=1))
    data_of(path).write_bytes(data_of(other).read_bytes())
    with pytest.raises(ArtifactError, match="damaged or belongs to another model"):
        Detector.load(path, "cpu")


@pytest.mark.usefixtures("data_file")
@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    "moment", ["padim_edge_learn.held_out.leave_one_out", "padim_edge_model.onnx_file.Staged.finish"]
)
def test_a_failure_leaves_the_old_model_and_nothing_else(
    failure: BaseException | type[BaseException],
    moment: str,
    of_three: Fitted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "weave.onnx"
    of_three.export(path, progress=False)
    before, data = path.read_bytes(), data_of(path)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(moment, fail)
    with pytest.raises((KeyboardInterrupt, MemoryError, PadimEdgeError)) as caught:
        export_model(weave(4), path, SMALL)
    if isinstance(failure, OSError):
        assert "No space left on device" in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, data]
    assert read_verified(path).images == 3


IMPOSSIBLE = {
    "model.bin": "expected a name that ends in .onnx",
    "missing/model.onnx": "does not exist; make it or choose another one",
    "file/model.onnx": "does not exist",
}


@pytest.mark.parametrize("name", [*IMPOSSIBLE, "folder.onnx"])
def test_an_impossible_output_is_refused_before_the_work(name: str, of_three: Fitted, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()

    def unread() -> Decoded:
        raise AssertionError("an image was read before the output was checked")

    unread_images = Dataset("weave", (Item("0", GOOD, unread, None),), ())
    with pytest.raises(PadimEdgeError, match=IMPOSSIBLE.get(name, "is a folder")):
        dataclasses.replace(of_three, dataset=unread_images).export(tmp_path / name)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_the_command_refuses_it_before_the_fit(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PadimEdgeError, match=IMPOSSIBLE[name]):
        output_paths(["weave"], tmp_path / name)
