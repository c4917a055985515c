"""The OPC UA server, with asyncua's client as the PLC."""

from __future__ import annotations

import asyncio
import copy
import stat
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from asyncua import Client, ua
from asyncua.server.standard_address_space import standard_address_space
from line.plc_line import FakeLine, eventually, serving, verdict_of

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import OpcUaConfig
from padim_edge_line.health import FAILING
from padim_edge_line.plc import Reason
from padim_edge_line.plc_registers import STATUS_COUNT
from padim_edge_line.sinks import opcua
from padim_edge_line.sinks.opcua_nodes import INPUT_NAMES, NAMESPACE

NONE, GOOD, REJECT = 0, 1, 2
TYPES = {"Trigger": ua.VariantType.UInt16, "Recipe": ua.VariantType.UInt16, "PartId": ua.VariantType.String}
STATUS = "Heartbeat Ready Busy ResultTrigger Result Reason ResultPartId ResultProduct Score Threshold Row LatencyMs"
STATUS += " Product Products ProductName Triggers Good Rejected Block"


def config(**options: object) -> OpcUaConfig:
    return OpcUaConfig(**{"port": 0, "source": "camera", "timeout_s": 60.0, "heartbeat_s": 0.05, **options})


class Plc:
    """The program of a PLC."""

    def __init__(self, port: int) -> None:
        self.client = Client(f"opc.tcp://127.0.0.1:{port}/padim-edge", timeout=20)

    async def __aenter__(self) -> Self:
        await self.client.connect()
        assert await self.client.get_namespace_index(NAMESPACE) == 2
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()

    def node(self, name: str):
        return self.client.get_node(f"ns=2;s={'Inputs' if name in TYPES else 'Status'}.{name}")

    async def write(self, name: str, value: object) -> None:
        await self.node(name).write_value(ua.DataValue(ua.Variant(value, TYPES[name])))

    async def trigger(self, number: int, part: str | None = None) -> None:
        if part is not None:
            await self.write("PartId", part)
        await self.write("Trigger", number)

    async def status(self) -> SimpleNamespace:
        names = STATUS.split()
        values = await self.client.read_values([self.node(name) for name in names])
        return SimpleNamespace(**dict(zip(names, values, strict=True)))

    async def answer(self, number: int) -> SimpleNamespace:
        found = SimpleNamespace()

        async def answered() -> bool:
            vars(found).update(vars(await self.status()))
            return found.ResultTrigger == number

        await eventually(answered)
        return found


def copied(nodes: dict) -> dict:
    """The nodes of an address space, so far as servers change them."""
    found = {}
    for nodeid, node in nodes.items():
        found[nodeid] = new = copy.copy(node)
        new.references = [*node.references]
        new.attributes = {key: copy.copy(value) for key, value in node.attributes.items()}
        for value in new.attributes.values():
            value.datachange_callbacks = {}
    for number in (
        ua.ObjectIds.Server_ServerStatus,
        ua.ObjectIds.Server_NamespaceArray,
        ua.ObjectIds.Server_ServerArray,
    ):
        found[ua.NodeId(number)] = copy.deepcopy(nodes[ua.NodeId(number)])
    return found


@pytest.fixture(scope="module", autouse=True)
def _quick_start():
    """Fill the standard address space of OPC UA once for all tests: it takes more than a second."""
    fill, filled = standard_address_space.fill_address_space, {}

    def fill_once(service) -> None:
        if not filled:
            fill(service)
            filled.update(service._aspace._nodes)
        service._aspace._nodes = copied(filled)

    standard_address_space.fill_address_space = fill_once
    yield
    standard_address_space.fill_address_space = fill


def play(folder: Path, scene: object, **options: object) -> None:
    async def main() -> None:
        line = FakeLine(folder)

        async def use(port: int) -> None:
            async with Plc(port) as plc:
                await scene(line, plc)

        await serving(line, config(**options), use)

    asyncio.run(main())


