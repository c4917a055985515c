"""Rows, state and orders through a real broker that is stopped, frozen and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from line.mosquitto import PROGRAM, REASON, Mosquitto, Subscriber, until
from line.sink_line import SinkLine, drive, running, soon, told

from padim_edge_line.config import MqttConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.sinks.mqtt import MqttSink
from padim_edge_line.sinks.retrying import Pauses

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=REASON)

QUICK = Pauses(first_s=0.02, most_s=0.1)
BASE = "plant/one"


def sink(broker: Mosquitto, **changes: Any) -> MqttSink:
    return MqttSink(MqttConfig(host="127.0.0.1", port=broker.port, topic="plant", **changes), "one", QUICK)


def first_times(subscriber: Subscriber) -> list[int]:
    """Numbers of the rows in the order in which each arrived for the first time."""
    return list(dict.fromkeys(each.json()["seq"] for each in subscriber.of(f"{BASE}/row")))


async def works(line: SinkLine) -> None:
    await soon(lambda: line.health("mqtt").state == WORKING, "the sink works")


def test_rows_state_and_availability_reach_the_broker(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                rows = await line.add(100) + await line.add(1, "anomalous", part="é7")
                await soon(lambda: len(subscriber.of(f"{BASE}/row")) >= 101)
                assert [each.json() for each in subscriber.of(f"{BASE}/row")] == [told(row) for row in rows]
                assert subscriber.last(f"{BASE}/available") == b"online"
                await soon(lambda: b'"anomalous": 1' in subscriber.last(f"{BASE}/state"))
                state = json.loads(subscriber.last(f"{BASE}/state"))
                assert state == {
                    "product": "bottle",
                    "products": ["bottle", "can.1"],
                    "ready": True,
                    "counts": {"bottle": {"good": 100, "anomalous": 1}},
                    "failing": [],
                }
                await soon(lambda: line.record.position("mqtt") == 101)
                await soon(lambda: line.health("mqtt").counts["waiting"] == 0)

                with Subscriber(broker.port) as late:  # gets what is retained
                    await soon(lambda: late.last(f"{BASE}/state") and late.last(f"{BASE}/bottle/last"))  # in any order
                    assert json.loads(late.last(f"{BASE}/bottle/last")) == told(rows[-1])
                    assert not late.of(f"{BASE}/row")
            await soon(lambda: subscriber.last(f"{BASE}/available") == b"offline")

        drive(tmp_path / "line", test)


def test_nothing_is_lost_while_the_broker_is_away_and_the_order_is_kept(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                for _ in range(3):
                    await line.add(30)
                    await asyncio.to_thread(broker.stop)
                    await soon(lambda: line.health("mqtt").state == FAILING)
                    assert "rows wait" in line.health("mqtt").sentence
                    await line.add(50)
                    await soon(lambda: line.health("mqtt").counts.get("waiting", 0) >= 50)
                    await asyncio.to_thread(broker.start)
                    await works(line)
                await soon(lambda: line.record.position("mqtt") == 240)
                await soon(lambda: len(set(first_times(subscriber))) == 240)
                assert first_times(subscriber) == list(range(1, 241))

        drive(tmp_path / "line", test)


def test_rows_from_before_the_first_connection_are_told_too(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")

    async def test(line: SinkLine) -> None:
        await line.add(2)  # before the sink was there: a new sink begins at the end
        async with running(line, sink(broker)):
            await soon(lambda: line.health("mqtt").state == FAILING)
            assert f"127.0.0.1:{broker.port} cannot be reached (Connection refused;" in line.health("mqtt").sentence
            await line.add(3)
            await asyncio.to_thread(broker.start)
            await soon(lambda: line.record.position("mqtt") == 5)

    with broker:
        broker.stop()
        drive(tmp_path / "line", test)


def test_a_row_counts_as_told_when_the_broker_has_acknowledged_it_and_not_before(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                await line.add(5)
                await soon(lambda: line.record.position("mqtt") == 5)
                broker.freeze()
                await line.add(100)
                await asyncio.sleep(0.3)
                assert line.record.position("mqtt") == 5
                broker.thaw()
                await soon(lambda: line.record.position("mqtt") == 105)

        drive(tmp_path / "line", test)


def test_a_restart_of_the_service_goes_on_where_it_was(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:

        async def before(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                await line.add(10)
                await soon(lambda: line.record.position("mqtt") == 10)
            await line.add(10)

        async def after(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await soon(lambda: line.record.position("mqtt") == 20)
                await soon(lambda: len(first_times(subscriber)) == 20)

        drive(tmp_path / "line", before)
        drive(tmp_path / "line", after)
        assert first_times(subscriber) == list(range(1, 21))


def test_a_broker_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                broker.freeze()
                await line.add(3)
                began = time.monotonic()
            assert time.monotonic() - began < 10  # the sink waits for 1.5 s at most; a busy machine for more

        drive(tmp_path / "line", test)


PROGRAM_OF_A_SINK = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from line.sink_line import SinkLine
from padim_edge_line.config import MqttConfig
from padim_edge_line.sinks.mqtt import MqttSink

async def main():
    line = SinkLine(Path(sys.argv[2]))
    await MqttSink(MqttConfig(host="127.0.0.1", port=int(sys.argv[3]), topic="plant"), "one").run(line)

asyncio.run(main())
"""


def test_the_broker_says_offline_when_the_service_is_killed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:
        arguments = [str(Path(__file__).parents[1]), str(tmp_path / "line"), str(broker.port)]
        with subprocess.Popen([sys.executable, "-c", PROGRAM_OF_A_SINK, *arguments]) as service:
            until(lambda: subscriber.last(f"{BASE}/available") == b"online", "the service is there", 60)
            service.send_signal(signal.SIGKILL)
        until(lambda: subscriber.last(f"{BASE}/available") == b"offline", "the last will")


def test_home_assistant_is_told_at_the_start_and_when_it_starts_itself(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, "homeassistant/#") as home:

        def announced() -> dict[str, Any]:
            return {each.topic: each.json() for each in home.messages if each.topic.endswith("/config")}

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker)):
                await works(line)
                await soon(lambda: len(announced()) == 8)
                found = announced()
                assert sorted(topic.split("/")[1] for topic in found) == ["binary_sensor"] * 3 + ["sensor"] * 5
                assert len({each["unique_id"] for each in found.values()}) == 8
                for topic, each in found.items():
                    assert set(topic.removeprefix("homeassistant/")) <= set(
                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/"
                    )
                    assert each["availability_topic"] == f"{BASE}/available"
                    assert each["device"]["name"] == "one"
                assert f"{BASE}/can.1/last" in {each["state_topic"] for each in found.values()}
                home.messages.clear()
                home.publish("homeassistant/status", "offline")
                home.publish("homeassistant/status", "online")
                await soon(lambda: len(announced()) == 8)

        drive(tmp_path / "line", test)


def test_home_assistant_is_left_alone_where_it_is_not_wanted(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:

        async def test(line: SinkLine) -> None:
            async with running(line, sink(broker, home_assistant=False)):
                await soon(lambda: subscriber.last(f"{BASE}/state"))
            assert not [each for each in subscriber.messages if each.topic.startswith("homeassistant")]

        drive(tmp_path / "line", test)
