"""Video files and streams through PyAV: no frame of a file is left out or judged twice, streams come back.

The stream is MPEG-TS over HTTP, served from here; `test_camera_rtsp` has RTSP.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import videos
from line.cameras import seeing
from line.lines import eventually

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import CameraConfig
from padim_edge_line.health import FAILING, WORKING, Health
from padim_edge_line.line import Line
from padim_edge_line.row import Row
from padim_edge_line.sources import camera, check
from padim_edge_line.sources.av_camera import AvCamera, _Clock


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)


def rows(line: Line) -> list[Row]:
    return list(line.record.reader().rows())


def state(line: Line) -> Health:
    found = [part for part in line.board.parts() if part.kind == "source"]
    return found[0] if found else Health("source", "cam")


def test_each_frame_of_a_file_has_one_row_in_order_also_after_a_restart(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "video.mp4", count=40)
    config = CameraConfig(name="cam", url=str(path))

    async def main() -> None:
        async with seeing(tmp_path, config) as (line, _, _):
            await eventually(lambda: len(rows(line)) >= 10)
        async with seeing(tmp_path, config) as (line, _, task):
            await asyncio.wait_for(task, 30)
            assert [row.name for row in rows(line)] == [f"frame {number}" for number in range(1, 41)]
            assert (state(line).state, state(line).sentence) == (WORKING, "the video has ended")
            assert (state(line).counts["frames"], state(line).counts["dropped"]) == (40, 0)

    asyncio.run(main())


def test_a_trigger_takes_the_next_frame_of_a_file(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "video.mp4", count=3)

    async def main() -> None:
        config = CameraConfig(name="cam", url=str(path), trigger="software")
        async with seeing(tmp_path, config) as (line, _, task):
            await eventually(lambda: state(line).state == WORKING)
            found = [await line.trigger("cam", str(number)) for number in range(3)]
            assert [(row.part, row.name) for row in found] == [(str(n), f"frame {n + 1}") for n in range(3)]
            with pytest.raises(PadimEdgeError, match="ended"):
                await line.trigger("cam", "3")
            await asyncio.wait_for(task, 30)

    asyncio.run(main())


def test_the_pixels_of_a_file_arrive_as_they_are(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "video.mp4", count=10)
    found = AvCamera(str(path), {"threads": 1})
    found.open()
    try:
        numbers = []
        while (frame := found.grab()) is not None:
            import numpy as np

            numbers.append(videos.number_of(np.asarray(frame)))
        assert numbers == list(range(10))
    finally:
        found.close()


def test_a_file_at_its_own_speed_drops_frames_like_a_camera(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "video.mp4", count=30)

    async def main() -> None:
        start = time.monotonic()
        config = CameraConfig(name="cam", url=str(path), every_s=0.2, options={"realtime": True})
        async with seeing(tmp_path, config) as (line, _, task):
            await asyncio.wait_for(task, 30)
            assert time.monotonic() - start > 1.1
            assert 2 <= len(rows(line)) <= 8
            assert state(line).counts["dropped"] > 20

    asyncio.run(main())


@contextmanager
def served(path: Path, seen: list[str]) -> Iterator[int]:
    """Serve an MPEG-TS file over HTTP at the pace of a camera, to one client at a time, then hang up."""
    content = path.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                with client:
                    try:
                        seen.append(client.recv(4096).decode())
                        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
                        for start in range(0, len(content), 188 * 20):
                            client.sendall(content[start : start + 188 * 20])
                            if over.wait(0.005):
                                return
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_stream_comes_back_and_its_password_stays_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = videos.write(tmp_path / "video.ts", "mpeg4", count=100)
    seen: list[str] = []

    async def main() -> None:
        with served(path, seen) as port:
            url = f"http://bob:s3cret@127.0.0.1:{port}/live?key=abcdef"
            async with seeing(tmp_path, CameraConfig(name="cam", url=url)) as (line, _, _):
                await eventually(lambda: len(seen) >= 3 and len(rows(line)) > 3)
                names = [row.name for row in rows(line)]
                assert len(names) == len(set(names))
        await eventually_failing(tmp_path, url)

    async def eventually_failing(folder: Path, url: str) -> None:
        with pytest.raises(PadimEdgeError) as caught:
            await check(CameraConfig(name="cam", url=url))
        async with seeing(folder, CameraConfig(name="cam", url=url)) as (line, _, _):
            await eventually(lambda: state(line).state == FAILING)
            texts = (state(line).sentence, str(caught.value), caplog.text)
            assert not any(secret in text for text in texts for secret in ("s3cret", "abcdef", "bob"))

    asyncio.run(main())
    assert "GET /live?key=abcdef" in "".join(seen)


def test_frames_from_a_queue_are_known_by_their_age() -> None:
    clock = _Clock()
    assert clock.ours(10.0, 1000.0) == 1000.0
    assert clock.ours(10.1, 1000.5) == pytest.approx(1000.1)  # it waited for 0.4 s
    assert clock.ours(11.0, 1000.9) == pytest.approx(1000.9)  # the best so far
    assert clock.ours(11.2, 1001.2) == pytest.approx(1001.1)


def test_a_clock_that_drifts_is_followed() -> None:
    clock = _Clock()
    for second in range(1000):  # 1 % slow
        found = clock.ours(0.99 * second, float(second))
    assert found > 998


def test_a_camera_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(PadimEdgeError, match="source cam gives no frames: No such file or directory"):
        asyncio.run(check(CameraConfig(name="cam", url="/dev/video99")))
