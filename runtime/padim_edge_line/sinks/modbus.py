"""A Modbus TCP server, through which a PLC triggers a source and reads the result."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.config import ModbusConfig
from padim_edge_line.configuration import is_loopback
from padim_edge_line.plc_address import try_port
from padim_edge_line.plc_exchange import Exchange
from padim_edge_line.plc_registers import (
    INPUT_COUNT,
    INPUTS,
    PART,
    RECIPE,
    STATUS,
    STATUS_COUNT,
    TRIGGER,
    status_bytes,
)
from padim_edge_line.sinks.modbus_server import Server

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["ModbusSink", "check"]

_FUNCTIONS = (3, 4, 6, 16, 22, 23)
"""Functions that read and write registers; coils are no part of the map."""

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs what clients send, and its own tracebacks


class ModbusSink:
    """A Modbus TCP server for one PLC."""

    def __init__(self, config: ModbusConfig) -> None:
        self._config = config
        self.port = 0
        """Port that the server listens on; 0 while it does not."""

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Serve until it is cancelled."""
        _permit(self._config)
        exchange = Exchange(line, self._config, lambda: None)
        device = SimDevice(id=0, simdata=_blocks(), action=_Registers(exchange).access)
        server = Server(device, address=(self._config.host, self._config.port))
        if self._config.port:
            try_port(self.name, self._config.host, self._config.port)
        await server.serve_forever(background=True)
        try:
            self.port = server.port
            await exchange.run()
        finally:
            self.port = 0
            await server.shutdown()  # type: ignore[no-untyped-call]


async def check(config: ModbusConfig) -> str:
    """Try whether the server could listen.

    Raises:
        PadimEdgeError: The address needs a confirmation, or the port is in use or needs rights.
    """
    _permit(config)
    await asyncio.to_thread(try_port, config.name, config.host, config.port)
    return f"{config.name}: can listen on port {config.port}"


def _permit(config: ModbusConfig) -> None:
    if not is_loopback(config.host) and not config.open_network:
        raise PadimEdgeError(
            f"{config.name}: Modbus has no passwords, and {config.host} can be reached from the network; "
            "if only the PLC is on that network, write open_network = true"
        )


def _blocks() -> list[SimData]:
    return [
        SimData(address=STATUS, count=STATUS_COUNT, values=0, datatype=DataType.REGISTERS, readonly=True),
        SimData(address=INPUTS, count=INPUT_COUNT, values=0, datatype=DataType.REGISTERS),
    ]


class _Registers:
    """The registers behind the server. Each access is one step: nothing comes between its parts."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Bring the status up to date before it is read, or take what is about to be written."""
        if function not in _FUNCTIONS:
            return ExcCodes.ILLEGAL_FUNCTION
        if values is None:
            words = struct.unpack(f">{STATUS_COUNT}H", status_bytes(self._exchange.status()))
            registers[STATUS - start : STATUS - start + STATUS_COUNT] = words
            return None
        inputs = registers[INPUTS - start : INPUTS - start + INPUT_COUNT]
        first = address - INPUTS
        inputs[first : first + count] = [int(value) for value in values]
        written = range(first, first + count)
        if RECIPE in written and not self._exchange.choose(inputs[RECIPE]):
            return ExcCodes.ILLEGAL_VALUE
        if TRIGGER in written:
            part = struct.pack(f">{TRIGGER - PART}H", *inputs[PART:TRIGGER])
            self._exchange.request(inputs[TRIGGER], part)
        return None
