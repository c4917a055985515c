"""The Open Inference Protocol: the same scores as `infer`, to the last bit, in each form; what is wrong is refused."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import httpx
import numpy as np
import pytest
from kserve_requests import FRAME, binary, binary_answer, elements, frame, post, tensor
from line.served import TOKEN, Served, config_of, png, served

from padim_edge_artifact import DeviceError
from padim_edge_line.health import FAILING, WORKING
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.inspection import Inspection

FLOATS = ("score", "anomaly_map", "patch_distance")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = config_of(tmp_path_factory.mktemp("there") / "line", most_mb=2)
    products = (config.products[0], replace(config.products[1], model=golden.CROPPED))
    with served(replace(config, products=products)) as found:
        yield found


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(golden.WHOLE, "cpu")


def expected(detector: Detector, frames: list[Any]) -> dict[str, Any]:
    """Outputs of single images, as `infer` judges them."""
    found = [detector(each) for each in frames]
    return {name: np.concatenate([getattr(each, name) for each in found]) for name in FLOATS}


def inspected(inspection: Inspection) -> dict[str, Any]:
    """The object of `infer --json` without the time that it took."""
    found: dict[str, Any] = json.loads(json.dumps(inspection.to_json()))
    del found["milliseconds"]
    return found


def test_the_server_and_its_models_describe_themselves(there: Served) -> None:
    client = httpx.Client(base_url=there.url, trust_env=False)
    with client:
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/bottle/ready"):
            assert client.get(path).status_code == 200
        found = client.get("/v2/models/bottle").json()
        assert found["versions"] == ["1"]
        assert client.get("/v2/models/bottle/versions/1").json() == found
        for path in ("/v2/models/nothing", "/v2/models/bottle/versions/2", "/v2/models/bottle/versions/01"):
            assert client.get(path).status_code == 404
            assert client.get(f"{path}/ready").status_code == 404
    assert found["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, *FRAME]},
        {"name": "encoded", "datatype": "BYTES", "shape": [-1]},
    ]
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["outputs"]] == [
        ("score", "FP32", [-1]),
        ("anomaly_map", "FP32", [-1, 64, 64]),
        ("patch_distance", "FP32", [-1, 16, 16]),
        ("result", "BYTES", [-1]),
    ]


def test_numbers_in_json_are_those_of_the_detector(there: Served, detector: Detector) -> None:
    frames = [frame(seed) for seed in range(3)]
    answer = post(there.url, {"id": "part 7", "inputs": [tensor(frames)]})
    found = answer.json()
    assert (found["id"], found["model_name"], found["model_version"]) == ("part 7", "bottle", "1")
    assert found["parameters"]["threshold"] == detector.metadata.threshold
    outputs = {each["name"]: each for each in found["outputs"]}
    assert list(outputs) == list(FLOATS)
    for name, wanted in expected(detector, frames).items():
        assert tuple(outputs[name]["shape"]) == wanted.shape
        assert np.array(outputs[name]["data"], np.float32).tobytes() == wanted.tobytes()
    nested = tensor(frames, data=np.stack(frames).tolist())
    assert post(there.url, {"inputs": [nested]}).json()["outputs"] == found["outputs"]


def test_numbers_in_binary_are_those_of_the_detector(there: Served, detector: Detector) -> None:
    frames = [frame(seed) for seed in range(9)]
    tail = np.stack(frames).tobytes()
    given = {"name": "image", "datatype": "UINT8", "shape": [9, *FRAME], "parameters": {"binary_data_size": len(tail)}}
    wanted = expected(detector, frames)
    answer = post(there.url, *binary({"inputs": [given], "parameters": {"binary_data_output": True}}, tail))
    assert binary_answer(answer) == {name: values.tobytes() for name, values in wanted.items()}
    mixed = [{"name": "patch_distance", "parameters": {"binary_data": True}}, {"name": "score"}]
    answer = post(there.url, *binary({"inputs": [given], "outputs": mixed}, tail))
    assert binary_answer(answer) == {"patch_distance": wanted["patch_distance"].tobytes()}
    head = json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])
    assert [each["name"] for each in head["outputs"]] == ["patch_distance", "score"]
    assert np.array(head["outputs"][1]["data"], np.float32).tobytes() == wanted["score"].tobytes()


@pytest.mark.parametrize("model", ["bottle", "screw"])
def test_encoded_images_of_any_size_are_judged_as_infer_does(there: Served, model: str) -> None:
    before = there.line.record.reader().last()
    contents = [png(1), png(2, 100), png(3, 50)]
    detector = Detector.load({"bottle": golden.WHOLE, "screw": golden.CROPPED}[model], "cpu")
    wanted = [detector.inspect(content) for content in contents]
    given: dict[str, Any] = {"name": "encoded", "datatype": "BYTES", "shape": [3]}
    texts = [base64.b64encode(content).decode() for content in contents]
    in_json = post(there.url, {"inputs": [{**given, "data": texts}]}, model=model).json()
    outputs = {each["name"]: each["data"] for each in in_json["outputs"]}
    assert list(outputs) == [*FLOATS, "result"]
    assert outputs["score"] == [each.score for each in wanted]
    found = [json.loads(text) for text in outputs["result"]]
    assert all(each.pop("milliseconds") > 0 for each in found)
    assert found == [inspected(each) for each in wanted]

    tail = elements(contents)
    given |= {"shape": [3, 1], "parameters": {"binary_data_size": len(tail)}}
    request = {"inputs": [given], "parameters": {"binary_data_output": True}}
    parts = binary_answer(post(there.url, *binary(request, tail), model=model))
    assert parts["score"] == np.array(outputs["score"], np.float32).tobytes()
    assert parts["anomaly_map"] == np.array(outputs["anomaly_map"], np.float32).tobytes()
    assert parts["result"].count(b'"verdict"') == 3
    assert there.line.record.reader().last() == before, "nothing goes on record"


GOOD = tensor([frame(0)])
TEXT = base64.b64encode(b"no image").decode()
ENCODED = {"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [TEXT]}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ([], "no JSON object"),
        ({}, "inputs is no list"),
        ({"inputs": []}, "inputs is no list"),
        ({"inputs": [GOOD, ENCODED]}, "inputs is no list of one tensor"),
        ({"inputs": [{**GOOD, "name": "input"}]}, "'input' is no input here; expected image, encoded"),
        ({"inputs": [{**GOOD, "name": {}}]}, "is no input here"),
        ({"inputs": [{**GOOD, "datatype": "FP32"}]}, "datatype FP32; expected UINT8"),
        ({"inputs": [{**GOOD, "shape": [1, 3, 64, 64]}]}, r"expected \[N, 64, 64, 3\]"),
        ({"inputs": [{**GOOD, "shape": [0, *FRAME]}]}, "N at least 1"),
        ({"inputs": [{**GOOD, "shape": [True, *FRAME]}]}, "another shape"),
        ({"inputs": [{**GOOD, "shape": [10**6, *FRAME]}]}, "at most 64 in one request"),
        ({"inputs": [{**GOOD, "shape": [2, *FRAME]}]}, "whole numbers"),
        ({"inputs": [{**GOOD, "data": None}]}, "has no data"),
        ({"inputs": [{**GOOD, "data": [0.5] * 12288}]}, "whole numbers"),
        ({"inputs": [{**GOOD, "data": [True] * 12288}]}, "whole numbers"),
        ({"inputs": [{**GOOD, "data": [10**30] * 12288}]}, "whole numbers"),
        ({"inputs": [{**GOOD, "data": [[1], [1, 2]]}]}, "whole numbers"),
        ({"inputs": [{**GOOD, "data": [256] * 12288}]}, "outside 0 to 255"),
        ({"inputs": [{**GOOD, "data": [-1] * 12288}]}, "outside 0 to 255"),
        ({"inputs": [{**GOOD, "parameters": {"shared_memory_region": "x"}}]}, "shared memory"),
        ({"inputs": [{**GOOD, "parameters": []}]}, "parameters of image"),
        ({"inputs": [ENCODED]}, "image 1 cannot be judged"),
        ({"inputs": [{**ENCODED, "data": ["%"]}]}, "base64"),
        ({"inputs": [{**ENCODED, "data": ["\u00fc"]}]}, "base64"),
        ({"inputs": [{**ENCODED, "data": [TEXT, TEXT]}]}, "no 1 texts"),
        ({"inputs": [GOOD], "outputs": [{"name": "result"}]}, "'result' is no output here"),
        ({"inputs": [GOOD], "outputs": [{"name": "score"}] * 2}, "more than once"),
        ({"inputs": [GOOD], "outputs": "score"}, "outputs is no list"),
        ({"inputs": [GOOD], "outputs": [{"name": "score", "parameters": {"classification": 1}}]}, "classification"),
        (
            {"inputs": [GOOD], "outputs": [{"name": "score", "parameters": {"binary_data": 1}}]},
            "binary_data is neither",
        ),
        ({"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}}, "binary_data_output is neither"),
        ({"inputs": [GOOD], "id": 7}, "id is no text"),
        ({"inputs": [GOOD], "id": "\ud800"}, "id is no text"),
    ],
)
def test_wrong_json_is_refused_in_a_sentence(there: Served, request_: Any, says: str) -> None:
    answer = post(there.url, json.dumps(request_).encode())
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert re.search(says, answer.json()["error"]), answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"inputs": NaN}', {}, 400),
        (b"\xff", {}, 400),
        (b"", {}, 400),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "3"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "17000000"}, 413),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"Origin": "http://evil.example"}, 403),
        (b"x" * 2_000_001, {}, 413),
    ],
)
def test_wrong_bodies_are_refused(there: Served, content: bytes, headers: dict[str, str], status: int) -> None:
    answer = post(there.url, content, headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_wrong_binary_tensors_are_refused(there: Served) -> None:
    image = {"name": "image", "datatype": "UINT8", "shape": [1, *FRAME]}
    encoded = {"name": "encoded", "datatype": "BYTES", "shape": [2]}
    whole = frame(0).tobytes()
    two = elements([png(0), png(1)])
    for given, size, tail in (
        (image, len(whole), whole[:-1]),
        (image, len(whole), whole + b"x"),
        (image, len(whole) - 1, whole[:-1]),
        (image, True, b"x"),
        (image, None, whole),
        (encoded, len(two) - 1, two[:-1]),
        (encoded, len(two) + 4, two + elements([b""])),
        (encoded, len(two) + 3, two + b"xxx"),
        (encoded, 4, elements([b""])),
        (encoded, 4, b"\xff\xff\xff\xff"),
    ):
        answer = post(there.url, *binary({"inputs": [{**given, "parameters": {"binary_data_size": size}}]}, tail))
        assert answer.status_code == 400, answer.text


def test_nobody_is_answered_without_the_token_from_elsewhere(tmp_path: Path) -> None:
    """The line answers to other machines, but needs no network here."""
    config = config_of(tmp_path / "line", ["bottle"], host="0.0.0.0", token_file=tmp_path / "token")
    request = {"inputs": [GOOD], "outputs": [{"name": "score"}]}
    with served(config) as found:
        url = f"http://127.0.0.1:{httpx.URL(found.url).port}/"
        assert post(url, request).status_code == 401
        assert post(url, request, {"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{url}v2/models/bottle", trust_env=False).status_code == 401
        assert httpx.get(f"{url}v2/health/ready", trust_env=False).status_code == 200
        assert post(url, request, {"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_line_that_takes_no_posts_infers_nothing_and_tells_of_models_that_fail(tmp_path: Path) -> None:
    config = config_of(tmp_path / "line", ["bottle"], images=False, sources=())
    with served(config) as found:
        assert post(found.url, {"inputs": [GOOD]}).status_code == 403
        found.line.board.set("model", "bottle", FAILING, "it fails")
        for path in ("v2/health/ready", "v2/models/bottle/ready"):
            assert httpx.get(f"{found.url}{path}", trust_env=False).status_code == 400
        found.line.board.set("model", "bottle", WORKING)
        assert httpx.get(f"{found.url}v2/health/ready", trust_env=False).status_code == 200


def test_a_device_that_fails_is_told_and_the_model_is_loaded_anew(
    there: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise DeviceError("the device 'cpu' failed in /var/lib/secret")

    request = {"inputs": [GOOD], "outputs": [{"name": "score"}]}
    before = there.line.products.get("bottle")
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "__call__", fail)
        answer = post(there.url, request)
        assert answer.status_code == 503
        assert "/" not in answer.json()["error"]
        assert httpx.get(f"{there.url}v2/models/bottle/ready", trust_env=False).status_code == 400
    for _ in range(600):
        if there.line.products.get("bottle") is not before:
            break
        time.sleep(0.05)
    assert post(there.url, request).status_code == 200
