"""Options of onnxruntime's TensorRT provider, and places of engines. Engines themselves need a GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import types
from importlib import util
from pathlib import Path
from typing import Any

import fake_onnxruntime
import golden as files
import numpy as np
import pytest

from padim_edge_artifact import DeviceError, Metadata, read_metadata
from padim_edge_artifact.method import Precision
from padim_edge_artifact.self_test import probe_image
from padim_edge_runtime import Detector
from padim_edge_runtime.devices import engines, providers, tensorrt
from padim_edge_runtime.devices.tensorrt import Batches
from padim_edge_runtime.devices.warm import warm

KNOWN = {
    *("trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix"),
    *("trt_timing_cache_enable", "trt_timing_cache_path", "trt_builder_optimization_level"),
    *("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"),
    *("trt_max_workspace_size", "trt_context_memory_sharing_enable", "trt_cuda_graph_enable"),
    *("trt_engine_hw_compatible", "trt_dump_ep_context_model", "trt_op_types_to_exclude", "trt_dla_enable"),
    *("use_tf32", "cudnn_conv_algo_search", "arena_extend_strategy", "gpu_mem_limit", "prefer_nhwc"),
}
"""Names among the strings of onnxruntime-gpu 1.31.1's libraries."""

SHAPE = re.compile(r"image:(\d+)x(\d+)x(\d+)x3")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return files.copy(files.CROPPED, folder)


@pytest.fixture
def metadata(model: Path) -> Metadata:
    return read_metadata(model)


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return fake_onnxruntime.with_tensorrt(monkeypatch, tmp_path / "cache")


def frames(detector: Detector, count: int) -> np.ndarray:
    return np.repeat(probe_image(detector.metadata.size)[None], count, axis=0)