def test_each_trigger_is_answered_with_its_own_part_and_result(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        found = await plc.status()
        assert (found.Busy, found.ResultTrigger, found.Result, found.Reason, found.Row) == (False, 0, 0, 0, 0)
        line.delay = 0.002
        words = ("good", "bad", "dark", "torn", "broken", "lost", "crash")
        reasons = {"good": 0, "bad": 1, "dark": 2, "torn": 3, "broken": 4, "lost": 9, "crash": 4}
        for number in range(1, 36):
            part = f"{words[number % len(words)]}-{number}"
            await plc.trigger(number, part)
            found = await plc.answer(number)
            assert found.ResultPartId == part
            assert found.Result == (GOOD if verdict_of(part) == "good" else REJECT)
            assert found.Reason == reasons[part.split("-", maxsplit=1)[0]]
            if found.Row:
                assert line.rows[found.Row - 1].part == part
                assert (found.Score, found.Threshold, found.ResultProduct) == (1.5, 2.25, 1)
            block = struct.unpack(f">{STATUS_COUNT}H", found.Block)
            assert block[3:6] == (number, found.Result, found.Reason)
        assert (found.Triggers, found.Good, found.Rejected) == (35, 5, 30)
        assert (found.Product, found.Products, found.ProductName) == (1, 2, "bottle")

    play(tmp_path, scene)


def test_the_old_result_is_gone_before_the_new_trigger_is_confirmed(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        await plc.trigger(1, "good-1")
        assert (await plc.answer(1)).Result == GOOD
        line.gates["good-2"] = asyncio.Event()
        await plc.trigger(2, "good-2")
        assert await plc.node("Result").read_value() == NONE
        found = await plc.status()
        assert (found.Busy, found.Result, found.ResultTrigger, found.Row, found.ResultPartId) == (True, 0, 0, 0, "")
        line.gates["good-2"].set()
        assert (await plc.answer(2)).ResultPartId == "good-2"
        await plc.trigger(0)
        found = await plc.status()
        assert (found.Busy, found.Result, found.ResultTrigger) == (False, NONE, 0)

    play(tmp_path, scene)


def test_a_subscriber_accepts_no_part_because_of_the_result_of_another(tmp_path: Path) -> None:
    """Values come one by one. Whoever keeps the last of each, and compares number and part, is right at any moment."""

    class Handler:
        def __init__(self) -> None:
            self.seen = dict.fromkeys(("Result", "ResultTrigger", "ResultPartId", "Heartbeat"), 0)
            self.mine = (0, "")
            self.decisions: list[tuple[str, int]] = []

        def datachange_notification(self, node, value, _data) -> None:
            self.seen[node.nodeid.Identifier.split(".")[1]] = value
            if self.mine[0] and self.mine == (self.seen["ResultTrigger"], self.seen["ResultPartId"]):
                self.decisions.append((self.mine[1], self.seen["Result"]))

    async def scene(_line: FakeLine, plc: Plc) -> None:
        handler = Handler()
        subscription = await plc.client.create_subscription(10, handler)
        await subscription.subscribe_data_change([plc.node(name) for name in handler.seen])
        for number in range(1, 21):
            part = f"{'bad' if number % 3 else 'good'}-{number}"
            handler.mine = (number, part)
            await plc.trigger(number, part)
            await eventually(lambda part=part: handler.decisions[-1:] == [(part, GOOD if "good" in part else REJECT)])
        assert {found for found in handler.decisions if found[1] == GOOD and "bad" in found[0]} == set()
        beat = handler.seen["Heartbeat"]
        await eventually(lambda: handler.seen["Heartbeat"] != beat)
        await subscription.delete()

    play(tmp_path, scene)


def test_time_over_rejects_and_the_heart_stops_until_the_call_is_back(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.gates["good-late"] = asyncio.Event()
        await plc.trigger(1, "good-late")
        found = await plc.answer(1)
        assert (found.Result, found.Reason, found.Ready) == (REJECT, Reason.TIMEOUT, False)
        await asyncio.sleep(0.15)
        assert (await plc.status()).Heartbeat == found.Heartbeat
        line.gates["good-late"].set()

        async def ready() -> bool:
            return bool((await plc.status()).Ready)

        await eventually(ready)
        assert (await plc.status()).Result == REJECT

    play(tmp_path, scene, timeout_s=0.3)


def test_a_line_that_is_not_ready_rejects_at_once(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        line.board.set("model", "bottle", FAILING, "no device")
        stopped = (await plc.status()).Heartbeat
        await plc.trigger(1, "good-1")
        found = await plc.status()
        assert (found.Ready, found.ResultTrigger, found.Result, found.Reason) == (False, 1, REJECT, Reason.NOT_READY)
        await asyncio.sleep(0.15)
        assert (await plc.status()).Heartbeat == stopped
        assert line.rows == []

    play(tmp_path, scene)


def test_wrong_inputs_are_refused_or_reject(tmp_path: Path) -> None:
    async def scene(line: FakeLine, plc: Plc) -> None:
        for name, value, kind in (
            ("Trigger", 1, ua.VariantType.Int64),
            ("Trigger", [1], ua.VariantType.UInt16),
            ("Trigger", True, ua.VariantType.Boolean),
            ("PartId", ["A"], ua.VariantType.String),
            ("PartId", None, ua.VariantType.Null),
            ("Recipe", 3, ua.VariantType.UInt16),
        ):
            with pytest.raises(ua.UaStatusCodeError):
                await plc.node(name).write_value(ua.DataValue(ua.Variant(value, kind)))
        assert (await plc.status()).Triggers == 0
        for number, part in enumerate(("x" * 65, "a\nb", "ä" * 33), 1):
            await plc.trigger(number, part)
            found = await plc.status()
            assert (found.ResultTrigger, found.Result, found.Reason) == (number, REJECT, Reason.WRONG_PART)
        assert line.rows == []
        await plc.trigger(9, "good-ä")
        assert (await plc.answer(9)).ResultPartId == "good-ä"

    play(tmp_path, scene)


def test_the_recipe_is_changed(tmp_path: Path) -> None:
    async def scene(_line: FakeLine, plc: Plc) -> None:
        await plc.write("Recipe", 2)

        async def changed() -> bool:
            found = await plc.status()
            return (found.Ready, found.Product, found.ProductName) == (True, 2, "nut")

        await eventually(changed)
        await plc.trigger(2, "good-2")
        assert (await plc.answer(2)).ResultProduct == 2

    play(tmp_path, scene)


@pytest.mark.slow
def test_a_client_can_write_the_inputs_and_nothing_else(tmp_path: Path) -> None:
    """The whole address space is searched."""

    async def scene(_line: FakeLine, plc: Plc) -> None:
        seen, writable, left = set(), set(), [plc.client.nodes.root]
        while left:
            children = [child for node in left for child in await node.get_children()]
            left = [child for child in children if child.nodeid not in seen]
            left = list({child.nodeid: child for child in left}.values())
            seen |= {child.nodeid for child in left}
            levels = await plc.client.read_attributes(left, ua.AttributeIds.UserAccessLevel) if left else []
            for node, level in zip(left, levels, strict=True):
                if level.Value and (level.Value.Value or 0) & ua.AccessLevel.CurrentWrite.mask:
                    writable.add(node.nodeid.Identifier)
        assert len(seen) > 1000
        assert writable == {f"Inputs.{name}" for name in INPUT_NAMES}

    play(tmp_path, scene)


def test_the_status_and_the_address_space_cannot_be_changed_by_a_client(tmp_path: Path) -> None:
    async def scene(_line: FakeLine, plc: Plc) -> None:
        for name in ("Result", "ResultTrigger", "Heartbeat", "Ready", "Block"):
            with pytest.raises(ua.UaStatusCodeError):
                await plc.node(name).write_value(await plc.node(name).read_data_value())
        with pytest.raises(ua.UaStatusCodeError):
            await plc.node("Result").set_writable()
        with pytest.raises(ua.UaStatusCodeError):
            await plc.client.nodes.objects.add_object(2, "mine")
        with pytest.raises(ua.UaStatusCodeError):
            await plc.client.delete_nodes([plc.node("Result")])

    play(tmp_path, scene)


def test_nobody_is_an_administrator(tmp_path: Path) -> None:
    async def main() -> None:
        async def use(port: int) -> None:
            plc = Plc(port)
            plc.client.set_user("admin")
            with pytest.raises(ua.UaStatusCodeError):
                await plc.client.connect()

        await serving(FakeLine(tmp_path), config(), use)

    asyncio.run(main())


def test_with_a_user_only_the_right_password_connects_and_it_is_encrypted(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("correct horse\n")

    async def tried(port: int, user: str | None, password: str | None) -> bool:
        plc = Plc(port)
        own = tmp_path / "client"
        own.mkdir(exist_ok=True)
        if user is not None:
            plc.client.set_user(user)
            plc.client.set_password(password)
        certificate, key = tmp_path / "opcua-certificate.der", tmp_path / "opcua-key.pem"
        await plc.client.set_security_string(f"Basic256Sha256,SignAndEncrypt,{certificate},{key}")
        try:
            async with plc:
                await plc.trigger(1, "good-1")
                return (await plc.answer(1)).Result == GOOD
        except ua.UaStatusCodeError:
            return False

    async def main() -> None:
        async def use(port: int) -> None:
            assert await tried(port, "plc", "correct horse")
            assert not await tried(port, "plc", "wrong")
            assert not await tried(port, "other", "correct horse")
            assert not await tried(port, None, None)
            plain = Plc(port)
            with pytest.raises((ua.UaStatusCodeError, ua.UaError, ConnectionError)):
                await plain.client.connect()
            endpoints = await Plc(port).client.connect_and_get_server_endpoints()
            modes = {endpoint.SecurityMode for endpoint in endpoints}
            assert modes == {ua.MessageSecurityMode.SignAndEncrypt}

        options = {"host": "0.0.0.0", "username": "plc", "password_file": secret}
        await serving(FakeLine(tmp_path), config(**options), use)

    asyncio.run(main())
    assert stat.S_IMODE((tmp_path / "opcua-key.pem").stat().st_mode) == 0o600


def test_a_network_needs_a_user_and_a_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("")
    for options in (
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "username": "plc"},
        {"username": "plc"},
        {"host": "0.0.0.0", "username": "plc", "password_file": secret},
        {"host": "0.0.0.0", "username": "plc", "password_file": tmp_path / "missing"},
    ):
        with pytest.raises(
            PadimEdgeError, match=r"username and password_file|password_file (cannot|does not)"
        ) as error:
            asyncio.run(opcua.check(config(**options)))
        assert str(tmp_path) not in str(error.value)
    secret.write_text("secret")
    assert "can listen" in asyncio.run(opcua.check(config(host="0.0.0.0", username="plc", password_file=secret)))
