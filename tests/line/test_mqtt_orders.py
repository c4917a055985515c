"""Triggers and changes of the product through the broker, and who may connect to it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from line.mosquitto import PROGRAM, REASON, Mosquitto, Subscriber
from line.sink_line import SinkLine, drive, running, soon

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import MqttConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.sinks import check, sink_of
from padim_edge_line.sinks.mqtt import MqttSink
from padim_edge_line.sinks.mqtt_connection import identifier
from padim_edge_line.sinks.mqtt_topics import MOST_PART, part_of
from padim_edge_line.sinks.retrying import Pauses

needs_a_broker = pytest.mark.skipif(PROGRAM is None, reason=REASON)

QUICK = Pauses(first_s=0.02, most_s=0.1)
BASE = "padim-edge/one"


def config(broker: Mosquitto, **changes: Any) -> MqttConfig:
    return MqttConfig(host="127.0.0.1", port=broker.port, **changes)


@needs_a_broker
def test_a_message_triggers_and_the_verdict_comes_back(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, f"{BASE}/#") as other:

        async def ask(payload: bytes | str) -> Any:
            number = len(other.of(f"{BASE}/trigger/result"))
            other.publish(f"{BASE}/trigger", payload, qos=2)
            await soon(lambda: len(other.of(f"{BASE}/trigger/result")) > number)
            return other.of(f"{BASE}/trigger/result")[-1].json()

        async def test(line: SinkLine) -> None:
            other.publish(f"{BASE}/trigger", "stale", retain=True)  # meant for another moment
            async with running(line, MqttSink(config(broker, triggers="camera"), "one", QUICK)):
                await soon(lambda: line.health("mqtt").state == WORKING)
                expected = {"seq": 1, "part": "A-1", "product": "bottle", "verdict": "good", "score": 0.25}
                assert await ask("A-1") == expected
                assert (await ask('{"part": "A-2"}'))["part"] == "A-2"
                assert (await ask('{"part": 17}'))["part"] == "17"
                assert (await ask(""))["part"] is None
                assert (await ask("nothing"))["error"] == "there is no image"
                assert "no text" in (await ask(b"\xff"))["error"]
                assert "too long" in (await ask("x" * 10_000))["error"]
                assert line.triggered == ["A-1", "A-2", "17", None]

        drive(tmp_path / "line", test)


@needs_a_broker
def test_a_message_changes_the_product(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, f"{BASE}/#") as other:

        async def test(line: SinkLine) -> None:
            async with running(line, MqttSink(config(broker, triggers="camera"), "one", QUICK)):
                await soon(lambda: line.health("mqtt").state == WORKING)
                other.publish(f"{BASE}/product/set", "can.1")
                await soon(lambda: other.last(f"{BASE}/product/result") == b'{"product": "can.1"}')
                assert line.products.active == "can.1"
                await soon(lambda: b'"product": "can.1"' in other.last(f"{BASE}/state"))
                other.publish(f"{BASE}/product/set", "screw")
                await soon(lambda: b"error" in other.last(f"{BASE}/product/result"))
                assert line.products.active == "can.1"

        drive(tmp_path / "line", test)


@needs_a_broker
def test_nobody_gives_orders_where_no_source_is_named(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, f"{BASE}/#") as other:

        async def test(line: SinkLine) -> None:
            async with running(line, MqttSink(config(broker), "one", QUICK)):
                await soon(lambda: line.health("mqtt").state == WORKING)
                other.publish(f"{BASE}/trigger", "A-1")
                other.publish(f"{BASE}/product/set", "can.1")
                await line.add(1)
                await soon(lambda: other.of(f"{BASE}/row"))
                assert not line.triggered
                assert line.products.active == "bottle"

        drive(tmp_path / "line", test)


@needs_a_broker
def test_the_password_is_needed_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = tmp_path / "secret"
    secret.write_text("hunter2hunter2\n")
    with Mosquitto(tmp_path / "broker", users={"line": "hunter2hunter2"}) as broker:
        right = config(broker, username="line", password_file=secret)
        sentence = anyio.run(check, right)
        assert sentence == f"mqtt: the broker at 127.0.0.1:{broker.port} takes the connection"
        with pytest.raises(PadimEdgeError, match="user or password is wrong"):
            anyio.run(check, config(broker))

        async def test(line: SinkLine) -> None:
            sink = sink_of(right, "one")
            assert "hunter2" not in repr(sink)
            async with running(line, sink):
                await soon(lambda: line.health("mqtt").state == WORKING)
            secret.write_text("wrongwrong")
            async with running(line, MqttSink(right, "one", QUICK)):
                await soon(lambda: line.health("mqtt").state == FAILING)
                assert "user or password is wrong" in line.health("mqtt").sentence
                assert "wrongwrong" not in line.health("mqtt").sentence
                secret.write_text("hunter2hunter2")  # is read anew
                await soon(lambda: line.health("mqtt").state == WORKING)
            secret.unlink()
            async with running(line, MqttSink(right, "one", QUICK)):
                await soon(lambda: "password_file cannot be read" in line.health("mqtt").sentence)
                assert str(tmp_path) not in line.health("mqtt").sentence

        drive(tmp_path / "line", test)
    assert "hunter2" not in caplog.text
    assert "wrongwrong" not in caplog.text


@needs_a_broker
def test_an_encrypted_connection_checks_the_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*make.split(), *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with Mosquitto(tmp_path / "broker", certificate=(certificate, key)) as broker:
        right = config(broker, tls=True, ca_file=certificate)
        assert "takes the connection" in anyio.run(check, right)
        with pytest.raises(PadimEdgeError, match="its certificate is not trusted"):
            anyio.run(check, config(broker, tls=True))
        with pytest.raises(PadimEdgeError, match="PEM"):
            anyio.run(check, config(broker, tls=True, ca_file=broker.config))

        async def test(line: SinkLine) -> None:
            async with running(line, MqttSink(right, "one", QUICK)):
                await line.add(1)
                await soon(lambda: line.health("mqtt").state == WORKING)
                await line.add(60)
                await soon(lambda: line.record.position("mqtt") == 61)

        drive(tmp_path / "line", test)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(PadimEdgeError, match=r"the broker at nowhere\.invalid:1883 cannot be reached \(nobody knows"):
        anyio.run(check, MqttConfig(host="nowhere.invalid"))


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (b"", None),
        (b" A-1\n", "A-1"),
        (b'{"part": "A 1"}', "A 1"),
        (b'{"part": null}', None),
        (b"{}", None),
        (b'{"part": 12}', "12"),
        (b'"A"', '"A"'),
        ("ä".encode() * MOST_PART, "ä" * MOST_PART),
    ],
)
def test_a_part_id_is_text_or_json(payload: bytes, part: str | None) -> None:
    assert part_of(payload) == part


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b"x" * (MOST_PART + 1),
        b"x" * 100_000,
        b"a\x00b",
        b"a\nb",
        b'{"part"',
        b'{"part": true}',
        b'{"part": 1.5}',
        b'{"part": ["a"]}',
        b'{"part": "a", "product": "b"}',
        json.dumps({"part": "x" * (MOST_PART + 1)}).encode(),
        b'{"a":' * 160,
    ],
)
def test_other_payloads_are_refused_with_a_sentence(payload: bytes) -> None:
    with pytest.raises(PadimEdgeError):
        part_of(payload)


def test_the_client_has_a_name_that_every_broker_takes() -> None:
    names = {identifier(base, name, use) for base in ("a/b", "a") for name in ("m", "b") for use in ("", "check")}
    assert len(names) == 8
    assert all(len(name) == 23 and name.isalnum() for name in names)
