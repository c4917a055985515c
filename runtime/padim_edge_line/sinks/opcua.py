"""An OPC UA server, through which a PLC triggers a source and reads the result."""

from __future__ import annotations

import asyncio
import gc
from importlib import import_module
from typing import TYPE_CHECKING

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.config import OpcUaConfig
from padim_edge_line.configuration import is_loopback
from padim_edge_line.plc_address import try_port
from padim_edge_line.sinks.retrying import secret_of

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["OpcUaSink", "check", "password_of"]

_PATIENCE_S = 20.0
"""Seconds after which the server starts although no image can be judged: then it tells that the line is not ready."""


class OpcUaSink:
    """An OPC UA server for one PLC."""

    def __init__(self, config: OpcUaConfig) -> None:
        self._config = config
        self.port = 0
        """Port that the server listens on; 0 while it does not."""

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Serve until it is cancelled."""
        password = password_of(self._config)
        # The import and the standard nodes take seconds of one core, which the model needs first.
        end = asyncio.get_running_loop().time() + _PATIENCE_S
        while not line.board.ready() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        # Some 100 000 objects are made. Searching them for garbage again and again would stop everything for as long.
        gc.disable()
        try:
            server = await asyncio.to_thread(import_module, "padim_edge_line.sinks.opcua_server")
            await server.serve(line, self._config, password, self._listens)
        finally:
            self.port = 0
            gc.enable()

    def _listens(self, port: int) -> None:
        self.port = port
        gc.freeze()
        gc.enable()


async def check(config: OpcUaConfig) -> str:
    """Try whether the server could listen.

    Raises:
        PadimEdgeError: The user or the password is missing, or the port is in use or needs rights.
    """
    password_of(config)
    await asyncio.to_thread(try_port, config.name, config.host, config.port)
    return f"{config.name}: can listen on port {config.port}"


def password_of(config: OpcUaConfig) -> str:
    """Return the password of the user; blank where there is no user.

    Raises:
        PadimEdgeError: The address needs a user and there is none, or the password cannot be read.
    """
    if config.username is None or config.password_file is None:
        if not is_loopback(config.host) or config.username is not None or config.password_file is not None:
            raise PadimEdgeError(
                f"{config.name}: {config.host} needs both username and password_file; write them, "
                "or listen on 127.0.0.1 without them"
            )
        return ""
    return secret_of(config.password_file, "password_file")
