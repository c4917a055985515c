"""Laws of the handshake with a PLC, over every order of events."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from line.plc_line import row

from padim_edge_line.plc import (
    HIGHEST,
    NO_ANSWER,
    PART_BYTES,
    Answer,
    Order,
    Reason,
    Result,
    State,
    ask,
    expire,
    following,
    judge,
    part_of,
    refuse,
)
from padim_edge_line.plc_registers import STATUS_COUNT, Status, status_bytes
from padim_edge_line.row import VERDICTS

LIMIT = 2.0

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.sampled_from(["A", "B", ""])),
        st.tuples(st.just("judge"), st.integers(0, 5), st.sampled_from([*VERDICTS, "unheard of"])),
        st.tuples(st.just("mix up"), st.integers(0, 5), st.just("good")),
        st.tuples(st.just("refuse"), st.integers(0, 5), st.sampled_from([each for each in Reason if each])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 1.0, LIMIT]), st.none()),
    ),
    max_size=40,
)


@dataclass
class Story:
    """All that happened so far, as somebody who sees everything knows it."""

    state: State = field(default_factory=State)
    now: float = 0.0
    orders: tuple[Order, ...] = ()
    good: frozenset[int] = frozenset()
    """Serials of the orders whose own row was good and came in time, while they were the last."""

    def happens(self, event: tuple) -> None:
        kind, first, second = event
        if kind == "wait":
            self.now += first
            self.state = expire(self.state, now=self.now)
        elif kind == "ask":
            before = self.state
            self.state = ask(before, first, second, now=self.now, timeout_s=LIMIT)
            if self.state.orders > before.orders:
                self.orders += (self.state.order,)
        elif self.orders:
            order = self.orders[-1 - first % len(self.orders)]
            if kind == "refuse":
                self.state = refuse(self.state, order, second, now=self.now)
                return
            part = f"not {order.part}" if kind == "mix up" else order.part
            if kind == "judge" and second == "good" and order == self.state.order and self.now < order.deadline:
                self.good |= {order.serial}
            self.state = judge(self.state, order, row(part or None, verdict=second), now=self.now)


@given(EVENTS)
def test_good_is_seen_with_the_number_and_the_part_of_a_good_row_only(events: list[tuple]) -> None:
    story = Story()
    for event in events:
        story.happens(event)
        answer = story.state.answer
        if answer.result is Result.GOOD:
            last = story.orders[-1]
            assert last.serial in story.good
            assert (
                (answer.number, answer.part) == (last.number, last.part) == (story.state.trigger, answer.row.part or "")
            )
            assert answer.reason is Reason.NONE


@given(EVENTS)
def test_an_answer_never_changes_until_the_plc_writes_another_number(events: list[tuple]) -> None:
    story = Story()
    for event in events:
        before = story.state
        story.happens(event)
        if before.answer.number and story.state.trigger == before.trigger:
            assert story.state.answer is before.answer


@given(EVENTS)
def test_the_service_is_busy_or_has_answered_or_was_not_asked(events: list[tuple]) -> None:
    story = Story()
    for event in events:
        story.happens(event)
        state = story.state
        if state.order is not None:
            assert state.answer is NO_ANSWER
            assert state.order.number == state.trigger
            assert story.now < state.order.deadline
        elif state.trigger:
            assert state.answer.number == state.trigger
            assert state.answer.result in (Result.GOOD, Result.REJECT)
        else:
            assert state.answer is NO_ANSWER
        assert state.good + state.rejected <= state.orders


@given(EVENTS, st.lists(st.integers(0, 8), min_size=3, max_size=3), st.permutations(["result", "number", "part"]))
def test_who_reads_one_by_one_in_any_order_sees_no_stale_good(events: list, gaps: list[int], fields: list[str]) -> None:
    """The PLC writes a new number, then reads three nodes, with anything but its own writing in between."""
    story = Story()
    for event in events[:20]:
        story.happens(event)
    number = following(story.state.trigger)
    story.happens(("ask", number, "mine"))
    rest = iter([event for event in events[20:] if event[0] != "ask"])
    seen = {}
    for name, gap in zip(fields, gaps, strict=True):
        for _ in range(gap):
            story.happens(next(rest, ("wait", 0.0, None)))
        seen[name] = getattr(story.state.answer, name)
    if seen == {"result": Result.GOOD, "number": number, "part": "mine"}:
        assert story.orders[-1].serial in story.good


@given(EVENTS)
def test_every_order_is_answered_when_its_time_is_over(events: list[tuple]) -> None:
    story = Story()
    for event in [*events, ("ask", 9, "A"), ("wait", LIMIT, None)]:
        story.happens(event)
    assert story.state.answer.number == 9
    assert (story.state.answer.result, story.state.answer.reason) == (Result.REJECT, Reason.TIMEOUT)
    late = judge(story.state, story.orders[-1], row("A", verdict="good"), now=story.now)
    assert late is story.state


def test_a_row_at_the_deadline_is_too_late_even_if_nobody_has_looked_at_the_clock() -> None:
    state = ask(State(), 1, "A", now=0, timeout_s=LIMIT)
    assert judge(state, state.order, row("A", verdict="good"), now=LIMIT).answer.reason is Reason.TIMEOUT


def test_the_row_of_an_abandoned_order_is_not_shown_for_the_same_number_used_again() -> None:
    state = ask(State(), 5, "A", now=0, timeout_s=LIMIT)
    first = state.order
    state = ask(ask(state, 0, "A", now=0, timeout_s=LIMIT), 5, "A", now=0, timeout_s=LIMIT)
    assert judge(state, first, row("A", verdict="good"), now=0) is state


def test_a_row_of_another_part_rejects() -> None:
    state = ask(State(), 5, "A", now=0, timeout_s=LIMIT)
    for part in ("B", None):
        answer = judge(state, state.order, row(part, verdict="good"), now=0).answer
        assert (answer.result, answer.reason, answer.part) == (Result.REJECT, Reason.FAILED, "A")


def test_each_verdict_has_its_reason_and_only_a_good_one_is_good() -> None:
    found = {}
    for verdict in (*VERDICTS, "of a later version"):
        state = ask(State(), 1, "", now=0, timeout_s=LIMIT)
        answer = judge(state, state.order, row(None, verdict=verdict), now=0).answer
        found[verdict] = (answer.result, answer.reason)
    assert found == {
        "good": (Result.GOOD, Reason.NONE),
        "anomalous": (Result.REJECT, Reason.ANOMALOUS),
        "not comparable": (Result.REJECT, Reason.NOT_COMPARABLE),
        "unreadable": (Result.REJECT, Reason.UNREADABLE),
        "failed": (Result.REJECT, Reason.FAILED),
        "of a later version": (Result.REJECT, Reason.FAILED),
    }


def test_numbers_go_round_and_leave_zero_out() -> None:
    assert (following(0), following(1), following(HIGHEST)) == (1, 2, 1)


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_a_part_id_is_text_that_can_be_written_back_or_it_is_none(content: bytes) -> None:
    part = part_of(content)
    if part is not None:
        assert part.isprintable()
        assert part.encode() == content.split(b"\0")[0].strip(b" ")
        assert len(part.encode()) <= PART_BYTES


def test_what_stands_behind_the_first_zero_belongs_to_an_earlier_part_id() -> None:
    assert part_of(b"AB\0CDE") == "AB"
    assert part_of(bytes(64)) == ""
    assert part_of(b"A\nB") is None
    assert part_of("ä".encode("latin-1")) is None
    assert part_of(b"x" * 65) is None


@given(
    st.floats() | st.none(),
    st.integers(1, 2**40),
    st.text(st.characters(codec="utf-8"), max_size=16),
    st.integers(0, 2**40),
)
def test_every_status_fits_into_its_registers(score: float | None, seq: int, name: str, orders: int) -> None:
    found = replace(row("A" * PART_BYTES, seq=seq), score=score)
    answer = Answer(number=HIGHEST, result=Result.REJECT, reason=Reason.FAILED, part=found.part, row=found)
    status = Status(heartbeat=HIGHEST, ready=True, answer=answer, product_name=name * 4, orders=orders)
    block = status_bytes(status)
    assert len(block) == 2 * STATUS_COUNT
    assert struct.unpack_from(">HHHHHH", block) == (HIGHEST, 1, 0, HIGHEST, 2, 4)


def test_everything_is_zero_after_the_start() -> None:
    assert status_bytes(Status()) == bytes(2 * STATUS_COUNT)
