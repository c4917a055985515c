"""One connection to a broker: made so that it can be given up at any moment, and with errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import anyio

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import MqttConfig
from padim_edge_line.sinks.retrying import ended, secret_of

__all__ = ["WINDOW", "connection", "identifier"]

WINDOW = 32
"""Messages that may be on their way without the broker's acknowledgement."""

_CONNECT_S, _ANSWER_S, _LEAVE_S = 5.0, 10.0, 0.5
"""Seconds for a connection, for an acknowledgement, and for leaving in good order."""

_ALIVE_S = 15
"""Seconds of silence after which both sides ask whether the other is there."""


_LOG = logging.getLogger(f"{__name__}.client")
_LOG.setLevel(logging.CRITICAL)  # the board has a sentence for each lost connection


def identifier(base: str, sink: str, use: str = "") -> str:
    """Return the name of a client, which every broker takes: 23 letters and digits.

    It is the same after each start. The broker then closes the connection of a service that was killed, and its last
    will comes before the new connection's messages, not minutes after them.
    """
    return "padim" + hashlib.sha256(f"{base}\n{sink}\n{use}".encode()).hexdigest()[:18]


@asynccontextmanager
async def connection(
    config: MqttConfig, client_id: str, will: aiomqtt.Will | None = None
) -> AsyncIterator[aiomqtt.Client]:
    """Connect to the broker, and leave in good order.

    Raises:
        PadimEdgeError: The broker cannot be reached or refuses the client. The message holds no secret.
    """
    where = f"the broker at {config.host}:{config.port}"
    password = None if config.password_file is None else secret_of(config.password_file, "password_file")
    tls = _tls(config)
    client = aiomqtt.Client(
        config.host,
        config.port,
        username=config.username,
        password=password,
        identifier=client_id,
        will=will,
        clean_session=True,  # a trigger that waited at the broker would find another part in front of the camera
        timeout=_CONNECT_S,
        keepalive=_ALIVE_S,
        max_queued_incoming_messages=1000,
        max_inflight_messages=WINDOW,
        tls_context=tls,
        logger=_LOG,
    )
    client.pending_calls_threshold = 4 * WINDOW
    try:
        await _probe(config, tls)
        await _enter(client)
        client.timeout = _ANSWER_S
    except aiomqtt.MqttCodeError as error:
        raise PadimEdgeError(f"{where} refuses the connection ({_refusal(error)})") from None
    except (OSError, aiomqtt.MqttError) as error:
        raise PadimEdgeError(f"{where} cannot be reached ({_reason(error)})") from None
    try:
        yield client
    except aiomqtt.MqttError:
        raise PadimEdgeError(f"the connection to {where} is lost") from None
    finally:
        await _leave(client)


async def _probe(config: MqttConfig, tls: ssl.SSLContext | None) -> None:
    """Open and close a connection in the event loop.

    The library connects in a thread, which nobody can stop: a broker whose machine is off would hold up the end of the
    service. It also leaves a socket open where the certificate is not trusted.
    """
    with anyio.fail_after(_CONNECT_S):
        _, writer = await asyncio.open_connection(config.host, config.port, ssl=tls)
    writer.close()
    with contextlib.suppress(OSError), anyio.move_on_after(_LEAVE_S):
        await writer.wait_closed()


async def _enter(client: aiomqtt.Client) -> None:
    """Connect. Where this is cancelled, the thread that connects ends first, for it would use a closed event loop."""
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.wait([entering])
        entering.result()
    except asyncio.CancelledError:
        await asyncio.wait([entering], timeout=_LEAVE_S)
        if entering.done() and entering.exception() is None:
            await _leave(client)
        await ended([entering])
        raise


async def _leave(client: aiomqtt.Client) -> None:
    """Disconnect. A broker that does not react is not waited for."""
    leaving = asyncio.ensure_future(client.__aexit__(None, None, None))
    await asyncio.wait([leaving], timeout=_LEAVE_S)
    await ended([leaving])


def _tls(config: MqttConfig) -> ssl.SSLContext | None:
    """Return what an encrypted connection is checked against; `None` for an open one."""
    if not config.tls:
        return None
    try:
        return ssl.create_default_context(cafile=config.ca_file)
    except OSError:  # missing, unreadable, or no certificate
        raise PadimEdgeError("the ca_file cannot be read as a certificate; name a file in the format PEM") from None


def _refusal(error: aiomqtt.MqttCodeError) -> str:
    """Say why the broker refuses the client."""
    code = getattr(error.rc, "value", error.rc)
    if code in (4, 5, 134, 135):
        return "user or password is wrong, or the user may not connect; correct username and password_file"
    return f"code {code}; see the log of the broker"


def _reason(error: Exception) -> str:
    """Say why there is no connection."""
    text = str(error)
    if isinstance(error, ssl.SSLError) or "SSL" in text or "certificate" in text.lower():
        return "its certificate is not trusted, or it does not encrypt; correct ca_file, tls, host or port"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return "it does not answer in time; correct host, port and tls, or start the broker"
    if isinstance(error, socket.gaierror):
        return "nobody knows an address of this name; correct host"
    if isinstance(error, OSError):
        cause = os.strerror(error.errno) if error.errno else "no connection"
        return f"{cause}; correct host and port, or start the broker"
    return "it closes the connection; correct tls, host and port"
