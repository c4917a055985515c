"""The handshake with a PLC as a pure state machine. Time comes in as an argument; nothing here waits or sends.

The PLC writes the id of the part, then a trigger number. In one step the result before is cleared and the order begins.
The answer, with the number and the part it belongs to, appears in one step, too, so no answer of an earlier order can
ever be seen under a later number. Only a good verdict gives `Result.GOOD`; all that goes wrong gives `Result.REJECT`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from padim_edge_line.row import FAILED, Row
from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE, UNREADABLE

__all__ = [
    "HIGHEST",
    "NO_ANSWER",
    "PART_BYTES",
    "Answer",
    "Order",
    "Reason",
    "Result",
    "State",
    "ask",
    "expire",
    "following",
    "judge",
    "part_of",
    "reason_of",
    "refuse",
]

HIGHEST = 65535
"""Highest trigger number and highest value of the heartbeat. 1 follows it."""

PART_BYTES = 64
"""Largest size of a part id in UTF-8."""


class Result(IntEnum):
    """Decision on a part."""

    NONE = 0
    """No decision yet."""
    GOOD = 1
    """The part is good."""
    REJECT = 2
    """The part is not good, or nobody knows."""


class Reason(IntEnum):
    """Reason for a decision."""

    NONE = 0
    """No reason: the part is good, or there is no decision yet."""
    ANOMALOUS = 1
    """The image is anomalous."""
    NOT_COMPARABLE = 2
    """The image is not comparable with the good ones, for instance too dark."""
    UNREADABLE = 3
    """The image cannot be read."""
    FAILED = 4
    """The device could not judge the image."""
    TIMEOUT = 5
    """There was no row in time."""
    NOT_READY = 6
    """The service was not ready when the trigger came."""
    OVERRUN = 7
    """Too many earlier triggers are still being worked on."""
    WRONG_PART = 8
    """The part id is too long, not UTF-8, or not printable."""
    NO_IMAGE = 9
    """The source could not take an image."""


_REASONS = {
    GOOD: Reason.NONE,
    ANOMALOUS: Reason.ANOMALOUS,
    NOT_COMPARABLE: Reason.NOT_COMPARABLE,
    UNREADABLE: Reason.UNREADABLE,
    FAILED: Reason.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One trigger of the PLC."""

    serial: int
    """Number of the order since the start. A PLC may use a trigger number again, never a serial."""
    number: int
    """Trigger number of the PLC."""
    part: str
    """Part id; blank where the PLC gave none."""
    start: float
    """Time of the trigger in seconds."""
    deadline: float
    """Time in seconds from which on the answer is REJECT."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer to one order. A PLC reads the whole of it, or `NO_ANSWER`."""

    number: int = 0
    """Trigger number that this answers; 0 without an answer."""
    result: Result = Result.NONE
    """The decision."""
    reason: Reason = Reason.NONE
    """The reason for it."""
    part: str = ""
    """Part id of the order."""
    row: Row | None = None
    """Durable row of the record; `None` where there is none."""
    latency_ms: float = 0.0
    """Milliseconds from the trigger to the answer."""


NO_ANSWER = Answer()
"""The answer while there is none."""


@dataclass(frozen=True, kw_only=True)
class State:
    """State of the handshake."""

    trigger: int = 0
    """Number that the PLC wrote last."""
    order: Order | None = None
    """Order that has no answer yet: the service is busy."""
    answer: Answer = NO_ANSWER
    """Answer to the order of `trigger`."""
    orders: int = 0
    """Number of orders since the start."""
    good: int = 0
    """Number of orders that were answered GOOD."""
    rejected: int = 0
    """Number of orders that were answered REJECT."""


def following(number: int) -> int:
    """Return the number after this one: 1 after `HIGHEST`, for triggers and for the heartbeat."""
    return number % HIGHEST + 1


def ask(state: State, number: int, part: str, *, now: float, timeout_s: float) -> State:
    """Take a trigger number that the PLC wrote.

    The same number again changes nothing: a PLC may write it in each cycle. Any other number clears the answer and
    abandons the order before, whose row is recorded but never shown. 0 only clears.
    """
    if number == state.trigger:
        return state
    state = replace(state, trigger=number, order=None, answer=NO_ANSWER)
    if number == 0:
        return state
    serial = state.orders + 1
    order = Order(serial=serial, number=number, part=part, start=now, deadline=now + timeout_s)
    return replace(state, order=order, orders=serial)


def judge(state: State, order: Order, row: Row, *, now: float) -> State:
    """Take the durable row of an order. A late one, or one of an abandoned order, changes nothing."""
    reason = reason_of(row) if (row.part or "") == order.part else Reason.FAILED
    return _answered(state, order, now=now, reason=reason, row=row)


def refuse(state: State, order: Order, reason: Reason, *, now: float) -> State:
    """Answer an order with REJECT."""
    assert reason is not Reason.NONE
    return _answered(state, order, now=now, reason=reason, row=None)


def expire(state: State, *, now: float) -> State:
    """Answer the order with REJECT if its time is over."""
    order = state.order
    if order is None or now < order.deadline:
        return state
    return _settled(state, order, now=now, reason=Reason.TIMEOUT, row=None)


def reason_of(row: Row) -> Reason:
    """Return the reason for the verdict of a row: `Reason.NONE` for a good one only."""
    return _REASONS.get(row.verdict, Reason.FAILED)


def part_of(content: bytes) -> str | None:
    """Read a part id as a PLC writes it: UTF-8 up to the first zero, without blanks around it.

    Returns:
        The part id, blank if there is none; `None` if it is too long, not UTF-8, or not printable.
    """
    content = content.split(b"\0", 1)[0].strip(b" ")
    try:
        part = content.decode()
    except UnicodeDecodeError:
        return None
    return part if len(content) <= PART_BYTES and part.isprintable() else None


def _answered(state: State, order: Order, *, now: float, reason: Reason, row: Row | None) -> State:
    state = expire(state, now=now)
    if state.order is None or state.order.serial != order.serial:
        return state
    return _settled(state, order, now=now, reason=reason, row=row)


def _settled(state: State, order: Order, *, now: float, reason: Reason, row: Row | None) -> State:
    good = reason is Reason.NONE
    answer = Answer(
        number=order.number,
        result=Result.GOOD if good else Result.REJECT,
        reason=reason,
        part=order.part,
        row=row,
        latency_ms=1000 * (now - order.start),
    )
    return replace(
        state, order=None, answer=answer, good=state.good + int(good), rejected=state.rejected + int(not good)
    )
