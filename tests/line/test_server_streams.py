"""Events as they come, limits in number and time, and the end within two seconds."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from line.served import TOKEN, Served, config_of, served

from padim_edge_line.server import events, limits, serving
from padim_edge_line.server.answers import RefusedError
from padim_edge_line.server.limits import Buckets, Memory
from padim_edge_line.server.serving import bound

BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(config_of(tmp_path_factory.mktemp("there") / "line")) as found:
        yield found


def messages(answer: httpx.Response) -> Iterator[tuple[str, str, Any]]:
    """Events of a stream: number, kind, data."""
    number, kind = "", ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        number = value if name == "id" else number
        kind = value if name == "event" else kind
        if name == "data":
            yield number, kind, json.loads(value)
            number = ""


def test_events_come_in_order_and_none_twice(there: Served) -> None:
    with httpx.stream("GET", f"{there.url}api/events", trust_env=False, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = messages(answer)
        assert next(stream)[1] == "beat"
        rows = [there.judge(seed) for seed in range(5)]
        found = list(islice((message for message in stream if message[1] == "row"), 5))
        assert [int(number) for number, _, _ in found] == [row.seq for row in rows]
        assert found[0][2]["chain"] == rows[0].chain.hex()
        there.run(there.line.mark(rows[0].seq, "right", "me"))
        there.run(there.line.choose("screw"))
        kinds = [next(stream) for _ in range(2)]
        assert [(kind, data.get("active", data.get("mark"))) for _, kind, data in kinds] == [
            ("mark", "right"),
            ("product", "screw"),
        ]


def test_whoever_comes_back_is_told_what_was_missed(there: Served) -> None:
    rows = [there.judge(seed) for seed in range(20, 25)]
    headers = {"Last-Event-ID": str(rows[1].seq)}
    with httpx.stream("GET", f"{there.url}api/events", headers=headers, trust_env=False, timeout=30) as answer:
        stream = (message for message in messages(answer) if message[1] == "row")
        later: list[Any] = []
        thread = threading.Thread(target=lambda: later.append(there.judge(26)))
        thread.start()
        found = [int(next(stream)[0]) for _ in range(4)]
        thread.join()
    assert found == [row.seq for row in [*rows[2:], *later]]
    wrong = httpx.get(f"{there.url}api/events", headers={"Last-Event-ID": "x"}, trust_env=False)
    assert wrong.status_code == 400


def test_a_silent_line_gives_signs_of_life(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_S", 0.05)
    with httpx.stream("GET", f"{there.url}api/events", trust_env=False, timeout=30) as answer:
        stream = messages(answer)
        assert [next(stream)[1] for _ in range(4)] == ["beat"] * 4


def test_listeners_are_counted_and_let_go(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_STREAMS", 1)
    url = f"{there.url}api/events"
    end = time.monotonic() + 30
    while len(there.line._news) and time.monotonic() < end:
        time.sleep(0.05)
    with httpx.stream("GET", url, trust_env=False) as first:
        lines = first.iter_lines()
        next(lines)
        assert httpx.get(url, trust_env=False).status_code == 503
    while len(there.line._news) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(there.line._news) == 0
    assert httpx.head(url, trust_env=False).status_code == 200


def test_the_end_comes_within_two_seconds_with_open_streams(tmp_path: Path) -> None:
    with served(config_of(tmp_path / "line", ["bottle"])) as there:
        client = httpx.Client(trust_env=False, timeout=30)
        with client.stream("GET", f"{there.url}api/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            start = time.monotonic()
            there.loop.call_soon_threadsafe(there.serving.cancel)
            list(lines)  # the stream ends by itself
            while not there.serving.done():
                time.sleep(0.01)
            assert time.monotonic() - start < 2
        client.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(there.url.split(":")[2][:-1])), 5)


def test_too_many_requests_are_refused_with_a_time(tmp_path: Path) -> None:
    with (
        served(config_of(tmp_path / "line", ["bottle"], rate=0.5)) as there,
        httpx.Client(base_url=there.url, trust_env=False) as client,
    ):
        answers = [client.get("/live") for _ in range(4)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        assert refused
        assert 1 <= int(refused[0].headers["retry-after"]) <= 2


def test_wrong_tokens_are_limited_for_the_one_who_sends_them(tmp_path: Path) -> None:
    with (
        served(config_of(tmp_path / "line", ["bottle"])) as there,
        httpx.Client(base_url=there.url, trust_env=False) as client,
    ):
        data = {"product": "bottle"}
        found = [
            client.post("/api/product", json=data, headers={"Authorization": f"Bearer {n}"}).status_code
            for n in range(12)
        ]
        assert found[:10] == [401] * 10
        assert found[-1] == 429
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/api/product", json=data, headers=right).status_code == 429
        assert client.post("/api/session", json={"token": TOKEN}).status_code == 429
        assert client.get("/api/state").status_code == 200


def test_buckets_fill_again_and_are_kept_apart() -> None:
    time_now = [0.0]
    buckets = Buckets(2.0, 4.0, lambda: time_now[0])
    assert [buckets.wait("10.0.0.1") for _ in range(4)] == [0.0] * 4
    assert buckets.wait("10.0.0.1") == 0.5
    assert buckets.wait("10.0.0.2") == 0.0
    time_now[0] = 0.5
    assert buckets.wait("10.0.0.1") == 0.0
    assert buckets.wait("10.0.0.1") > 0.0
    for last in range(4):
        assert buckets.wait(f"2001:db8::{last}") == 0.0
    assert buckets.wait("2001:db8::ffff") > 0.0  # the same network
    assert buckets.wait("2001:db8:1::1") == 0.0
    assert Buckets(1.0, 1.0).wait("anything") == 0.0


def test_buckets_forget_the_quietest_address() -> None:
    buckets = Buckets(1.0, 1.0, lambda: 0.0)
    for number in range(limits._MOST_ADDRESSES + 10):
        buckets.wait(f"host {number}")
    assert len(buckets._left) == limits._MOST_ADDRESSES


def test_bodies_share_their_memory() -> None:
    memory = Memory(10)
    memory.hold(8)
    with pytest.raises(RefusedError, match="same time"):
        memory.hold(3)
    memory.release(8)
    memory.hold(10)
    assert memory.held == 10


def talk(url: str, parts: list[bytes], seconds: float = 20) -> bytes:
    """Send bytes as they are, and return all that comes."""
    port = int(url.split(":")[2].strip("/"))
    with socket.create_connection(("127.0.0.1", port), seconds) as found:
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                found.sendall(part)
        got = b""
        with suppress(ConnectionResetError):  # it ends while we still send
            while block := found.recv(65536):
                got += block
        return got


def test_a_body_that_does_not_come_is_not_waited_for(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CHUNK_S", 0.2)
    head = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nabc"
    answer = talk(there.url, [head])
    assert b" 408 " in answer.partition(b"\r\n")[0]
    assert b'"error"' in answer


def test_a_body_that_trickles_is_not_waited_for(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_GRACE_S", 0.1)

    async def slow() -> httpx.Response:
        async def content() -> Any:
            for _ in range(600):
                yield b"x"
                await asyncio.sleep(0.05)

        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.post(f"{there.url}api/images", content=content(), headers=BYTES)

    # The connection may be closed while the client still sends.
    with suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert asyncio.run(slow()).status_code == 408


@pytest.mark.parametrize("head", [b"", b"GET /live HTT", b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(
    there: Served, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.2)
    assert talk(there.url, [head]) == b""


def test_a_head_in_time_is_answered(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 5.0)
    head = b"GET /live HTTP/1.1\r\nHost: localhost\r\n"
    answer = talk(there.url, [head, b"Connection: close\r\n\r\n"])
    assert b"200 OK" in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /" + b"x" * 500_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_requests_that_are_none_are_refused(there: Served, request_bytes: bytes) -> None:
    answer = talk(there.url, [request_bytes])
    assert not answer or answer.split(b" ", 2)[1][:1] == b"4"
    assert httpx.get(f"{there.url}live", trust_env=False).status_code == 200


def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm would keep the body of each answer for 40 ms."""
    with bound("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
