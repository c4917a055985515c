"""One PLC and the line: runs its orders, watches their time, and keeps the heartbeat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.config import ModbusConfig, OpcUaConfig
from padim_edge_line.errors import BusyError, LaterError, StoppingError
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.plc import Order, Reason, State, ask, expire, following, judge, part_of, refuse
from padim_edge_line.plc_registers import Status

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["BEATS", "MOST_RUNNING", "PATIENCE", "Exchange"]

BEATS = 4
"""Changes of the heartbeat in one period, so that a busy processor does not look like a dead one."""

MOST_RUNNING = 4
"""Number of orders that may be worked on at the same time, abandoned ones included."""

PATIENCE = 10
"""Multiple of the time limit after which nobody waits for an overdue order any more, and the next trigger is tried."""

_log = logging.getLogger(__name__)


class Exchange:
    """The handshake of one PLC with the line. All calls come from the event loop."""

    def __init__(self, line: Line, config: OpcUaConfig | ModbusConfig, changed: Callable[[], object]) -> None:
        self._line = line
        self._config = config
        self._changed = changed
        self._state = State()
        self._running: dict[asyncio.Task[None], Order] = {}
        self._heartbeat = 0
        self._wanted: str | None = None
        self._change: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Keep the heartbeat until it is cancelled. Then the orders are cancelled, too."""
        try:
            while True:
                self._look()
                await asyncio.sleep(self._config.heartbeat_s / BEATS)
        finally:
            left = [*self._running, *([self._change] if self._change else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def request(self, number: int, part: bytes) -> None:
        """Take what the PLC wrote: a trigger number, and the part id that stood there at this moment."""
        now = time.monotonic()
        found = part_of(part)
        before = self._state.orders
        self._put(ask(self._state, number, found or "", now=now, timeout_s=self._config.timeout_s))
        order = self._state.order
        if order is None or self._state.orders == before:
            return
        refusal = self._refusal(found, now)
        if refusal is not Reason.NONE:
            self._put(refuse(self._state, order, refusal, now=now))
            return
        task = asyncio.create_task(self._work(order))
        self._running[task] = order
        task.add_done_callback(self._done)
        asyncio.get_running_loop().call_later(self._config.timeout_s, self._expire)

    def choose(self, place: int) -> bool:
        """Change the product to the one at this place, from 1. Nothing is triggered before that is done.

        Returns:
            Whether there is such a product; 0 is none, and changes nothing.
        """
        names = self._line.products.names
        if not 0 <= place <= len(names):
            return False
        if place and (self._change or self._line.products.active != names[place - 1]):
            self._wanted = names[place - 1]
            if self._change is None:
                self._change = asyncio.create_task(self._choose())
        return True

    def status(self) -> Status:
        """Return what the PLC reads at this moment."""
        self._expire()
        state = self._state
        names, active = self._line.products.names, self._line.products.active
        row = state.answer.row
        return Status(
            heartbeat=self._heartbeat,
            ready=self._ready(time.monotonic()),
            busy=state.order is not None,
            answer=state.answer,
            answer_product=_place(names, row.product) if row else 0,
            product=_place(names, active),
            products=len(names),
            product_name=active,
            orders=state.orders,
            good=state.good,
            rejected=state.rejected,
        )

    def _refusal(self, part: str | None, now: float) -> Reason:
        if not self._ready(now):
            return Reason.NOT_READY
        if part is None:
            return Reason.WRONG_PART
        return Reason.OVERRUN if len(self._running) >= MOST_RUNNING else Reason.NONE

    def _ready(self, now: float) -> bool:
        """Tell whether a trigger would be worked on."""
        source = ("source", self._config.source)
        return (
            self._alive(now)
            and self._change is None
            and any((part.kind, part.name) == source and part.state == WORKING for part in self._line.board.parts())
        )

    def _alive(self, now: float) -> bool:
        """Tell whether images are judged and recorded, and triggers are worked on in time."""
        return self._line.board.ready() and not self._overdue(now)

    def _overdue(self, now: float) -> bool:
        """Tell whether an order is being worked on although its time is over: the camera or the judging hangs."""
        return any(now >= order.deadline for order in self._running.values())

    def _look(self) -> None:
        """Beat if the service can judge, and stop waiting for orders that hang for long."""
        self._expire()
        now = time.monotonic()
        for task, order in self._running.items():
            if now - order.start > PATIENCE * self._config.timeout_s:
                task.cancel()
        if self._alive(now):
            self._heartbeat = following(self._heartbeat)
        hangs = self._overdue(now)
        sentence = "The last trigger has not been worked on in time; look at the state of its source." if hangs else ""
        self._line.board.set("sink", self._config.name, FAILING if hangs else WORKING, sentence)
        self._changed()

    def _expire(self) -> None:
        self._put(expire(self._state, now=time.monotonic()))

    async def _work(self, order: Order) -> None:
        try:
            row = await self._line.trigger(self._config.source, order.part or None)
        except BusyError:
            self._refuse(order, Reason.OVERRUN)
        except StoppingError:
            self._refuse(order, Reason.NOT_READY)
        except LaterError:
            self._refuse(order, Reason.FAILED)
        except PadimEdgeError:
            self._refuse(order, Reason.NO_IMAGE)
        except Exception as error:  # noqa: BLE001 - whatever it is, the part is rejected
            self._refuse(order, Reason.FAILED)
            _log.error("%s: a trigger failed: %s", self._config.name, type(error).__name__)
        else:
            self._put(judge(self._state, order, row, now=time.monotonic()))

    def _refuse(self, order: Order, reason: Reason) -> None:
        self._put(refuse(self._state, order, reason, now=time.monotonic()))

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]

    async def _choose(self) -> None:
        try:
            while self._wanted is not None:
                name, self._wanted = self._wanted, None
                try:
                    await self._line.choose(name)
                except PadimEdgeError as error:
                    _log.warning("%s: the product was not changed: %s", self._config.name, error)
        finally:
            self._change = None
            self._changed()

    def _put(self, state: State) -> None:
        if state is self._state:
            return
        self._state = state
        counts = {"triggers": state.orders, "good": state.good, "rejected": state.rejected}
        self._line.board.count("sink", self._config.name, **counts)
        self._changed()


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) + 1 if name in names else 0
