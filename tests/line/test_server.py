"""The HTTP interface: what it answers, whom it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from line.served import TOKEN, Served, config_of, png, served

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import CameraConfig, ServerConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.server.access import CHANGE, OPEN, READ, SUBMIT, Access, loopback
from padim_edge_line.server.answers import sentence
from padim_edge_line.server.app import application
from padim_edge_line.server.serving import bound
from padim_edge_line.server.static import FILES

BEARER = {"Authorization": f"Bearer {TOKEN}"}
BYTES = {"Content-Type": "application/octet-stream"}
CHANGES = [
    ("/api/rows/1/mark", {"mark": "right"}),
    ("/api/product", {"product": "screw"}),
    ("/api/trigger", {"source": "camera"}),
]


class Camera:
    """A source that takes an image on demand, or has none."""

    name = "camera"

    async def trigger(self, line: Any, part: str | None) -> Any:
        from padim_edge_line.arrival import Arrival

        if part == "gone":
            raise PadimEdgeError("there is no image in /var/lib/secret/camera.png; look at the camera")
        return await line.judge(
            Arrival(source="camera", name="frame 1", image=png(77), product=line.products.active, part=part)
        )


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A line with two products and six rows."""
    camera = CameraConfig(name="camera", trigger="software")
    config = config_of(tmp_path_factory.mktemp("there") / "line", sources=(camera,), most_mb=1)
    with served(config, triggered={"camera": Camera()}) as found:
        for seed in range(6):
            found.judge(seed, "bottle" if seed % 2 else "screw", part=f"P{seed}")
        yield found


@pytest.fixture
def client(there: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=there.url, trust_env=False) as found:
        yield found


