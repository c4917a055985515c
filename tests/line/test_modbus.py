"""The Modbus server, with pymodbus's client as the PLC."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from line.plc_line import FakeLine, eventually, serving, verdict_of
from pymodbus.client import AsyncModbusTcpClient

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import ModbusConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.plc import Reason
from padim_edge_line.plc_registers import INPUT_COUNT, INPUTS, PART, RECIPE, STATUS_COUNT, TRIGGER
from padim_edge_line.sinks import modbus
from padim_edge_line.sinks.modbus_server import MOST_CLIENTS

NONE, GOOD, REJECT = 0, 1, 2


def config(**options: object) -> ModbusConfig:
    return ModbusConfig(**{"port": 0, "source": "camera", "timeout_s": 60.0, "heartbeat_s": 0.05, **options})


class Plc:
    """The program of a PLC."""

    def __init__(self, port: int) -> None:
        self.client = AsyncModbusTcpClient("127.0.0.1", port=port)

    async def __aenter__(self) -> Self:
        assert await self.client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()

    async def write(self, place: int, words: list[int]) -> bool:
        return not (await self.client.write_registers(INPUTS + place, words)).isError()

    async def trigger(self, number: int, part: str | bytes | None = None) -> None:
        if part is not None:
            content = part if isinstance(part, bytes) else part.encode()
            assert await self.write(PART, list(struct.unpack(">32H", content.ljust(64, b"\0"))))
        assert await self.write(TRIGGER, [number])

    async def status(self) -> SimpleNamespace:
        found = await self.client.read_holding_registers(0, count=STATUS_COUNT)
        block = struct.pack(f">{STATUS_COUNT}H", *found.registers)
        names = "heartbeat ready busy trigger result reason result_product _0 score threshold row latency_ms"
        names += " triggers good rejected _1 part product products product_name"
        values = struct.unpack(">8H2f6I64s2H32s", block)
        values = [each.rstrip(b"\0").decode() if isinstance(each, bytes) else each for each in values]
        return SimpleNamespace(**dict(zip(names.split(), values, strict=True)))

    async def answer(self, number: int) -> SimpleNamespace:
        found = SimpleNamespace()

        async def answered() -> bool:
            vars(found).update(vars(await self.status()))
            return found.trigger == number

        await eventually(answered)
        return found


def play(folder: Path, scene: object, line_of: object = FakeLine, **options: object) -> None:
    async def main() -> None:
        line = line_of(folder)

        async def use(port: int) -> None:
            async with Plc(port) as plc:
                await scene(line, plc)

        await serving(line, config(**options), use)

    asyncio.run(main())


def test_after_the_start_nothing_is_answered(tmp_path: Path) -> None:
    async def scene(_line: FakeLine, plc: Plc) -> None:
        found = await plc.status()
        assert (found.busy, found.trigger, found.result, found.reason, found.row, found.part) == (0, 0, 0, 0, 0, "")
        assert (found.ready, found.product, found.products, found.product_name) == (1, 1, 2, "bottle")
        inputs = await plc.client.read_holding_registers(INPUTS, count=INPUT_COUNT)
        assert inputs.registers == [0] * INPUT_COUNT

    play(tmp_path, scene)


def test_each_trigger_is_answered_with_its_own_part_and_result(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.delay = 0.002
        reasons = {"good": 0, "bad": 1, "dark": 2, "torn": 3, "broken": 4, "lost": 9, "crash": 4}
        reasons |= {"busy": Reason.OVERRUN, "end": Reason.NOT_READY, "later": Reason.FAILED}
        words = list(reasons)
        for number in range(1, 61):
            part = f"{words[number % len(words)]}-{number}"
            await plc.trigger(number, part)
            found = await plc.answer(number)
            assert found.part == part
            assert found.result == (GOOD if verdict_of(part) == "good" else REJECT)
            assert found.reason == reasons[part.split("-", maxsplit=1)[0]]
            if found.row:
                assert line.rows[found.row - 1].part == part
                assert (found.score, found.threshold, found.result_product) == (1.5, 2.25, 1)
            else:
                assert part.startswith(("lost", "crash", "busy", "end", "later"))
        assert (found.triggers, found.good, found.rejected) == (60, 6, 54)
        assert line.sink("modbus").counts == {"triggers": 60, "good": 6, "rejected": 54}

    play(tmp_path, scene)


def test_the_old_result_is_gone_before_the_new_trigger_is_confirmed(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        await plc.trigger(1, "good-1")
        assert (await plc.answer(1)).result == GOOD
        line.gates["good-2"] = asyncio.Event()
        await plc.trigger(2, "good-2")
        found = await plc.status()
        assert (found.busy, found.result, found.trigger, found.row, found.part) == (1, NONE, 0, 0, "")
        line.gates["good-2"].set()
        assert (await plc.answer(2)).part == "good-2"
        await plc.trigger(0)
        found = await plc.status()
        assert (found.busy, found.result, found.trigger) == (0, NONE, 0)

    play(tmp_path, scene)


def test_a_new_trigger_abandons_the_one_before_and_its_row_is_never_shown(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.gates = {"good-1": asyncio.Event(), "bad-2": asyncio.Event()}
        await plc.trigger(1, "good-1")
        await plc.trigger(2, "bad-2")
        line.gates["good-1"].set()
        await eventually(lambda: line.running == 1)
        found = await plc.status()
        assert (found.busy, found.result, found.trigger) == (1, NONE, 0)
        line.gates["bad-2"].set()
        found = await plc.answer(2)
        assert (found.part, found.result) == ("bad-2", REJECT)
        assert [each.part for each in line.rows] == ["good-1", "bad-2"]

    play(tmp_path, scene)


def test_the_same_number_again_is_no_trigger(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        await plc.trigger(7, "good-1")
        await plc.answer(7)
        await plc.trigger(7, "good-2")
        assert (await plc.status()).part == "good-1"
        assert len(line.rows) == 1

    play(tmp_path, scene)


def test_part_and_trigger_may_come_in_one_write(tmp_path: Path) -> None:
    async def scene(_line: FakeLine, plc: Plc) -> None:
        part = struct.unpack(">32H", b"good-in-one".ljust(64, b"\0"))
        assert await plc.write(RECIPE, [0, *part, 3])
        assert (await plc.answer(3)).part == "good-in-one"

    play(tmp_path, scene)


def test_time_over_rejects_and_a_late_row_changes_nothing(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.gates["good-late"] = asyncio.Event()
        await plc.trigger(1, "good-late")
        found = await plc.answer(1)
        assert (found.result, found.reason) == (REJECT, Reason.TIMEOUT)
        assert not found.ready
        assert line.running == 1
        stopped = found.heartbeat
        await asyncio.sleep(0.15)
        assert (await plc.status()).heartbeat == stopped
        await eventually(lambda: line.sink("modbus").state == FAILING)
        await plc.trigger(2, "good-now")
        found = await plc.status()
        assert (found.trigger, found.result, found.reason) == (2, REJECT, Reason.NOT_READY)
        line.gates["good-late"].set()
        await eventually(lambda: len(line.rows) == 1)
        found = await plc.status()
        assert (found.trigger, found.result, found.part) == (2, REJECT, "good-now")
        await eventually(lambda: line.sink("modbus").state == WORKING)
        await plc.trigger(3, "good-again")
        assert (await plc.answer(3)).result in (GOOD, REJECT)
        assert (await plc.status()).heartbeat != stopped

    play(tmp_path, scene, timeout_s=0.3)


def test_nobody_waits_for_ever_for_a_call_that_hangs(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.gates["good-never"] = asyncio.Event()
        await plc.trigger(1, "good-never")
        await plc.answer(1)
        await eventually(lambda: line.running == 0)

        async def ready() -> bool:
            return bool((await plc.status()).ready)

        await eventually(ready)

    play(tmp_path, scene, timeout_s=0.05)


def test_a_line_that_is_not_ready_rejects_at_once_and_its_heart_stops(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        first = (await plc.status()).heartbeat

        async def beaten() -> bool:
            return (await plc.status()).heartbeat != first

        await eventually(beaten)
        line.board.set("record", "record", FAILING, "the disk is full")
        stopped = (await plc.status()).heartbeat
        await plc.trigger(1, "good-1")
        found = await plc.status()
        assert (found.ready, found.trigger, found.result, found.reason) == (0, 1, REJECT, Reason.NOT_READY)
        await asyncio.sleep(0.2)
        assert (await plc.status()).heartbeat == stopped
        assert line.rows == []

    play(tmp_path, scene)


def test_a_source_that_does_not_work_makes_it_not_ready_but_the_heart_beats(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.board.set("source", "camera", FAILING, "it gives no frames")
        found = await plc.status()
        assert not found.ready
        await plc.trigger(1, "good-1")
        found = await plc.status()
        assert (found.trigger, found.result, found.reason) == (1, REJECT, Reason.NOT_READY)

        async def beaten() -> bool:
            return (await plc.status()).heartbeat not in (found.heartbeat, 0)

        await eventually(beaten)
        line.board.set("source", "camera", WORKING)
        await plc.trigger(2, "good-2")
        assert (await plc.answer(2)).result == GOOD

    play(tmp_path, scene)


def test_too_many_triggers_in_work_are_rejected(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.gates = {"good": asyncio.Event()}
        for number in range(1, 6):
            await plc.trigger(number, "good")
        found = await plc.status()
        assert (found.trigger, found.result, found.reason) == (5, REJECT, Reason.OVERRUN)
        assert line.running == 4
        line.gates["good"].set()
        await eventually(lambda: line.running == 0)
        found = await plc.status()
        assert (found.trigger, found.result, found.reason) == (5, REJECT, Reason.OVERRUN)

    play(tmp_path, scene)


def test_a_part_id_that_is_no_text_rejects(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        await plc.trigger(1, b"\xff\xfe")
        found = await plc.status()
        assert (found.trigger, found.result, found.reason, found.part) == (1, REJECT, Reason.WRONG_PART, "")
        assert line.rows == []

    play(tmp_path, scene)


def test_the_recipe_is_changed_and_nothing_is_triggered_meanwhile(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.choosing.clear()
        assert await plc.write(RECIPE, [2])
        found = await plc.status()
        assert (found.ready, found.product) == (0, 1)
        await plc.trigger(1, "good-1")
        assert (await plc.status()).reason == Reason.NOT_READY
        line.choosing.set()

        async def changed() -> bool:
            found = await plc.status()
            return (found.ready, found.product, found.product_name) == (1, 2, "nut")

        await eventually(changed)
        await plc.trigger(2, "good-2")
        assert (await plc.answer(2)).result_product == 2
        assert not await plc.write(RECIPE, [3])  # there is no third one
        assert (await plc.status()).product == 2

    play(tmp_path, scene)


def test_a_plc_can_write_the_inputs_only(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        client = plc.client
        assert (await client.write_register(4, GOOD)).isError()
        assert (await client.write_registers(0, [1] * STATUS_COUNT)).isError()
        assert (await client.write_registers(INPUTS + TRIGGER, [1, 1])).isError()
        assert (await client.write_coil(INPUTS + TRIGGER, True)).isError()
        assert (await client.write_coils(4, [True])).isError()
        assert (await client.read_coils(0, count=8)).isError()
        assert (await client.read_holding_registers(STATUS_COUNT, count=4)).isError()
        assert (await client.readwrite_registers(read_address=0, read_count=5, address=4, values=[1])).isError()
        found = await plc.status()
        assert (found.result, found.trigger, found.busy) == (0, 0, 0)
        assert line.rows == []

    play(tmp_path, scene)


def test_input_registers_show_the_same_and_any_unit_is_served(tmp_path: Path) -> None:
    async def scene(_line: FakeLine, plc: Plc) -> None:
        await plc.trigger(1, "good-1")
        await plc.answer(1)
        for unit in (0, 1, 255):
            found = await plc.client.read_input_registers(3, count=2, device_id=unit)
            assert found.registers == [1, GOOD]

    play(tmp_path, scene)


def test_two_requests_in_one_packet_are_both_answered_and_no_part_is_mixed_up(tmp_path: Path) -> None:
    """A PLC may send the part id and the trigger without waiting in between."""

    async def main() -> None:
        line = FakeLine(tmp_path)

        async def use(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in range(1, 6):
                part = f"good-{number}".encode().ljust(64, b"\0")
                first = struct.pack(">BHHB", 16, INPUTS + PART, 32, 64) + part
                second = struct.pack(">BHH", 6, INPUTS + TRIGGER, number)
                packets = [
                    struct.pack(">HHHB", 10 + n, 0, len(pdu) + 1, 1) + pdu for n, pdu in enumerate((first, second))
                ]
                writer.write(b"".join(packets))
                for expected in (10, 11):
                    head = await asyncio.wait_for(reader.readexactly(7), 20)
                    transaction, _, length, _ = struct.unpack(">HHHB", head)
                    await reader.readexactly(length - 1)
                    assert transaction == expected
                await eventually(lambda expected=number: len(line.rows) == expected)
            writer.close()
            await writer.wait_closed()
            assert [each.part for each in line.rows] == [f"good-{number}" for number in range(1, 6)]

        await serving(line, config(), use)

    asyncio.run(main())


def test_the_number_of_connections_is_limited(tmp_path: Path) -> None:
    async def main() -> None:
        line = FakeLine(tmp_path)

        async def use(port: int) -> None:
            async with Plc(port) as plc:
                others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CLIENTS)]
                assert await asyncio.wait_for(others[-1][0].read(), 20) == b""
                assert (await plc.status()).ready
                for _, writer in others:
                    writer.close()
                    await writer.wait_closed()

        await serving(line, config(), use)

    asyncio.run(main())


def test_a_network_needs_a_confirmation() -> None:
    with pytest.raises(PadimEdgeError, match="open_network = true"):
        asyncio.run(modbus.check(config(host="0.0.0.0")))
    assert "can listen" in asyncio.run(modbus.check(config(host="0.0.0.0", open_network=True)))


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = config(port=other.getsockname()[1])
        with pytest.raises(PadimEdgeError, match="in use by another program"):
            asyncio.run(modbus.check(busy))

        async def start() -> None:
            await serving(FakeLine(tmp_path), busy, lambda _port: asyncio.sleep(0))

        with pytest.raises(PadimEdgeError, match="in use by another program"):
            asyncio.run(start())
