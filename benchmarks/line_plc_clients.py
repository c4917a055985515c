"""Two PLCs for `benchmarks.line_plc`: one speaks Modbus TCP, the other OPC UA, with real clients."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import Protocol

from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient

from padim_edge_line.plc_registers import INPUTS, PART, STATUS_COUNT, TRIGGER

__all__ = ["Connection", "ModbusConnection", "OpcUaConnection", "Seen"]

_SECONDS = 2.0

for _name in ("asyncua", "pymodbus"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Seen:
    """Values that a PLC reads in one request."""

    heartbeat: int
    ready: bool
    busy: bool
    trigger: int
    result: int
    reason: int
    part: str
    row: int


class Connection(Protocol):
    """A connection to the service. Anything that goes wrong raises."""

    async def connect(self) -> None:
        """Connect."""

    async def order(self, number: int, part: str) -> None:
        """Write the part id, then the trigger."""

    async def read(self) -> Seen:
        """Read the status in one request."""

    async def close(self) -> None:
        """Disconnect."""


class ModbusConnection:
    """Modbus TCP."""

    def __init__(self, port: int) -> None:
        self._client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=_SECONDS, retries=0, reconnect_delay=0)

    async def connect(self) -> None:
        """Connect."""
        if not await self._client.connect():
            raise ConnectionError

    async def order(self, number: int, part: str) -> None:
        """Write the part id, then the trigger."""
        words = struct.unpack(">32H", part.encode().ljust(64, b"\0"))
        for place, values in ((PART, [*words]), (TRIGGER, [number])):
            if (await self._client.write_registers(INPUTS + place, values)).isError():
                raise ConnectionError

    async def read(self) -> Seen:
        """Read the status in one request."""
        found = await self._client.read_holding_registers(0, count=STATUS_COUNT)
        if found.isError():
            raise ConnectionError
        heartbeat, ready, busy, trigger, result, reason = found.registers[:6]
        row = found.registers[12] << 16 | found.registers[13]
        part = struct.pack(">32H", *found.registers[24:56]).rstrip(b"\0").decode()
        return Seen(heartbeat, bool(ready), bool(busy), trigger, result, reason, part, row)

    async def close(self) -> None:
        """Disconnect."""
        self._client.close()


_NODES = ("Heartbeat", "Ready", "Busy", "ResultTrigger", "Result", "Reason", "ResultPartId", "Row")


class OpcUaConnection:
    """OPC UA."""

    def __init__(self, port: int) -> None:
        self._client = Client(f"opc.tcp://127.0.0.1:{port}/padim-edge", timeout=_SECONDS)
        self._nodes = [self._client.get_node(f"ns=2;s=Status.{name}") for name in _NODES]
        self._part = self._client.get_node("ns=2;s=Inputs.PartId")
        self._trigger = self._client.get_node("ns=2;s=Inputs.Trigger")

    async def connect(self) -> None:
        """Connect."""
        await self._client.connect()

    async def order(self, number: int, part: str) -> None:
        """Write the part id, then the trigger."""
        await self._part.write_value(ua.DataValue(ua.Variant(part, ua.VariantType.String)))
        await self._trigger.write_value(ua.DataValue(ua.Variant(number, ua.VariantType.UInt16)))

    async def read(self) -> Seen:
        """Read the status in one request."""
        return Seen(*await self._client.read_values(self._nodes))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.disconnect()
