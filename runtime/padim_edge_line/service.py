"""The service: a line with its sources, sinks and page, from the start to the end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import make_folder, reserved
from padim_edge_line.arrival import now
from padim_edge_line.drift import Drift
from padim_edge_line.health import FAILING, STARTING
from padim_edge_line.line import Line
from padim_edge_line.notify import notify, watchdog_seconds
from padim_edge_line.record import Reader, tables
from padim_edge_line.record.retention import sweep
from padim_edge_line.sinks import sink_of
from padim_edge_line.sinks.retrying import ended
from padim_edge_line.sources import source_of

if TYPE_CHECKING:
    from padim_edge_line.config import LineConfig

__all__ = ["TOKEN", "run", "token_of"]

TOKEN = "token"  # noqa: S105 - the name of a file
"""Name of the file with the token in the line's folder."""

_LONGEST_PAUSE = 30.0
"""Longest pause in seconds before a part that failed is started again."""
_LEAST_TOKEN = 16
_STUCK = 120.0
"""Seconds after which an image in judging counts as stuck, so that systemd is not told that all is well."""

log = logging.getLogger(__name__)

Tell = Callable[[str, str], object]
"""Function that is told the page's address and the token."""


def run(config: LineConfig, *, tell: Tell = lambda _, __: None) -> None:
    """Run a line until SIGTERM or Ctrl-C.

    Args:
        config: The line.
        tell: Called with the page's address and the token, once the page can be opened.

    Raises:
        PadimEdgeError: Another process runs this line, or its parts cannot be used.
    """
    make_folder(config.folder)
    with reserved([config.folder / tables.FILE]):
        _completed(_run(config, tell))


def _completed(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end. Unlike `asyncio.run`, this waits for no thread, such as one that asks a silent name server."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=0.2))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


def token_of(config: LineConfig) -> str:
    """Return the token for changes: that of `token_file`, or one that is made in the line's folder.

    Raises:
        PadimEdgeError: The file cannot be read, or its content is too short.
    """
    given = None if config.server is None else config.server.token_file
    path = given or config.folder / TOKEN
    try:
        if given is None and not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
                file.write(secrets.token_urlsafe(24) + "\n")
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise PadimEdgeError(f"the token file {path} cannot be used ({reason}); check its rights") from error
    if len(found) < _LEAST_TOKEN:
        raise PadimEdgeError(f"the token in {path} has {len(found)} characters, expected {_LEAST_TOKEN} or more")
    return found


async def _run(config: LineConfig, tell: Tell) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop.set)
    sources = [source_of(each) for each in config.sources]
    triggered: dict[str, Any] = {each.name: each for each in sources if hasattr(each, "trigger")}
    line = Line(config, token_of(config), triggered)
    inputs: list[asyncio.Task[Any]] = []
    waits: list[asyncio.Task[Any]] = [loop.create_task(stop.wait())]
    outputs: list[asyncio.Task[Any]] = []
    try:
        line.drift = Drift(line)
        line.record.event("start", config.name)
        sinks = [sink_of(each, config.name) for each in config.sinks]
        if config.server is not None:
            from padim_edge_line.server.serving import serve

            page = loop.create_task(serve(line, config.server, lambda url: tell(url, line.token)))
            inputs.append(page)
            waits.append(page)
        outputs += [loop.create_task(_supervised(line, "sink", sink.name, sink.run)) for sink in sinks]
        await line.loading.first()
        inputs += [loop.create_task(_supervised(line, "source", source.name, source.run)) for source in sources]
        inputs.append(loop.create_task(line.loading.run()))
        inputs.append(loop.create_task(_alive(line)))
        swept = loop.run_in_executor(None, _swept, line, now())
        swept.add_done_callback(lambda done: done.exception())
        notify("READY=1\nSTATUS=judging")
        log.info("ready: %s, %d product(s), on %s", config.name, len(config.products), _device(line))
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # raises where the page cannot be opened
    finally:
        notify("STOPPING=1")
        log.info("stopping")
        await _ended(inputs, 0.7)
        await line.finish(0.6)  # what is judged now is still told
        await _ended(outputs, 0.6)
        await line.close()
    log.info("stopped")


async def _supervised(line: Line, kind: str, name: str, work: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    """Keep a part going: one that fails is started again, after a pause that grows."""
    line.board.set(kind, name, STARTING)
    pause = 1.0
    while True:
        began = time.monotonic()
        try:
            await work(line)
            return
        except PadimEdgeError as error:
            line.board.set(kind, name, FAILING, str(error))
        except Exception:
            log.exception("%s %s failed for a reason that nobody foresaw", kind, name)
            line.board.set(kind, name, FAILING, "failed for a reason that nobody foresaw; see the log")
        if time.monotonic() - began > 10 * _LONGEST_PAUSE:
            pause = 1.0
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _alive(line: Line) -> None:
    """Tell systemd that all is well, as long as no image is stuck."""
    seconds = watchdog_seconds()
    while True:
        await asyncio.sleep(1.0 if seconds is None else min(1.0, seconds / 3))
        oldest = min(line.busy_since.copy().values(), default=time.monotonic())
        if time.monotonic() - oldest < _STUCK:
            notify("WATCHDOG=1")


def _swept(line: Line, before: int) -> None:
    """Remove the files of images that a kill has left without a row."""
    reader = Reader(line.config.folder)
    try:
        if removed := sweep(line.config.folder, reader, before):
            log.info("removed %d files of images that have no row", removed)
    finally:
        reader.close()


async def _ended(tasks: list[asyncio.Task[Any]], seconds: float) -> None:
    """Cancel tasks, and let them say goodbye for some seconds; then insist."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    try:
        await asyncio.wait_for(ended(late), 0.3)
    except asyncio.TimeoutError:
        log.warning("%d parts did not end within %.1f s", sum(not task.done() for task in late), seconds)


def _device(line: Line) -> str:
    return line.products.get(line.products.active).detector.device
