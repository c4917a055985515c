"""The protocol with NVIDIA's own client, `tritonclient`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import golden
import httpx
import numpy as np
import pytest
from kserve_requests import FRAME, frame
from line.served import TOKEN, Served, config_of, png, served

from padim_edge_runtime.detector import Detector

pytest.importorskip("geventhttpclient", reason="tritonclient[http] is not installed", exc_type=ImportError)
client_of = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed", exc_type=ImportError)
utils = pytest.importorskip("tritonclient.utils", exc_type=ImportError)

FLOATS = ("score", "anomaly_map", "patch_distance")
REQUESTS = 40


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(config_of(tmp_path_factory.mktemp("there") / "line")) as found:
        yield found


@pytest.fixture
def client(there: Served) -> Iterator[Any]:
    found = client_of.InferenceServerClient(host(there))
    yield found
    found.close()


def host(there: Served) -> str:
    """Address as the client takes it."""
    url = httpx.URL(there.url)
    return f"{url.host}:{url.port}"


def images(frames: list[Any], *, binary: bool = True) -> Any:
    """The input `image`."""
    found = client_of.InferInput("image", [len(frames), *FRAME], "UINT8")
    return found.set_data_from_numpy(np.stack(frames), binary_data=binary)


def expected(frames: list[Any]) -> dict[str, Any]:
    """Outputs of single images."""
    detector = Detector.load(golden.WHOLE, "cpu")
    found = [detector(each) for each in frames]
    return {name: np.concatenate([getattr(each, name) for each in found]) for name in FLOATS}


def test_the_client_finds_the_server_and_its_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("screw")
    assert client.is_model_ready("screw", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "padim-edge"
    found = client.get_model_metadata("bottle")
    assert [each["name"] for each in found["outputs"]] == [*FLOATS, "result"]


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("answered_binary", [True, False])
def test_frames_have_the_scores_of_the_detector(client: Any, *, sent_binary: bool, answered_binary: bool) -> None:
    frames = [frame(seed) for seed in range(5)]
    wanted = [client_of.InferRequestedOutput(name, binary_data=answered_binary) for name in FLOATS]
    given = images(frames, binary=sent_binary)
    found = client.infer("bottle", [given], outputs=wanted, request_id="part 7", model_version="1")
    assert found.get_response()["id"] == "part 7"
    for name, values in expected(frames).items():
        assert found.as_numpy(name).dtype == np.float32
        assert found.as_numpy(name).shape == values.shape
        assert found.as_numpy(name).tobytes() == values.tobytes()


def test_all_outputs_come_where_none_is_named(client: Any) -> None:
    frames = [frame(1), frame(2)]
    found = client.infer("bottle", [images(frames)])
    for name, values in expected(frames).items():
        assert found.as_numpy(name).tobytes() == values.tobytes()


def test_encoded_images_have_the_verdict_of_infer(client: Any) -> None:
    contents = [png(1, 100), png(2, 90)]
    given = client_of.InferInput("encoded", [2], "BYTES").set_data_from_numpy(np.array(contents, object))
    found = client.infer("bottle", [given])
    detector = Detector.load(golden.WHOLE, "cpu")
    for i, content in enumerate(contents):
        wanted = detector.inspect(content)
        assert found.as_numpy("score")[i] == np.float32(wanted.score)
        result = json.loads(found.as_numpy("result")[i])
        assert (result["score"], result["verdict"], result["width"]) == (wanted.score, wanted.verdict, wanted.width)


def test_refusals_are_the_clients_exceptions(client: Any) -> None:
    for model, given, says in (
        ("nothing", images([frame(0)]), "there is no model 'nothing'"),
        ("bottle", client_of.InferInput("image", [1, 3], "UINT8").set_data_from_numpy(np.zeros((1, 3), np.uint8)), "N"),
    ):
        with pytest.raises(utils.InferenceServerException, match=says):
            client.infer(model, [given])
    with pytest.raises(utils.InferenceServerException, match="compressed"):
        client.infer("bottle", [images([frame(0)])], request_compression_algorithm="gzip")


def test_eight_clients_at_the_same_time_get_their_own_scores(there: Served) -> None:
    wanted = [float(each) for each in expected([frame(seed) for seed in range(REQUESTS)])["score"]]

    def several(first: int) -> list[float]:
        mine = client_of.InferenceServerClient(host(there))
        score = [client_of.InferRequestedOutput("score")]
        try:
            found = [
                mine.infer("bottle" if seed % 2 else "screw", [images([frame(seed)])], outputs=score)
                for seed in range(first, REQUESTS, 8)
            ]
        finally:
            mine.close()
        return [float(each.as_numpy("score")[0]) for each in found]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(several, range(8)))
    assert [found[seed % 8][seed // 8] for seed in range(REQUESTS)] == wanted


def test_the_asynchronous_client_and_the_token(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed", exc_type=ImportError)
    aio = pytest.importorskip("tritonclient.http.aio", exc_type=ImportError)

    async def main(address: str) -> list[float]:
        async with aio.InferenceServerClient(address) as client:
            with pytest.raises(utils.InferenceServerException, match="token"):
                await client.infer("bottle", [images([frame(0)])])
            headers = {"Authorization": f"Bearer {TOKEN}"}
            found = await asyncio.gather(
                *(client.infer("bottle", [images([frame(seed)])], headers=headers) for seed in range(8))
            )
            return [float(each.as_numpy("score")[0]) for each in found]

    config = config_of(tmp_path / "line", ["bottle"], host="0.0.0.0", token_file=tmp_path / "token")
    with served(config) as there:
        found = asyncio.run(main(f"127.0.0.1:{httpx.URL(there.url).port}"))
    assert found == [float(each) for each in expected([frame(seed) for seed in range(8)])["score"]]