def built(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*.engine"))


def test_profiles_are_of_the_input_and_reach_from_1_to_the_largest_batch(metadata: Metadata) -> None:
    found = tensorrt.options(metadata, Batches(4, 16), Path("/e"), Path("/t"))
    shapes = [SHAPE.fullmatch(found[f"trt_profile_{which}_shapes"]) for which in ("min", "opt", "max")]
    height, width = metadata.size
    assert [tuple(map(int, each.groups())) for each in shapes if each] == [(n, height, width) for n in (1, 4, 16)]
    assert found["trt_engine_cache_path"] == "/e"
    assert found["trt_timing_cache_path"] == "/t"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_precision_is_the_graphs_for_every_model(metadata: Metadata, precision: str) -> None:
    """One of these options would make onnxruntime ask for a network whose types TensorRT may change."""
    method = dataclasses.replace(metadata.method, precision=Precision(precision, "tensorrt"))
    changed = dataclasses.replace(metadata, method=method)
    found = tensorrt.options(changed, Batches(), Path("/e"), Path("/t"))
    assert not [name for name in found if name.endswith(("fp16_enable", "int8_enable", "bf16_enable"))]
    assert found == tensorrt.options(metadata, Batches(), Path("/e"), Path("/t"))


def test_without_a_folder_nothing_is_kept(metadata: Metadata) -> None:
    assert set(tensorrt.options(metadata, Batches(), None)) == {
        f"trt_profile_{which}_shapes" for which in ("min", "opt", "max")
    }


def test_all_names_of_options_are_known_to_onnxruntime(metadata: Metadata) -> None:
    given = {
        "tensorrt": set(tensorrt.options(metadata, Batches(), Path("/e"), Path("/t"))),
        "cuda": set(providers._CUDA_OPTIONS),
    }
    found = util.find_spec("onnxruntime")
    assert found is not None
    (folder,) = found.submodule_search_locations or ()
    for device, used in given.items():
        library = Path(folder, "capi", f"libonnxruntime_providers_{device}.so")
        if library.is_file():
            content = library.read_bytes()
            assert [name for name in used if b"\0%s\0" % name.encode() not in content] == [], library.name
        assert used <= KNOWN


def test_a_key_names_all_that_an_engine_depends_on(metadata: Metadata) -> None:
    def with_(**digests: Any) -> Metadata:
        return dataclasses.replace(metadata, digests=dataclasses.replace(metadata.digests, **digests))

    key = tensorrt.key(metadata, "10.9.0", "8.9")
    assert re.fullmatch(r"[0-9a-f]{16}-tensorrt10\.9\.0-sm89", key)
    assert key == tensorrt.key(metadata, "10.9.0", "8.9")
    others = {
        tensorrt.key(with_(model="1" * 64), "10.9.0", "8.9"),
        tensorrt.key(with_(data="1" * 64), "10.9.0", "8.9"),
        tensorrt.key(with_(data=None, data_file=None, data_bytes=0), "10.9.0", "8.9"),
        tensorrt.key(metadata, "10.3.0", "8.9"),
        tensorrt.key(metadata, "10.9.0", "8.7"),
        tensorrt.key(metadata, "unknown", "unknown"),
        tensorrt.key(metadata, "10.9.0", "8.9", tf32=True),
    }
    assert len(others) == 7
    assert key not in others


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/me"}, ("/models/m.onnx.tensorrt", "/home/me/.cache/padim-edge")),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/c"}, ("/models/m.onnx.tensorrt", "/c/padim-edge")),
        ({"HOME": "/home/me", "PADIM_EDGE_CACHE": "/mine"}, ("/mine",)),
    ],
)
def test_engines_stand_beside_the_model_or_in_the_users_cache_or_where_the_variable_says(
    environment: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert tuple(map(str, engines.roots(Path("/models/m.onnx"), environment))) == expected


@pytest.mark.parametrize(
    ("number", "version"), [(100900, "10.9.0"), (101601, "10.16.1"), (100300, "10.3.0"), (110401, "11.4.1")]
)
def test_the_version_is_the_librarys_own_word(number: int, version: str) -> None:
    asked = []

    def load(name: str) -> object:
        asked.append(name)
        return types.SimpleNamespace(getInferLibVersion=lambda: number)

    assert tensorrt.version(load) == version
    assert asked == ["libnvinfer.so.10"]


def test_tensorrt_11_is_found_where_10_is_not() -> None:
    def load(name: str) -> object:
        if name != "libnvinfer.so.11":
            raise OSError(name)
        return types.SimpleNamespace(getInferLibVersion=lambda: 110401)

    assert tensorrt.version(load) == "11.4.1"


def test_without_the_library_the_version_is_unknown() -> None:
    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    assert tensorrt.version(missing) == "unknown"
    assert tensorrt.version(lambda _: object()) == "unknown"


def test_pips_libraries_are_loaded_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tensorrt_libs"
    folder.mkdir()
    for name in ("__init__.py", "libnvinfer.so.10", "libnvonnxparser.so.10", "libnvinfer_lean.so.10"):
        (folder / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    loaded: list[str] = []

    def load(path: str) -> None:
        loaded.append(path)
        raise OSError("libcudart.so.13 is missing")

    tensorrt.preload(load)
    assert loaded == [str(folder / "libnvinfer.so.10"), str(folder / "libnvonnxparser.so.10")]


def test_an_engine_is_built_once_beside_the_model_and_used_from_then_on(ort: Any, model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    first = Detector.load(model, "tensorrt", tell=told.append)
    assert (first.device, first.largest, first.placement) == ("tensorrt", 8, "all 40 nodes on tensorrt")
    (sentence,) = told
    assert "builds an engine for batches of 1 to 8 now" in sentence
    assert "padim-edge warm" in sentence
    Detector.load(model, "tensorrt", tell=told.append)
    Detector.load(model, "auto", tell=told.append)
    assert sum(ort.builds.values()) == 1
    assert len(told) == 1
    root = model.with_name(f"{model.name}.tensorrt")
    key = tensorrt.key(first.metadata, "10.9.0", "8.9")
    assert built(root) == [Path(key, "1-of-8", "TensorrtExecutionProvider_graph_123_sm89.engine")]
    assert (root / key / "1-of-8").stat().st_mode & 0o777 == 0o755
    assert not list(root.rglob(".building-*"))
    assert not (tmp_path / "cache").exists()


def test_the_session_gets_the_options_and_an_engine_that_is_there_is_not_written_to(ort: Any, model: Path) -> None:
    for _ in range(2):
        Detector.load(model, "tensorrt")
    building, loading = (dict(each["providers"])[providers.DEVICES["tensorrt"]] for each in ort.asked)
    assert Path(building["trt_engine_cache_path"]).name.startswith(".building-")
    assert Path(loading["trt_engine_cache_path"]).name == "1-of-8"
    assert "trt_timing_cache_path" not in loading


def test_other_batches_are_another_engine_and_neither_disturbs_the_other(ort: Any, model: Path) -> None:
    for batches in (None, Batches(1, 32), None, Batches(1, 32), Batches(2, 32)):
        assert Detector.load(model, "tensorrt", batches=batches).largest == (batches or Batches()).largest
    assert sum(ort.builds.values()) == 3
    assert len(built(model.parent)) == 3


@pytest.mark.usefixtures("ort")
def test_the_builders_timings_are_shared_by_all_models(model: Path) -> None:
    Detector.load(model, "tensorrt")
    Detector.load(model, "tensorrt", batches=Batches(1, 2))
    (timings,) = model.parent.rglob("*.timing")
    assert timings.parent.name == "timings-tensorrt10.9.0-sm89"
    assert timings.read_text() == "measured\nmeasured\n"


def test_a_changed_model_gets_an_engine_of_its_own_and_the_old_one_is_left_alone(ort: Any, model: Path) -> None:
    Detector.load(model, "tensorrt")
    before = built(model.parent)
    files.rewrite(model, model, lambda metadata: metadata.update(threshold=1.0))
    Detector.load(model, "tensorrt")
    assert sum(ort.builds.values()) == 2
    assert set(before) < set(built(model.parent))


def test_an_interrupted_build_leaves_nothing_that_is_taken_for_an_engine(
    ort: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = ort._build

    def interrupted(options: dict[str, str]) -> None:
        build(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ort, "_build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Detector.load(model, "tensorrt")
    assert built(model.parent) == []
    assert not list(model.parent.rglob(".building-*"))
    monkeypatch.undo()


def test_a_process_that_was_slower_keeps_the_others_engine(
    ort: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = ort._build

    def beaten(options: dict[str, str]) -> None:
        monkeypatch.setattr(ort, "_build", build)
        Detector.load(model, "tensorrt")
        build(options)

    monkeypatch.setattr(ort, "_build", beaten)
    Detector.load(model, "tensorrt")
    assert len(built(model.parent)) == 1
    Detector.load(model, "tensorrt")
    assert sum(ort.builds.values()) == 2


@pytest.mark.usefixtures("ort")
def test_a_damaged_engine_is_named(model: Path) -> None:
    Detector.load(model, "tensorrt")
    (engine,) = model.parent.rglob("*.engine")
    engine.write_text("torn")
    with pytest.raises(DeviceError, match=r"could not deserialize .* remove .*1-of-8, which may be damaged") as caught:
        Detector.load(model, "tensorrt")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("ort")
@pytest.mark.parametrize("readable", [0, 1])
def test_where_the_models_folder_cannot_be_written_to_the_users_cache_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: int
) -> None:
    if readable:  # built before the disk became read-only, as in the image of a device
        Detector.load(model, "tensorrt")
    monkeypatch.setattr(engines, "_writable", lambda root: root is not None and root.name == "padim-edge")
    Detector.load(model, "tensorrt")
    assert len(built(tmp_path / "cache")) == 1 - readable
    assert len(built(model.parent)) == readable


def test_what_was_warmed_last_is_found_in_the_users_cache_before_a_smaller_engine_beside_the_model(
    ort: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Detector.load(model, "tensorrt")
    monkeypatch.setattr(engines, "_writable", lambda root: root is not None and root.name == "padim-edge")
    warm(model, Batches(1, 32))
    assert Detector.load(model, "tensorrt").largest == 32
    assert sum(ort.builds.values()) == 2


def test_where_tensorrt_does_not_work_no_empty_folders_are_left(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_onnxruntime.install(monkeypatch, "tensorrt cuda cpu", computes=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    for cache in ("", str(mine), str(tmp_path / "new")):
        monkeypatch.setenv(engines.CACHE_VARIABLE, cache)
        before = set(tmp_path.rglob("*"))
        assert Detector.load(model, "auto").device == "cpu"
        assert set(tmp_path.rglob("*")) == before


def test_where_nothing_can_be_written_to_the_engine_is_built_every_time_and_that_is_told(
    ort: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_writable", lambda _: False)
    told: list[str] = []
    for _ in range(2):
        assert Detector.load(model, "tensorrt", tell=told.append).largest == 8
    assert ort.builds == {"not kept": 2}
    assert len(told) == 2
    assert "set PADIM_EDGE_CACHE" in told[0]
    assert built(tmp_path) == []


def test_a_variable_that_names_no_folder_is_refused(
    ort: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(engines, "_writable", lambda _: True)  # who is root may write anywhere
    with pytest.raises(DeviceError, match=r"cannot be made for TensorRT's engine .* set PADIM_EDGE_CACHE"):
        Detector.load(model, "tensorrt")
    assert not ort.builds


@pytest.mark.usefixtures("ort")
@pytest.mark.parametrize("text", ["", "{}", "[1, 8]", '{"tuned": null, "largest": 8}'])
def test_a_damaged_record_of_the_warmed_batches_counts_as_none(model: Path, text: str) -> None:
    detector = Detector.load(model, "tensorrt")
    folder = engines.find(model, detector.metadata).folder
    assert folder is not None
    (folder / "warmed.json").write_text(text)
    assert engines.find(model, detector.metadata).batches == Batches(1, 8)
    (folder / "warmed.json").write_text(json.dumps({"tuned": 2, "largest": 4}))
    assert engines.find(model, detector.metadata).batches == Batches(2, 4)


def test_a_batch_beyond_the_engine_is_refused_before_it_runs(ort: Any, model: Path) -> None:
    """The engine would be rebuilt in mid-run, for minutes, or fail with the provider's words."""
    detector = Detector.load(model, "tensorrt")
    assert len(detector(frames(detector, 8)).score) == 8
    with pytest.raises(DeviceError, match=r"a batch of 9 is too large .* 1 to 8; .*warm MODEL .* --batch 1,9"):
        detector(frames(detector, 9))
    ort.assigned = None
    assert len(Detector.load(model, "cuda")(frames(detector, 9)).score) == 9


def test_int8_for_the_cpu_is_passed_over_by_auto_and_refused_by_name(ort: Any, model: Path) -> None:
    ort.assigned = {providers.DEVICES["cuda"]: 40}
    files.rewrite(model, model, lambda metadata: metadata["method"]["precision"].update(name="int8", target="cpu"))
    with pytest.raises(DeviceError, match="export the model with --target tensorrt"):
        Detector.load(model, "tensorrt")
    detector = Detector.load(model, "auto")
    assert detector.device == "cuda"
    assert "no int8 for the CPU" in detector.refused[0]
    assert not ort.builds


@pytest.mark.usefixtures("ort")
@pytest.mark.parametrize("before", [None, "1", "0"])
def test_tensorrt_computes_float32_in_float32_unless_the_variable_says_otherwise(
    model: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    if before is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", before)
    Detector.load(model, "tensorrt")
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == (before or "0")
    (engine,) = built(model.parent)
    assert ("tf32" in str(engine)) == (before == "1")
