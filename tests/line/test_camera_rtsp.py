"""RTSP from a real server (GStreamer's), with a password: frames come, are fresh, and come again after a loss."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from line.lines import config_of, eventually, running

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import CameraConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.line import Line
from padim_edge_line.sources import camera, check
from padim_edge_line.sources.camera import CameraSource

PYTHON = "/usr/bin/python3"
"""The system's interpreter, which has GStreamer's bindings where Debian's packages are installed."""

SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "user")
auth.add_basic(GstRtspServer.RTSPAuth.make_basic("bob", "s3cret"), token)
server.set_auth(auth)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch(
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=128,height=96,framerate=25/1 "
    "! vp8enc deadline=1 keyframe-max-dist=5 ! rtpvp8pay name=pay0 pt=96 )"
)
permissions = GstRtspServer.RTSPPermissions()
permissions.add_permission_for_role("user", "media.factory.access", True)
permissions.add_permission_for_role("user", "media.factory.construct", True)
factory.set_permissions(permissions)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""

pytestmark = pytest.mark.slow


@contextmanager
def served(port: int = 0) -> Iterator[int]:
    if shutil.which(PYTHON) is None:
        pytest.skip(f"needs {PYTHON} with GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi)")
    command = [PYTHON, "-c", SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0, python3-gi)")
            yield int(told)
        finally:
            process.kill()


def state(line: Line) -> tuple[str, str]:
    found = [part for part in line.board.parts() if part.kind == "source"]
    return (found[0].state, found[0].sentence) if found else ("", "")


def test_a_stream_with_a_password_is_judged_triggered_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)

    async def main() -> None:
        with ExitStack() as first:
            port = first.enter_context(served())
            config = CameraConfig(name="cam", url=f"rtsp://bob:s3cret@127.0.0.1:{port}/live", trigger="software")
            assert "s3cret" not in await check(config)
            source = CameraSource(config)
            async with running(config_of(tmp_path), {"cam": source}) as line:
                task = asyncio.create_task(source.run(line))
                try:
                    await eventually(lambda: state(line)[0] == WORKING)
                    rows = [await line.trigger("cam", f"P{number}") for number in range(5)]
                    assert [row.part for row in rows] == [f"P{number}" for number in range(5)]
                    assert {(row.width, row.height) for row in rows} == {(128, 96)}
                    assert len({row.score for row in rows}) > 1, "the ball has moved from frame to frame"
                    first.close()
                    await eventually(lambda: state(line)[0] == FAILING)
                    assert "s3cret" not in state(line)[1]
                    with served(port):
                        await eventually(lambda: state(line)[0] == WORKING)
                        assert (await line.trigger("cam", "again")).part == "again"
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert "s3cret" not in caplog.text


def test_a_wrong_password_is_told_and_not_shown() -> None:
    async def main() -> None:
        with served() as port:
            config = CameraConfig(name="cam", url=f"rtsp://bob:wr0ng@127.0.0.1:{port}/live")
            with pytest.raises(PadimEdgeError) as caught:
                await check(config)
            assert "wr0ng" not in str(caught.value)

    asyncio.run(main())
