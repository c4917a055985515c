"""A model in a server's repository: the file itself, under a new number, with a configuration that Triton can read."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden as files
import numpy as np
import onnxruntime
import pytest
from commands import run

from padim_edge_artifact import ArtifactError, PadimEdgeError, names
from padim_edge_artifact.container import read_metadata, verified
from padim_edge_artifact.self_test import probe_image
from padim_edge_learn import triton, triton_check
from padim_edge_learn.triton import CHECK, CONFIG, MODEL, SELF_TEST, WARM_UP, package
from padim_edge_learn.triton_config import DEVICES, TritonOptions, config_text
from padim_edge_runtime import Detector

MODELS = [files.WHOLE, files.CROPPED]


def scores(model: Path) -> list[np.ndarray]:
    """Outputs that onnxruntime alone computes from the self-test image, twice in a batch."""
    metadata = read_metadata(model)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.stack([probe_image(metadata.input_size)] * 2)
    return session.run(list(names.OUTPUTS), {metadata.preprocessing.input_name: image})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_the_model_in_the_repository_is_the_same_file_with_the_same_scores(model: Path, tmp_path: Path) -> None:
    made = package(model, tmp_path, name="part")
    found = made.folder / MODEL
    assert found == tmp_path / "part" / "1" / "model.onnx"
    assert found.read_bytes() == model.read_bytes()
    assert verified(found).metadata == read_metadata(model)
    for one, other in zip(scores(model), scores(found), strict=True):
        np.testing.assert_array_equal(one, other)
    assert Detector.load(found, "cpu").self_test().difference < 1e-3
    metadata = read_metadata(model)
    expected = {CONFIG, f"1/{MODEL}", f"1/{CHECK}", f"1/{SELF_TEST}", f"{WARM_UP}/self-test-{{}}x{{}}.raw"}
    expected = {each.format(*metadata.input_size) for each in expected}
    if metadata.digests.data_file is not None:
        expected.add(f"1/{metadata.digests.data_file}")
    assert set(tree(tmp_path / "part")) == expected
    assert [each.name for each in tmp_path.iterdir()] == ["part"], "nothing unfinished is left"
    (raw,) = (tmp_path / "part" / WARM_UP).iterdir()
    assert raw.read_bytes() == probe_image(metadata.input_size).tobytes()


def test_each_version_gets_the_next_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    package(files.WHOLE, tmp_path, name="part")
    before = tree(tmp_path / "part")
    (tmp_path / "part" / "7-by-hand").mkdir()  # servers read a 7
    (tmp_path / "part" / "notes").mkdir()
    made = package(files.WHOLE, tmp_path, name="part")
    assert made.version == 8
    after = tree(tmp_path / "part")
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name not in before} == {f"8/{name}" for name in (MODEL, CHECK, SELF_TEST)}
    assert json.loads(after[f"8/{SELF_TEST}"])["version"] == 8


def test_an_edited_configuration_is_left_as_it_is_and_told(tmp_path: Path) -> None:
    first = package(files.WHOLE, tmp_path, name="part")
    assert not first.kept
    assert not package(files.WHOLE, tmp_path, name="part").kept
    config = tmp_path / "part" / CONFIG
    config.write_text(config.read_text() + "# mine\n")
    made = package(files.WHOLE, tmp_path, name="part")
    assert made.kept
    assert "left as it is" in made.warnings[0]
    assert config.read_text().endswith("# mine\n")
    config.unlink()
    assert not package(files.WHOLE, tmp_path, name="part").kept
    assert config.exists()


def test_versions_share_a_configuration_so_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    package(files.WHOLE, tmp_path, name="part")
    before = tree(tmp_path)
    with pytest.raises(PadimEdgeError, match=r"share config.pbtxt, so choose another --name"):
        package(files.CROPPED, tmp_path, name="part")
    assert tree(tmp_path) == before


def test_a_foreign_model_under_the_name_is_not_joined(tmp_path: Path) -> None:
    (tmp_path / "part" / "1").mkdir(parents=True)
    (tmp_path / "part" / "1" / MODEL).write_bytes(files.foreign())
    with pytest.raises(PadimEdgeError, match="choose another --name"):
        package(files.WHOLE, tmp_path, name="part")


@pytest.mark.parametrize("again", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("step", ["copyfile", "flush_folder"])
def test_what_fails_on_the_way_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, step: str
) -> None:
    if again:
        package(files.WHOLE, tmp_path, name="part")
    before = tree(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(triton.shutil if step == "copyfile" else triton, step, full)
        with pytest.raises(PadimEdgeError, match="No space left"):
            package(files.WHOLE, tmp_path, name="part")
    assert tree(tmp_path) == before
    assert package(files.WHOLE, tmp_path, name="part").version == (2 if again else 1)


def test_a_damaged_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = tmp_path / "part.onnx"
    model.write_bytes(files.flipped(files.WHOLE.read_bytes(), 3000, 1))
    (tmp_path / "repository").mkdir()
    with pytest.raises(ArtifactError):
        package(model, tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


def test_a_model_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = files.copy(files.WHOLE, tmp_path)
    other = files.rewrite(files.WHOLE, tmp_path / "other.onnx", lambda metadata: metadata.update(class_name="other"))
    (tmp_path / "repository").mkdir()
    monkeypatch.setattr(triton.shutil, "copyfile", lambda _, target: Path(target).write_bytes(other.read_bytes()))
    with pytest.raises(ArtifactError, match="in the meantime"):
        package(model, tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", 'a"b', "ä", "x" * 101, "a\nb"])
def test_names_that_are_no_folder_and_no_address_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="--name"):
        triton.check_repository(tmp_path, name)


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"largest": 0}, {"instances": 0}, {"delay": -1.0}, {"engines": '/cache"'}]
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PadimEdgeError, match=r"expected|choose"):
        TritonOptions(**wrong)


@pytest.fixture(scope="module")
def messages() -> Any:
    """Messages of Triton, which `tritonclient` brings; its package `grpc` itself would need grpcio."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("tritonclient is not installed")
    path = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():  # protobuf warns of code that an older one generated
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def parsed(messages: Any, text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, messages.ModelConfig())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_triton_reads_the_configuration_and_it_says_what_the_graph_says(
    messages: Any, model: Path, device: str
) -> None:
    metadata = read_metadata(model)
    text = config_text("part", metadata, TritonOptions(device=device, largest=4, instances=2, delay=2.5))
    config = parsed(messages, text)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    kinds = {"tensor(uint8)": messages.TYPE_UINT8, "tensor(float)": messages.TYPE_FP32}
    (image,) = config.input
    assert config.name == "part"
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 4
    assert {image.name: (image.data_type, list(image.dims))} == {
        each.name: (kinds[each.type], each.shape[1:]) for each in session.get_inputs()
    }
    shapes = {
        each.name: (each.data_type, [] if each.HasField("reshape") else list(each.dims)) for each in config.output
    }
    assert shapes == {each.name: (kinds[each.type], each.shape[1:]) for each in session.get_outputs()}
    assert list(config.output[0].dims) == [1]
    assert list(config.output[0].reshape.shape) == []
    assert config.dynamic_batching.max_queue_delay_microseconds == 2500
    (group,) = config.instance_group
    on_cpu = device in ("auto", "cpu")
    assert (group.count, group.kind) == (2, group.KIND_CPU if on_cpu else group.KIND_GPU)
    used = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [each.name for each in used] == {"cuda": ["cuda"], "tensorrt": ["tensorrt", "cuda"]}.get(device, [])
    if used:
        assert dict(used[-1].parameters) == {"use_tf32": "0"}
    if device == "tensorrt":
        height, width = metadata.input_size
        assert dict(used[0].parameters) == {
            f"trt_profile_{which}_shapes": f"image:{batch}x{height}x{width}x3"
            for which, batch in (("min", 1), ("opt", 1), ("max", 4))
        }
    (warmup,) = config.model_warmup
    ((name, data),) = warmup.inputs.items()
    assert (name, data.data_type, list(data.dims)) == (image.name, image.data_type, list(image.dims))
    assert data.input_data_file == "self-test-{}x{}.raw".format(*metadata.input_size)
    assert warmup.batch_size == 1


