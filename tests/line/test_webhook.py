"""Rows to an HTTP server that refuses, redirects, sleeps, goes away and comes back."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from line.mosquitto import PROGRAM, REASON, Mosquitto, Subscriber
from line.sink_line import SinkLine, drive, running, soon, told
from line.webhook_target import Answer, Target

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import MqttConfig, WebhookConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.sinks import check, sink_of
from padim_edge_line.sinks.mqtt import MqttSink
from padim_edge_line.sinks.retrying import Pauses, together
from padim_edge_line.sinks.webhook import Patience, WebhookSink
from padim_edge_line.sinks.webhook_request import answer_of, retry_after

SHORT = Pauses(first_s=0.02, most_s=0.1)
QUICK = Patience(passing=SHORT, refused=SHORT, asked_s=0.3)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def sink(target: Target, **changes: Any) -> WebhookSink:
    return WebhookSink(WebhookConfig(url=target.url, **changes), "one", QUICK)


def test_each_row_is_posted_once_in_order_and_signed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with Target() as target:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target, secret_file=secret)):
                await soon(lambda: line.health("webhook").state == WORKING)
                rows = await line.add(20, part="ä")
                await soon(lambda: line.record.position("webhook") == 20)
                assert [json.loads(each.body) for each in target.requests] == [told(row) for row in rows]

        drive(tmp_path / "line", test)
    for request in target.requests:
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["X-Padim-Edge-Delivery"] == f"one-{request.seq}"
        moment, _, signature = request.headers["X-Padim-Edge-Signature"].partition(",")
        assert abs(time.time() - int(moment.removeprefix("t="))) < 600
        content = f"{moment.removeprefix('t=')}.".encode() + request.body
        assert signature == "v1=" + hmac.new(b"s3cret", content, hashlib.sha256).hexdigest()
        assert "s3cret" not in str(request)


def test_nothing_is_lost_while_the_target_is_away_and_the_order_is_kept(tmp_path: Path) -> None:
    with Target() as target:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target)):
                for _ in range(3):
                    rows = await line.add(10)
                    await soon(lambda seq=rows[-1].seq: line.record.position("webhook") == seq)
                    await asyncio.to_thread(target.stop)
                    await line.add(5)
                    await soon(lambda: line.health("webhook").state == FAILING)
                    await soon(lambda: line.health("webhook").counts["waiting"] == 5)
                    assert "it cannot be reached; rows wait" in line.health("webhook").sentence
                    await asyncio.to_thread(target.start)
                    await soon(lambda: line.health("webhook").state == WORKING)
                await soon(lambda: line.record.position("webhook") == 45)

        drive(tmp_path / "line", test)
    assert list(dict.fromkeys(target.taken())) == list(range(1, 46))


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 410, 413, 418, 425, 429, 500, 503])
def test_a_row_that_is_refused_is_repeated_and_no_later_one_overtakes_it(tmp_path: Path, status: int) -> None:
    with Target() as target:
        target.answers.extend([Answer(status, {"Location": "/elsewhere"})] * 3)

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target)):
                await line.add(2)
                await soon(lambda: line.health("webhook").state == FAILING)
                assert f"it answers {status}" in line.health("webhook").sentence
                assert "hunter2" not in line.health("webhook").sentence
                await soon(lambda: line.record.position("webhook") == 2)
                assert line.health("webhook").state == WORKING

        drive(tmp_path / "line", test)
    assert [(each.seq, each.status) for each in target.requests] == [(1, status)] * 3 + [(1, 200), (2, 200)]
    assert {each.path for each in target.requests} == {"/hook?token=hunter2"}  # redirects are not followed
    assert len({each.headers["X-Padim-Edge-Delivery"] for each in target.requests}) == 2


def test_the_target_is_left_alone_as_long_as_it_asks_for(tmp_path: Path) -> None:
    with Target() as target:
        target.answers.append(Answer(429, {"Retry-After": "100000"}))

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target)):
                await line.add(1)
                await soon(lambda: line.health("webhook").state == FAILING)
                began = time.monotonic()
                await soon(lambda: line.record.position("webhook") == 1)
                assert time.monotonic() - began > 0.25  # the longest that it may ask for is .3 s here

        drive(tmp_path / "line", test)


def test_only_the_wanted_verdicts_are_told(tmp_path: Path) -> None:
    with Target() as target:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target, verdicts=("anomalous", "failed"))):
                await soon(lambda: line.health("webhook").state == WORKING)
                for verdict in ("good", "anomalous", "good", "failed", "good"):
                    await line.add(1, verdict)
                await soon(lambda: line.record.position("webhook") == 5)

        drive(tmp_path / "line", test)
    assert target.taken() == [2, 4]


def test_a_target_that_sleeps_costs_no_more_than_its_time(tmp_path: Path) -> None:
    with Target() as target:
        target.answers.append(Answer(seconds=1.0))

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target, timeout_s=0.2)):
                await line.add(1)
                await soon(lambda: "in time" in line.health("webhook").sentence)
                await soon(lambda: line.record.position("webhook") == 1)

        drive(tmp_path / "line", test)


def test_a_long_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    with Target() as target:
        target.answers.append(Answer(body=bytes(10**6)))

        async def test(line: SinkLine) -> None:
            async with running(line, sink(target)):
                await line.add(2)
                await soon(lambda: line.record.position("webhook") == 2)

        drive(tmp_path / "line", test)


def test_no_secret_is_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = tmp_path / "secret"
    with Target() as target:
        config = WebhookConfig(url=target.url.replace("//", "//me:pa55@"), secret_file=secret)

        async def test(line: SinkLine) -> None:
            found = WebhookSink(config, "one", QUICK)
            assert "hunter2" not in repr(found)
            async with running(line, found):
                await line.add(1)
                await soon(lambda: "secret_file cannot be read" in line.health("webhook").sentence)
                assert str(tmp_path) not in line.health("webhook").sentence
                secret.write_text("s3cret")  # is read anew
                await soon(lambda: line.record.position("webhook") == 1)
                await asyncio.to_thread(target.stop)
                await line.add(1)
                await soon(lambda: "127.0.0.1" in line.health("webhook").sentence)
                assert "pa55" not in line.health("webhook").sentence

        drive(tmp_path / "line", test)
    for word in ("hunter2", "pa55", "s3cret"):
        assert word not in caplog.text


@pytest.mark.skipif(PROGRAM is None, reason=REASON)
def test_sinks_fail_alone(tmp_path: Path) -> None:
    """The broker hears of rows while the target of the webhook is away, and the other way round."""
    with Target() as target, Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:

        async def test(line: SinkLine) -> None:
            mqtt = MqttSink(MqttConfig(host="127.0.0.1", port=broker.port, topic="plant"), "one", SHORT)
            async with running(line, mqtt, sink(target)):
                await soon(lambda: line.health("mqtt").state == WORKING)
                await asyncio.to_thread(target.stop)
                await line.add(10)
                await soon(lambda: line.record.position("mqtt") == 10)
                await soon(lambda: line.health("webhook").state == FAILING)
                await soon(lambda: len(subscriber.of("plant/one/row")) == 10)
                await asyncio.to_thread(target.start)
                await soon(lambda: line.record.position("webhook") == 10)
                await asyncio.to_thread(broker.stop)
                await line.add(10)
                await soon(lambda: line.record.position("webhook") == 20)
                assert line.record.position("mqtt") == 10

        drive(tmp_path / "line", test)


def test_check_asks_for_headers_only(tmp_path: Path) -> None:
    with Target() as target:
        config = WebhookConfig(url=target.url)
        target.answers.append(Answer(405))
        assert anyio.run(check, config) == f"webhook: the target at 127.0.0.1:{target.port} answers (405 to HEAD)"
        assert [each.method for each in target.requests] == ["HEAD"]
        with pytest.raises(PadimEdgeError, match="secret_file cannot be read"):
            anyio.run(check, WebhookConfig(url=target.url, secret_file=tmp_path / "none"))
    with pytest.raises(PadimEdgeError, match=r"does not answer: it cannot be reached") as error:
        anyio.run(check, config)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("url", ["ftp://host/x", "nothing", "http://", "http://host:port/", "http://[::1/"])
def test_a_url_that_is_none_is_told_without_a_crash(tmp_path: Path, url: str) -> None:
    async def test(line: SinkLine) -> None:
        async with running(line, WebhookSink(WebhookConfig(url=url), "one", QUICK)) as sinks:
            await line.add(1)
            await soon(lambda: line.health("webhook").state == FAILING)
            assert not sinks.tasks[0].done()
        with pytest.raises(PadimEdgeError):
            await check(WebhookConfig(url=url))

    drive(tmp_path, test)


def test_the_kind_of_a_refusal_decides_how_long_to_wait() -> None:
    patience = Patience(passing=Pauses(most_s=30), refused=Pauses(first_s=10, most_s=300), asked_s=100)
    busy = answer_of(503, {"retry-after": "60"}, NOW)
    assert (busy.taken, busy.passing, busy.wait_s) == (False, True, 60.0)
    assert patience.after(busy, 1) == 60
    assert patience.after(answer_of(429, {"retry-after": "5000"}, NOW), 1) == 100
    assert 15 <= patience.after(answer_of(500, {}, NOW), 50) <= 30
    assert 5 <= patience.after(answer_of(404, {"retry-after": "5000"}, NOW), 1) <= 10
    assert answer_of(204, {}, NOW).taken


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 5000, 999999999.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60.0),
        ("Fri, 02 Jan 2026 03:03:05 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_pauses_double_up_to_a_limit_and_vary() -> None:
    pauses = Pauses(first_s=1.0, most_s=8.0)
    for failures, longest in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (10_000, 8)]:
        found = {pauses.after(failures) for _ in range(20)}
        assert all(longest / 2 <= each <= longest for each in found)
        assert len(found) > 1


def test_parts_end_together_even_if_one_loses_a_cancellation() -> None:
    """Before Python 3.12 `asyncio.wait_for` can lose one."""
    lost = []

    async def deaf() -> None:
        while len(lost) < 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost.append(1)
        await asyncio.sleep(3600)

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise PadimEdgeError("lost")

    async def whole() -> None:
        with pytest.raises(PadimEdgeError, match="lost"):
            await together(deaf(), fails())

    asyncio.run(asyncio.wait_for(whole(), 30))
    assert len(lost) == 3


def test_sinks_are_made_by_kind() -> None:
    assert isinstance(sink_of(WebhookConfig(url="http://a/", name="b"), "one"), WebhookSink)
    assert sink_of(WebhookConfig(url="http://a/", name="b"), "one").name == "b"
    assert isinstance(sink_of(MqttConfig(), "one"), MqttSink)
