"""JSON lines on stdout, to readers that read, sleep, and go away."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from line.sink_line import SinkLine, drive, running, soon, told

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import StdoutConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.sinks import check, sink_of
from padim_edge_line.sinks.stdout import StdoutSink


def test_rows_since_the_start_are_written_in_order(tmp_path: Path) -> None:
    ends = os.pipe()

    async def test(line: SinkLine) -> None:
        await line.add(3)
        async with running(line, StdoutSink(StdoutConfig(), ends[1])):
            await soon(lambda: line.health("stdout").state == WORKING)
            rows = await line.add(5, part="ä1")
            found = b""
            while found.count(b"\n") < 5:
                found += await asyncio.to_thread(os.read, ends[0], 65536)
            assert [json.loads(each) for each in found.splitlines()] == [told(row) for row in rows]

    try:
        drive(tmp_path, test)
    finally:
        for end in ends:
            os.close(end)


def test_a_reader_that_goes_away_stops_only_this_sink(tmp_path: Path) -> None:
    ends = os.pipe()

    async def test(line: SinkLine) -> None:
        async with running(line, StdoutSink(StdoutConfig(), ends[1])) as sinks:
            await soon(lambda: line.health("stdout").state == WORKING)
            os.close(ends[0])
            await line.add(1)
            await soon(lambda: line.health("stdout").state == FAILING)
            assert "no more lines" in line.health("stdout").sentence
            await line.add(1)
            assert not sinks.tasks[0].done()  # it would be started again if it ended

    try:
        drive(tmp_path, test)
    finally:
        os.close(ends[1])


def test_a_reader_that_sleeps_holds_up_nothing(tmp_path: Path) -> None:
    """The pipe is full after 64 kB; the event loop goes on, and so does the end of the service."""
    ends = os.pipe()

    async def test(line: SinkLine) -> None:
        async with running(line, StdoutSink(StdoutConfig(), ends[1])):
            await soon(lambda: line.health("stdout").state == WORKING)
            await line.add(400)
            await asyncio.wait_for(asyncio.sleep(0.2), 10)
        await asyncio.to_thread(os.read, ends[0], 2**20)  # lets the thread end

    try:
        drive(tmp_path, test)
    finally:
        for end in ends:
            os.close(end)


def test_a_closed_stdout_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)

    async def test(line: SinkLine) -> None:
        async with running(line, sink_of(StdoutConfig(), "line")):
            await soon(lambda: line.health("stdout").state == FAILING)
            assert "stdout is closed" in line.health("stdout").sentence
        with pytest.raises(PadimEdgeError, match="stdout is closed"):
            await check(StdoutConfig())

    drive(tmp_path, test)
