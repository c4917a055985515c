"""POST of each row to a URL: in order, signed, and repeated until the target has taken it."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import anyio
import httpx

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import WebhookConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.row import Row
from padim_edge_line.sinks.retrying import Pauses, count_waiting, pause, secret_of
from padim_edge_line.sinks.webhook_request import SIGNATURE, Answer, answer_of, body_of, headers_of, signature, target

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["Patience", "WebhookSink", "check"]

_MOST_ANSWER = 65536
"""Bytes of an answer that are read, so that the connection can be used again. The content does not matter."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Pauses of a webhook between attempts."""

    passing: Pauses = field(default_factory=lambda: Pauses(most_s=30.0))
    """Pauses where the reason may pass by itself."""
    refused: Pauses = field(default_factory=lambda: Pauses(first_s=10.0, most_s=300.0))
    """Pauses where a person has to do something."""
    asked_s: float = 300.0
    """Longest pause in seconds that the target may ask for by `Retry-After`."""

    def after(self, answer: Answer, failures: int) -> float:
        """Return the pause in seconds after a number of failures in a row, 1 or more."""
        if not answer.passing:
            return self.refused.after(failures)
        return max(self.passing.after(failures), min(answer.wait_s or 0.0, self.asked_s))


class WebhookSink:
    """Client of the target. One row is on its way at a time, so that the order is kept.

    Args:
        config: The sink.
        line_name: Name of the line.
        patience: Pauses between attempts.
    """

    def __init__(self, config: WebhookConfig, line_name: str, patience: Patience | None = None) -> None:
        self._config = config
        self._line_name = line_name
        self._patience = patience or Patience()

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Tell of rows until it is cancelled."""
        told = line.record.position(self.name)  # first of all: the position of a new sink begins here
        line.board.set("sink", self.name, WORKING)
        async with _client(self._config) as client:
            async for row in line.rows_after(told):
                if not self._config.verdicts or row.verdict in self._config.verdicts:
                    await self._deliver(line, client, row)
                line.record.acknowledge(self.name, row.seq)
                count_waiting(line, self.name)

    async def _deliver(self, line: Line, client: httpx.AsyncClient, row: Row) -> None:
        """Repeat a row until the target has taken it."""
        body, failures = body_of(row), 0
        while not (answer := await self._attempt(client, row, body)).taken:
            failures += 1
            sentence = f"the target at {target(self._config.url)} does not take rows: {answer.sentence}; rows wait"
            line.board.set("sink", self.name, FAILING, sentence)
            await pause(line, self.name, self._patience.after(answer, failures))
        line.board.set("sink", self.name, WORKING)

    async def _attempt(self, client: httpx.AsyncClient, row: Row, body: bytes) -> Answer:
        """Post a row once."""
        headers = headers_of(self._line_name, row)
        try:
            if self._config.secret_file is not None:  # read anew, so that a corrected file needs no restart
                secret = secret_of(self._config.secret_file, "secret_file")
                headers[SIGNATURE] = signature(secret, int(time.time()), body)
            with anyio.fail_after(self._config.timeout_s):
                async with client.stream("POST", self._config.url, content=body, headers=headers) as response:
                    await _read(response)
            return answer_of(response.status_code, response.headers, datetime.now(timezone.utc))
        except PadimEdgeError as error:
            return Answer(taken=False, sentence=str(error), passing=False)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return Answer(taken=False, sentence=_reason(error))


async def check(config: WebhookConfig) -> str:
    """Ask the target for the headers of its URL (HEAD), which changes nothing there. Any answer will do.

    Raises:
        PadimEdgeError: There is no answer, or the secret cannot be read.
    """
    if config.secret_file is not None:
        secret_of(config.secret_file, "secret_file")
    where = target(config.url)
    try:
        async with _client(config) as client:
            with anyio.fail_after(config.timeout_s):
                async with client.stream("HEAD", config.url) as response:
                    return f"{config.name}: the target at {where} answers ({response.status_code} to HEAD)"
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise PadimEdgeError(
            f"{config.name}: the target at {where} does not answer: {_reason(error)}; correct url or start the target"
        ) from None


@asynccontextmanager
async def _client(config: WebhookConfig) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that follows no redirect, and logs no URL: it may hold a secret."""
    for logger in ("httpx", "httpcore"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    async with httpx.AsyncClient(follow_redirects=False, timeout=config.timeout_s, limits=limits) as client:
        yield client


async def _read(response: httpx.Response) -> None:
    """Read a short answer to its end; leave a long one."""
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > _MOST_ANSWER:
            return


def _reason(error: Exception) -> str:
    """Say why there was no answer, without the words of a library, which may hold the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "the encrypted connection fails; check its certificate"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return "the URL is none of http or https; correct url"
    if isinstance(error, (TimeoutError, httpx.TimeoutException)):
        return "it does not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "it cannot be reached"
    return "the connection breaks"
