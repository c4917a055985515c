"""A folder that other programs write images into."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.arrival import Arrival
from padim_edge_line.config import FolderConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.sources.looking import Complete, Growing, Looker
from padim_edge_line.sources.naming import is_hidden, is_image, natural

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["FolderSource", "check"]

T = TypeVar("T")

_MOST = 10_000
"""Most names that wait in memory; a further search finds the others."""
_AT_ONCE = 64
"""Most files that are looked at in one go."""
_STEP_MS = 5
"""Milliseconds between two questions to the system whether something has changed."""
_CHECK_S = 1.0
"""Seconds between two looks at whether the folder is still there."""
_SEARCH_S = 30.0
"""Seconds between two searches at least, where the system tells of changes: it may lose some."""
_BLIND_SEARCH_S = 1.0
"""Seconds between two searches at least, where the system does not tell of changes."""
_SHARE = 50
"""A search may take one part in so many of the time."""
_HUNG_S = 10.0
"""Seconds without an answer after which a drive counts as hung."""
_LONG_S = 60.0
"""Seconds after which a file that is still being written is told."""
_RETRY_S = 1.0
"""Seconds until a file is tried again that could not be judged."""
_STUCK_S = 60.0
"""Seconds until judged files are tried again that could be neither moved nor deleted."""

_LOG = logging.getLogger(__name__)


class FolderSource:
    """Source that judges the images in a folder and in its sub-folders.

    Args:
        config: The folder, and what to do with it.

    Raises:
        PadimEdgeError: Judged files are to be moved, but to no folder or into the watched one.
    """

    def __init__(self, config: FolderConfig) -> None:
        if config.judged == "move":
            _check_move_to(config)
        self._config = config
        self._queue: list[tuple[str, str]] = []
        self._queued: set[str] = set()
        self._growing: dict[str, Growing] = {}
        self._ready: deque[Complete] = deque()
        self._flying: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._wake = asyncio.Event()
        self._search_due = 0.0
        self._stuck_until = 0.0
        self._stuck = ""
        self._closed = ""
        self._blind = ""
        self._gone = False
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """Name of the source."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Judge the images in the folder, then each new one, until it is cancelled."""
        name = self.name
        self._wake = asyncio.Event()
        looker = Looker(self._config, lambda keys: line.record.reader().known(name, keys))
        pool, disposing = ThreadPoolExecutor(1, "folder"), ThreadPoolExecutor(1, "judged")
        work = _Work(line, looker, pool, disposing)
        try:
            while True:
                self._search_due, self._gone = 0.0, False
                self._blind = "it is searched at intervals" if self._config.poll else ""
                watcher = None
                try:
                    await self._asked(work, looker.moved)
                    watcher = None if self._config.poll else asyncio.create_task(self._events())
                    await self._feed(work)
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                    sentence = f"the folder cannot be read ({reason}); connect the drive, or correct its rights"
                    line.board.set("source", name, FAILING, sentence)
                    await asyncio.sleep(_CHECK_S)
                finally:
                    if watcher is not None:
                        watcher.cancel()
                        await asyncio.gather(watcher, return_exceptions=True)
        finally:
            tasks = list(self._flying.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._flying.clear()
            for each in (pool, disposing):
                each.shutdown(wait=False, cancel_futures=True)

    async def _events(self) -> None:
        """Note the names that the system tells of."""
        while True:
            try:
                await self._watch()
            except OSError as error:
                reason = error.strerror or "too many folders are watched"
                self._blind = f"the system does not tell of changes ({reason}), so it is searched at intervals"
                self._searched_soon()
                return
            except RuntimeError as error:  # a name that is no text
                _LOG.debug("source %s: %s", self.name, type(error).__name__)
                await asyncio.sleep(_CHECK_S)

    async def _watch(self) -> None:
        from watchfiles import Change, awatch

        root = str(self._config.path.absolute())
        top = root.rstrip(os.sep) + os.sep

        def wanted(change: Change, path: str) -> bool:
            if change == Change.deleted:
                self._gone |= path.rstrip(os.sep) == root
                return self._gone
            return path.startswith(top) and not is_hidden(path[len(top) :].replace(os.sep, "/"))

        on = False
        async for changes in awatch(
            root,
            watch_filter=wanted,
            debounce=4 * _STEP_MS,
            step=_STEP_MS,
            rust_timeout=1000,
            yield_on_timeout=True,
            recursive=self._config.subfolders,
            ignore_permission_denied=True,
        ):
            if not on:  # what happened before the system began to tell
                on = True
                self._searched_soon()
            for change, path in changes:
                name = path[len(top) :].replace(os.sep, "/")
                if is_image(name) or change == Change.added:  # a folder may have any name
                    self._push(name)
            if changes:
                self._wake.set()

    def _searched_soon(self) -> None:
        self._search_due = 0.0
        self._wake.set()

    def _push(self, name: str) -> None:
        """Note a file to look at."""
        if name in self._flying:
            self._again.add(name)
        elif len(self._queued) >= _MOST:
            self._search_due = 0.0
        elif name in self._growing:
            growing = self._growing.pop(name)
            self._growing[name] = Growing(growing.signature, growing.first, growing.since, 0.0)
        elif name not in self._queued:
            self._queued.add(name)
            heapq.heappush(self._queue, (natural(name), name))

    async def _feed(self, work: _Work) -> None:
        """Judge what is there and what comes, until the folder is another one.

        Raises:
            OSError: The folder is not there.
        """
        check_due = 0.0
        while True:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            moment = time.monotonic()
            if moment >= check_due:
                if await self._asked(work, work.looker.moved) or self._gone:
                    return
                check_due = moment + _CHECK_S
                self._tell(work.line)
            if moment >= self._search_due and not self._queue and not self._ready:
                await self._search(work)
            slots = 2 * max(1, work.line.workers)
            if len(self._ready) < slots:
                await self._look(work)
            while self._ready and len(self._flying) < slots:
                found = self._ready.popleft()
                self._flying[found.name] = asyncio.create_task(self._one(work, found))
            if self._queue and len(self._ready) < slots:
                continue
            due = [check_due]
            if len(self._flying) < slots:
                due += [each.due for each in self._growing.values()]
                due += [] if self._queue or self._ready else [self._search_due]
            await self._pause(min(due) - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        """Wait until something has happened, or for so long."""
        handle = asyncio.get_running_loop().call_later(max(0.0, seconds), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
        self._wake.clear()

    async def _search(self, work: _Work) -> None:
        start = time.monotonic()
        tidy = self._config.judged != "keep" and start >= self._stuck_until
        self._search_due = math.inf  # what is told meanwhile may bring it forward
        found = await self._asked(work, lambda: work.looker.search(_MOST, tidy=tidy))
        for name in found.names:
            self._push(name)
        if math.isinf(self._search_due):
            end = time.monotonic()
            least = _BLIND_SEARCH_S if self._blind else _SEARCH_S
            self._search_due = 0.0 if found.more and self._queue else end + max(least, _SHARE * (end - start))
        if tidy and not found.names:
            self._stuck = ""
        self._closed = found.problem
        self._tell(work.line)

    async def _look(self, work: _Work) -> None:
        """Look at the files that come next, and at those that were not complete."""
        moment = time.monotonic()
        due = [name for name, growing in self._growing.items() if growing.due <= moment]
        some: list[tuple[str, Growing | None]] = [(name, self._growing.pop(name)) for name in due[:_AT_ONCE]]
        while self._queue and len(some) < _AT_ONCE:
            _, name = heapq.heappop(self._queue)
            self._queued.discard(name)
            some.append((name, None))
        if not some:
            return
        some.sort(key=lambda each: natural(each[0]))
        looks = await self._asked(work, lambda: work.looker.look(some))
        self._ready.extend(looks.complete)
        self._growing.update(looks.growing)
        if looks.folders:
            self._search_due = 0.0
        if looks.problem or looks.disposed:
            self._note(work.line, looks.problem)

    async def _one(self, work: _Work, found: Complete) -> None:
        """Have one file judged, then move or delete it."""
        line, config = work.line, self._config
        try:
            await line.judge(
                Arrival(
                    source=self.name,
                    name=found.name,
                    image=config.path / found.name,
                    product=config.product or line.products.active,
                    key=found.key,
                    time=found.time,
                    patient=True,
                )
            )
            if config.judged != "keep":
                loop = asyncio.get_running_loop()
                problem = await loop.run_in_executor(work.disposing, work.looker.dispose, found)
                self._note(line, problem)
        except PadimEdgeError as error:
            _LOG.warning(
                "source %s: an image could not be judged and is tried again: %s", self.name, type(error).__name__
            )
            moment = time.monotonic()
            self._growing[found.name] = Growing((0, 0, 0), moment, moment, moment + _RETRY_S)
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._error = error
        finally:
            self._flying.pop(found.name, None)
            if found.name in self._again:
                self._again.discard(found.name)
                self._push(found.name)
            self._wake.set()

    async def _asked(self, work: _Work, question: Callable[[], T]) -> T:
        """Ask the file system in a thread, and tell where it does not answer."""
        future = asyncio.get_running_loop().run_in_executor(work.pool, question)
        while True:
            done, _ = await asyncio.wait({future}, timeout=_HUNG_S)
            if done:
                return future.result()
            sentence = "the folder does not answer; check the drive and the network"
            work.line.board.set("source", self.name, FAILING, sentence)

    def _note(self, line: Line, problem: str) -> None:
        """Note whether judged files can be moved or deleted."""
        if not problem and not self._stuck:
            return
        self._stuck = problem and f"a judged file cannot be {self._config.judged}d ({problem}); correct the rights"
        self._stuck_until = time.monotonic() + _STUCK_S if problem else 0.0
        self._tell(line)

    def _tell(self, line: Line) -> None:
        """Put the state of the source on the board."""
        closed = self._closed and f"a sub-folder cannot be searched ({self._closed}); correct its rights"
        wrong = self._stuck or closed
        line.board.set("source", self.name, FAILING if wrong else WORKING, wrong or self._remark())
        waiting = len(self._queue) + len(self._ready) + len(self._growing)
        line.board.count("source", self.name, waiting=waiting, judging=len(self._flying))

    def _remark(self) -> str:
        """Say what is worth knowing where all is well."""
        moment = time.monotonic()
        if any(moment - growing.first > _LONG_S for growing in self._growing.values()):
            return "a file is being written for more than a minute"
        return self._blind


class _Work:
    """Objects that one run of a source has at hand."""

    def __init__(self, line: Line, looker: Looker, pool: ThreadPoolExecutor, disposing: ThreadPoolExecutor) -> None:
        self.line = line
        self.looker = looker
        self.pool = pool
        self.disposing = disposing


async def check(config: FolderConfig) -> str:
    """Try the folder and say what is there.

    Raises:
        PadimEdgeError: It cannot be used.
    """
    FolderSource(config)

    def images() -> int:
        from padim_edge_line.sources.naming import listed

        found = listed(config.path, lambda _: set(), _MOST, deep=config.subfolders)
        if config.judged != "keep" and not os.access(config.path, os.W_OK | os.X_OK):
            raise PermissionError(13, "judged files could not be removed from it")
        if config.judged == "move":
            assert config.move_to is not None
            config.move_to.mkdir(parents=True, exist_ok=True)
            if not os.access(config.move_to, os.W_OK | os.X_OK):
                raise PermissionError(13, "judged files could not be moved to `move_to`")
        return len(found.names)

    try:
        count = await asyncio.wait_for(asyncio.to_thread(images), _HUNG_S)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PadimEdgeError(
            f"the folder of source {config.name} cannot be used ({reason}); correct `path` or the rights"
        ) from error
    except asyncio.TimeoutError:
        raise PadimEdgeError(
            f"the folder of source {config.name} does not answer; check the drive and the network"
        ) from None
    return f"{'at least ' if count == _MOST else ''}{count} image{'' if count == 1 else 's'} in the folder"


def _check_move_to(config: FolderConfig) -> None:
    if config.move_to is None:
        raise PadimEdgeError(
            f'source {config.name} has `judged = "move"` without `move_to`; name the folder to move to'
        )
    target, path = Path(os.path.realpath(config.move_to)), Path(os.path.realpath(config.path))
    if target == path or path in target.parents:
        raise PadimEdgeError(
            f"source {config.name} moves judged files into the watched folder; name a `move_to` beside `path`"
        )