def test_triton_reads_the_folder_of_engines(messages: Any) -> None:
    options = TritonOptions(device="tensorrt", engines="/cache/part")
    config = parsed(messages, config_text("part", read_metadata(files.WHOLE), options))
    own = config.optimization.execution_accelerators.gpu_execution_accelerator[0].parameters
    assert (own["trt_engine_cache_enable"], own["trt_engine_cache_path"]) == ("1", "/cache/part")
    assert "precision_mode" not in own, "the graph says its types itself"


def test_triton_messages_would_refuse_a_wrong_word(messages: Any) -> None:
    """Otherwise the tests above would prove nothing."""
    from google.protobuf import text_format

    text = config_text("part", read_metadata(files.WHOLE), TritonOptions())
    for wrong in (text.replace("TYPE_UINT8", "TYPE_BYTE"), text.replace("dynamic_batching", "dynamic_batch")):
        with pytest.raises(text_format.ParseError):
            parsed(messages, wrong)


class Answering(http.server.BaseHTTPRequestHandler):
    """Enough of version 2 of KServe's protocol for the check: one binary tensor in, two out."""

    model: Path
    factor = 1.0

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        split = int(self.headers["Inference-Header-Content-Length"])
        request = json.loads(body[:split])
        (given,) = request["inputs"]
        image = np.frombuffer(body[split:], np.uint8).reshape(given["shape"])
        assert self.path == f"/v2/models/{self.model.parent.parent.name}/versions/{self.model.parent.name}/infer"
        wanted = [each["name"] for each in request["outputs"]]
        session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
        found = [each * np.float32(self.factor) for each in session.run(wanted, {given["name"]: image})]
        found[0] = found[0][:, None]  # as Triton gives it, where the configuration says [1]
        head = json.dumps(
            {
                "model_name": "part",
                "outputs": [
                    {
                        "name": name,
                        "datatype": "FP32",
                        "shape": each.shape,
                        "parameters": {"binary_data_size": each.nbytes},
                    }
                    for name, each in zip(wanted, found, strict=True)
                ],
            }
        ).encode()
        content = head + b"".join(each.tobytes() for each in found)
        self.send_response(200)
        self.send_header("Inference-Header-Content-Length", str(len(head)))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def answering(model: Path, factor: float = 1.0) -> Iterator[str]:
    handler = type("Handler", (Answering,), {"model": model, "factor": factor})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_check_asks_a_server_with_the_real_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    made = package(files.WHOLE, tmp_path, name="part")
    with answering(made.folder / MODEL) as url:
        assert triton_check.main(["--url", url], made.folder) == 0
    assert capsys.readouterr().out.startswith("right: part version 1 gives the score ")
    with answering(made.folder / MODEL, 1.01) as url:
        assert triton_check.main(["--url", url], made.folder) == 1
    assert capsys.readouterr().out.startswith("WRONG: part version 1 gives the score ")
    assert triton_check.main(["--url", "127.0.0.1:9"], made.folder) == 1
    assert "did not judge the self-test image of part: " in capsys.readouterr().err
    assert (made.folder / CHECK).read_bytes() == Path(triton_check.__file__).read_bytes()


def test_the_command_packages_and_says_where(tmp_path: Path) -> None:
    model = tmp_path / "bottle.onnx"
    shutil.copyfile(files.WHOLE, model)
    repository = tmp_path / "repository"
    _, stderr = run("package", model, "--triton", repository, code=1)
    assert "is no folder" in stderr
    repository.mkdir()
    stdout, _ = run("package", model, "--triton", repository)
    assert stdout.startswith(f"{repository / 'bottle' / '1'}: version 1 of bottle")
    stdout, _ = run("package", model, "--triton", repository, "--device", "CUDA", "--name", "other", "--json")
    told = json.loads(stdout)
    assert (told["version"], told["device"], told["name"]) == (1, "cuda", "other")
    _, stderr = run("package", model, "--triton", repository, "--device", "cuda")
    assert "was left as it is" in stderr
    assert sorted(each.name for each in (repository / "bottle").iterdir()) == ["1", "2", CONFIG, WARM_UP]