def test_every_route_says_what_it_needs(there: Served) -> None:
    with_methods = {
        (route.path, method): route.need  # type: ignore[attr-defined]
        for route in application(there.line).routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert {key for key, need in with_methods.items() if need == OPEN} == {
        ("/", "GET"),
        ("/static/{name}", "GET"),
        ("/live", "GET"),
        ("/ready", "GET"),
        ("/api/session", "POST"),
        ("/api/session", "DELETE"),
        ("/v2/health/live", "GET"),
        ("/v2/health/ready", "GET"),
    }
    assert {key for key, need in with_methods.items() if need == SUBMIT} == {
        ("/api/images", "POST"),
        ("/v2/models/{name}/infer", "POST"),
        ("/v2/models/{name}/versions/{version}/infer", "POST"),
    }
    assert all(need in (OPEN, SUBMIT, CHANGE) for (_, method), need in with_methods.items() if method != "GET")
    assert all(need in (OPEN, READ) for (_, method), need in with_methods.items() if method == "GET")


def test_the_state_has_all_that_the_page_needs(client: httpx.Client, there: Served) -> None:
    found = client.get("/api/state").json()
    assert found["name"] == "test-line"
    assert found["active"] == "bottle"
    assert [product["name"] for product in found["products"]] == ["bottle", "screw"]
    for product in found["products"]:
        assert sum(product["today"].values()) >= 3
        assert product["last"]["product"] == product["name"]
        assert [each[0] for each in product["trend"]] == sorted(each[0] for each in product["trend"])
    assert found["rights"] == {"change": False, "post": True}
    assert found["triggers"] == ["camera"]
    assert found["latency"]["p50"] <= found["latency"]["p95"] <= found["latency"]["p99"]
    assert found["last"] == there.line.record.reader().last()


def test_rows_come_newest_first_and_are_filtered(client: httpx.Client) -> None:
    rows = client.get("/api/rows", params={"product": "screw", "limit": 2}).json()["rows"]
    assert [row["product"] for row in rows] == ["screw"] * 2
    older = client.get("/api/rows", params={"product": "screw", "before": rows[-1]["seq"]}).json()["rows"]
    assert older
    assert all(row["seq"] < rows[-1]["seq"] for row in older)
    judged = client.get("/api/rows", params={"verdict": "anomalous,not comparable"}).json()["rows"]
    assert {row["verdict"] for row in judged} <= {"anomalous", "not comparable"}
    assert client.get(f"/api/rows/{rows[0]['seq']}").json() == rows[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/rows?limit=0", 400),
        ("/api/rows?limit=501", 400),
        ("/api/rows?limit=1_0", 400),
        ("/api/rows?limit=%D9%A1", 400),
        ("/api/rows?limit=1&limit=2", 400),
        ("/api/rows?before=-1", 400),
        ("/api/rows?verdict=bad", 400),
        ("/api/rows?product=nothing", 404),
        ("/api/rows?color=red", 400),
        ("/api/rows/0", 400),
        ("/api/rows/x", 400),
        ("/api/rows/999999", 404),
        ("/api/rows/999999/image", 404),
        ("/api/products/nothing/preview", 404),
        ("/api/rows/..%2f..%2frecord.sqlite/image", 404),
        ("/static/..%2fapp.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/static/app.py", 404),
        ("/nothing", 404),
        ("/api/rows/", 404),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert re.fullmatch(r"[^/]{10,300}", answer.json()["error"].replace("application/json", ""))


def test_images_are_given_as_they_came(client: httpx.Client, there: Served) -> None:
    row = there.judge(50)
    assert row.image == "png"
    answer = client.get(f"/api/rows/{row.seq}/image")
    assert answer.content == png(50)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    overlay = client.get(f"/api/rows/{row.seq}/overlay")
    assert overlay.headers["content-type"] == "image/jpeg"
    assert overlay.content[:2] == b"\xff\xd8"
    assert client.get("/api/products/bottle/preview").content[:2] == b"\xff\xd8"


def test_a_posted_image_is_judged_once_for_each_key(client: httpx.Client) -> None:
    answer = client.post("/api/images?part=P7&name=a.png&product=screw", content=png(3), headers=BYTES)
    row = answer.json()
    assert answer.status_code == 200
    assert (row["source"], row["name"], row["part"], row["product"]) == ("http", "a.png", "P7", "screw")
    keyed = {**BYTES, "Idempotency-Key": "shift-2-part-7"}
    first, second = (client.post("/api/images", content=png(3), headers=keyed).json() for _ in range(2))
    assert first == second
    assert first["seq"] > row["seq"]
    unreadable = client.post("/api/images", content=b"no image", headers=BYTES).json()
    assert unreadable["verdict"] == "unreadable"
    assert "/" not in unreadable["error"]


@pytest.mark.parametrize(
    ("query", "content", "headers", "status"),
    [
        ("", b"", BYTES, 400),
        ("?product=nothing", b"x", BYTES, 404),
        ("", b"x", {"Content-Type": "text/plain"}, 415),
        ("", b"x", {}, 415),
        ("", b"x", {**BYTES, "Idempotency-Key": "x" * 201}, 400),
        ("", b"x" * 1_000_001, BYTES, 413),
        ("", iter([b"x" * 600_000] * 2), BYTES, 413),
        ("", b"x", {**BYTES, "Origin": "http://evil.example"}, 403),
        ("", b"x", {**BYTES, "Origin": "null"}, 403),
        ("", b"x", {**BYTES, "Sec-Fetch-Site": "cross-site"}, 403),
        ("", b"x", {**BYTES, "Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_posts_are_refused(there: Served, query: str, content: Any, headers: dict[str, str], status: int) -> None:
    answer = httpx.post(f"{there.url}api/images{query}", content=content, headers=headers, trust_env=False)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(("path", "data"), CHANGES)
def test_changes_need_the_token(client: httpx.Client, path: str, data: dict[str, str]) -> None:
    before = client.get("/api/state").json()
    assert client.post(path, json=data).status_code == 401
    assert client.post(path, json=data, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.post(path, json=data, headers={"Authorization": "Basic eDp5"}).status_code == 401
    after = client.get("/api/state").json()
    assert (before["active"], before["last"]) == (after["active"], after["last"])
    assert client.get("/api/rows/1").json()["mark"] is None or path != "/api/rows/1/mark"


def test_changes_with_the_token(client: httpx.Client) -> None:
    answer = client.post("/api/rows/2/mark", json={"mark": "false alarm", "who": "Mia"}, headers=BEARER)
    assert answer.json() == {"seq": 2, "mark": "false alarm", "who": "Mia"}
    assert client.get("/api/rows/2").json()["mark"]["who"] == "Mia"
    assert client.post("/api/product", json={"product": "screw"}, headers=BEARER).json() == {"product": "screw"}
    assert client.get("/api/state").json()["active"] == "screw"
    row = client.post("/api/trigger", json={"source": "camera", "part": "T1"}, headers=BEARER).json()
    assert (row["part"], row["product"]) == ("T1", "screw")
    client.post("/api/product", json={"product": "bottle"}, headers=BEARER)
    failed = client.post("/api/trigger", json={"source": "camera", "part": "gone"}, headers=BEARER)
    assert failed.status_code == 409
    assert failed.json()["error"] == "there is no image in a file of the line; look at the camera"


@pytest.mark.parametrize(
    ("path", "content", "kind", "status"),
    [
        ("/api/rows/2/mark", '{"mark": "nice"}', "application/json", 400),
        ("/api/rows/2/mark", '{"mark": 5}', "application/json", 400),
        ("/api/rows/2/mark", '{"mark": "right", "seq": 3}', "application/json", 400),
        ("/api/rows/2/mark", "[" * 10_000, "application/json", 400),
        ("/api/rows/2/mark", '{"mark": "right"}', "text/plain", 415),
        ("/api/rows/2/mark", json.dumps({"mark": "x" * 20_000}), "application/json", 413),
        ("/api/rows/999999/mark", '{"mark": "right"}', "application/json", 404),
        ("/api/product", '{"product": "nothing"}', "application/json", 404),
        ("/api/product", '{"product": "\\u0000"}', "application/json", 400),
        ("/api/trigger", '{"source": "nothing"}', "application/json", 404),
    ],
)
def test_wrong_changes_are_refused(client: httpx.Client, path: str, content: str, kind: str, status: int) -> None:
    answer = client.post(path, content=content, headers={**BEARER, "Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_a_cookie_stands_for_the_token_and_does_not_hold_it(client: httpx.Client) -> None:
    assert client.post("/api/session", json={"token": "wrong"}).status_code == 401
    answer = client.post("/api/session", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/api/state").json()["rights"]["change"]
    assert client.post("/api/rows/1/mark", json={"mark": "right"}).status_code == 200
    refused = client.post("/api/rows/1/mark", json={"mark": "right"}, headers={"Origin": "http://evil.example"})
    assert refused.status_code == 403
    client.delete("/api/session")
    assert not client.get("/api/state").json()["rights"]["change"]


def test_a_cookie_that_was_changed_is_worth_nothing() -> None:
    access = Access(TOKEN, ServerConfig())
    cookie = access.cookie()
    until, _, signature = cookie.partition(".")
    assert access.holds_cookie(cookie)
    assert not access.holds_cookie(f"{int(until) + 1}.{signature}")
    assert not Access("another token", ServerConfig()).holds_cookie(cookie)
    for wrong in ("", ".", "1", f"{until}.", f".{signature}", "x.y", "\udcff.x", "é.é"):
        assert not access.holds_cookie(wrong)
    old = f"1.{access._signature('1')}"
    assert not access.holds_cookie(old)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "", "[", "127.0.0.1.x"]
)
def test_a_name_that_was_bound_to_this_machine_by_others_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8765", "LOCALHOST"])
def test_local_names_are_taken(client: httpx.Client, host: str) -> None:
    assert client.get("/live", headers={"Host": host}).status_code == 200


def test_headers_keep_the_page_to_itself(client: httpx.Client) -> None:
    for path in ("/", "/static/app.js", "/api/state", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert client.get("/api/state").headers["cache-control"] == "no-store"


def test_files_of_the_page_are_those_of_the_table(client: httpx.Client) -> None:
    import padim_edge_line.server.static as module

    folder = Path(module.__file__).parent / "page"
    assert {path.name for path in folder.iterdir()} == set(FILES)
    for name, kind in FILES.items():
        answer = client.get(f"/static/{name}")
        assert answer.headers["content-type"] == kind
        again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert not re.search(r"https?://(?!www\.w3\.org)|style=|onclick=", answer.text), name


def test_readiness_names_what_fails(client: httpx.Client, there: Served) -> None:
    assert client.get("/live").json() == {"live": True}
    assert client.get("/ready").json() == {"ready": True, "failing": []}
    there.line.board.set("sink", "mqtt", FAILING, "the broker does not answer")
    answer = client.get("/ready")
    assert answer.status_code == 200
    assert [part["name"] for part in answer.json()["failing"]] == ["mqtt"]
    there.line.board.set("record", "record", FAILING, "the disk is full")
    assert client.get("/ready").status_code == 503
    there.line.board.set("record", "record", WORKING)
    there.line.board.remove("sink", "mqtt")
    assert client.get("/ready").status_code == 200


def test_metrics_hold_neither_token_nor_path(client: httpx.Client, there: Served) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "padim_edge" in answer.text
    for secret in (TOKEN, str(there.line.config.folder)):
        assert secret not in answer.text
        assert secret not in client.get("/api/state").text
        assert secret not in client.get("/api/rows").text


@pytest.mark.parametrize(
    ("host", "public", "free"),
    [
        ("127.0.0.1", False, {OPEN, READ, SUBMIT}),
        ("localhost", False, {OPEN, READ, SUBMIT}),
        ("::1", False, {OPEN, READ, SUBMIT}),
        ("0.0.0.0", False, {OPEN}),
        ("192.168.1.4", True, {OPEN, READ}),
        ("plant.example", False, {OPEN}),
    ],
)
def test_what_is_open_depends_on_the_address(host: str, public: bool, free: set[str]) -> None:
    access = Access(TOKEN, ServerConfig(host=host, public=public))
    assert {need for need in (OPEN, READ, SUBMIT, CHANGE) if access.without_token(need)} == free
    assert loopback(host) == (SUBMIT in free)


def test_another_address_needs_the_token_for_all_but_probes(tmp_path: Path) -> None:
    with served(config_of(tmp_path / "line", ["bottle"], host="0.0.0.0")) as found:
        url = re.sub(r"//[^:]+:", "//127.0.0.1:", found.url)
        with httpx.Client(base_url=url, trust_env=False) as client:
            for path in ("/", "/static/app.js", "/live", "/ready"):
                assert client.get(path).status_code == 200
                assert "test-line" not in client.get(path).text
            for path in ("/api/state", "/api/rows", "/api/events", "/metrics", "/openapi.json", "/api/rows/1/image"):
                assert client.get(path).status_code == 401
            assert client.post("/api/images", content=png(1), headers=BYTES).status_code == 401
            assert client.get("/api/state", headers=BEARER).status_code == 200
            assert client.post("/api/images", content=png(1), headers={**BYTES, **BEARER}).status_code == 200


def test_a_port_in_use_is_an_error_in_words() -> None:
    with bound("127.0.0.1", 0) as taken, pytest.raises(PadimEdgeError, match="is in use"):
        bound("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(PadimEdgeError, match=r"no address of this machine|cannot be listened"):
        bound("203.0.113.9", 0)
    with pytest.raises(PadimEdgeError, match="expected an address"):
        bound("no such host.invalid", 0)


def test_sentences_lose_their_paths() -> None:
    for text in ("cannot read /var/lib/line/a.png: gone", r"cannot read C:\line\data\a.png: gone"):
        assert sentence(Exception(text)) == "cannot read a file of the line: gone"
    assert sentence(Exception("expected image/png or 1/2")) == "expected image/png or 1/2"


def test_a_busy_or_ending_line_says_so(tmp_path: Path) -> None:
    from padim_edge_line.errors import BusyError, StoppingError

    async def judge(error: Exception) -> httpx.Response:
        async def refuse(*_: Any, **__: Any) -> None:
            raise error

        config = config_of(tmp_path / "line")
        products = SimpleNamespace(active="bottle", names=("bottle",))
        line: Any = SimpleNamespace(config=config, token=TOKEN, products=products, judge=refuse)
        transport = httpx.ASGITransport(application(line))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post("/api/images", content=b"x", headers=BYTES)

    busy = asyncio.run(judge(BusyError("busy")))
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert asyncio.run(judge(StoppingError("ending"))).status_code == 503
    broken = asyncio.run(judge(RuntimeError("in /home/someone/secret")))
    assert (broken.status_code, "secret" in broken.text) == (500, False)
