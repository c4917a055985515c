"""Work ahead in threads: in order, bounded, errors in their turn, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from padim_edge_artifact import DeviceError, ImageError
from padim_edge_runtime.prefetch import decoded, in_order

PATIENCE = 10.0
"""Seconds until a test that waits for another thread fails."""


def test_order_is_kept_whatever_finishes_first() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.01 if number % 2 == 0 else 0)
        return number * number

    assert list(in_order(slow_when_even, range(30), workers=4)) == [n * n for n in range(30)]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_every_item_comes_once_also_with_fewer_items_than_places(count: int) -> None:
    assert list(in_order(str, range(count), ahead=8)) == [str(n) for n in range(count)]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_at_most_so_many_items_are_taken_ahead(ahead: int) -> None:
    """So the memory is bounded, however slowly the results are used and however long the list is."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = in_order(lambda n: n, endless(), ahead=ahead)
    for used in range(1, 40):
        assert next(results) == used
        assert taken - (used - 1) <= ahead
    results.close()


def test_two_workers_do_overlap() -> None:
    meeting = threading.Barrier(2)
    assert len(list(in_order(lambda _: meeting.wait(PATIENCE), range(4), workers=2))) == 4


def test_one_worker_does_not() -> None:
    """Images are drawn by one thread, in their order."""
    busy = threading.Lock()

    def alone(number: int) -> int:
        assert busy.acquire(blocking=False)
        time.sleep(0.002)
        busy.release()
        return number

    assert list(in_order(alone, range(10), workers=1)) == list(range(10))


def test_an_exception_comes_in_its_items_turn() -> None:
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        time.sleep(0.01)
        return number

    results = in_order(fail_at_three, range(100), workers=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_an_exception_of_the_list_itself_comes_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("list")

    with pytest.raises(KeyError, match="list"):
        list(in_order(str, items()))


def test_leaving_early_drops_what_has_not_begun_and_ends_the_threads() -> None:
    begun: list[int] = []
    released = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            released.wait(PATIENCE)
        return number

    threads = threading.active_count()
    results = in_order(work, range(100), workers=1, ahead=8)
    assert next(results) == 0
    threading.Timer(0.1, released.set).start()  # close waits for the one that has begun
    results.close()
    assert begun in ([0], [0, 1])
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_an_image_that_cannot_be_read_comes_as_a_value_in_its_place() -> None:
    def decode(number: int) -> str:
        if number % 3 == 0:
            raise ImageError(f"{number} is no image")
        return str(number)

    found = list(decoded(range(10), decode, ahead=4))
    assert [item for item, _ in found] == list(range(10))
    for number, result in found:
        assert str(result) == (f"{number} is no image" if number % 3 == 0 else str(number))
        assert isinstance(result, ImageError) == (number % 3 == 0)


def test_any_other_exception_of_decoding_is_raised_in_its_turn() -> None:
    def decode(number: int) -> int:
        if number == 2:
            raise DeviceError("gone")
        return number

    results = decoded(range(10), decode)
    assert [next(results), next(results)] == [(0, 0), (1, 1)]
    with pytest.raises(DeviceError, match="gone"):
        next(results)


def test_decoding_takes_an_endless_list_in_bounded_steps() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = decoded(endless(), str, ahead=3)
    assert next(results) == (1, "1")
    assert taken == 3
    results.close()
