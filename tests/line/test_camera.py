"""Cameras: newest frame wins, faults of a driver cost that driver only, and a trigger never gets an old frame."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from line.cameras import seeing
from line.lines import eventually

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.arrival import Arrival
from padim_edge_line.config import CameraConfig
from padim_edge_line.health import FAILING, WORKING, Health
from padim_edge_line.line import Line
from padim_edge_line.row import Row
from padim_edge_line.sources import camera, check
from padim_edge_line.sources.camera import CameraSource

TESTS = Path(__file__).parent
EXAMPLES = Path(__file__).parents[2] / "examples" / "line"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="cameras need Linux or macOS")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(TESTS), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders).rstrip(os.pathsep))
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)


def faulty(options: dict[str, Any] | None = None, **values: Any) -> CameraConfig:
    return CameraConfig(name="cam", camera="faulty_camera:camera", options=options or {}, **{"url": "demo", **values})


def rows(line: Line) -> list[Row]:
    return list(line.record.reader().rows())


def state(line: Line) -> Health:
    (found,) = [part for part in line.board.parts() if part.kind == "source"]
    return found


async def state_is(line: Line, wanted: str, words: str = "") -> None:
    def found() -> bool:
        parts = [part for part in line.board.parts() if part.kind == "source"]
        return any(part.state == wanted and words in part.sentence for part in parts)

    await eventually(found)


def alive(log: Path) -> list[int]:
    """Ids of the camera's processes that still run."""
    found = []
    for number in {int(line.split()[0]) for line in log.read_text().splitlines()}:
        with suppress(ProcessLookupError):
            os.kill(number, 0)
            if "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]:
                found.append(number)
    return found


def test_frames_are_judged_and_those_nobody_has_time_for_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with seeing(tmp_path, faulty({"period": 0.001})) as (line, _, _):
            await eventually(lambda: len(rows(line)) >= 20)
            await eventually(lambda: state(line).counts.get("frames", 0) > 20)
            await eventually(lambda: state(line).counts.get("dropped", 0) > 0)
            numbers = [int(row.name.split()[1]) for row in rows(line)]
            assert numbers == sorted(set(numbers))
            assert state(line).state == WORKING
            assert rows(line)[0].width, rows(line)[0].height == (64, 48)

    asyncio.run(main())


def test_the_example_runs_and_keeps_its_pace(tmp_path: Path) -> None:
    async def main() -> None:
        config = CameraConfig(
            name="cam", camera="line_camera:camera", url="demo", every_s=0.2, options={"rate": 50, "width": 80}
        )
        assert (await check(config)).startswith("80 x 64, colour")
        async with seeing(tmp_path, config) as (line, _, _):
            await eventually(lambda: len(rows(line)) >= 3)
            times = [row.time for row in rows(line)]
            assert min(np.diff(times)) > 0.15e6

    asyncio.run(main())


def test_an_entry_point_names_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plant_camera-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plant-camera\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[padim_edge.cameras]\nplant = line_camera:camera\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"])))
    assert asyncio.run(check(CameraConfig(name="c", camera="plant", url="demo"))).startswith("64 x 64")
    with pytest.raises(PadimEdgeError, match="av, plant"):
        asyncio.run(check(CameraConfig(name="c", camera="plan", url="demo")))


@pytest.mark.parametrize("fault", ["crash", "hang", "deaf", "raise"])
def test_a_camera_that_fails_is_opened_again(tmp_path: Path, fault: str) -> None:
    async def main() -> None:
        log = tmp_path / "log"
        options = {"frames": 5, "then": fault, "log": str(log)}
        async with seeing(tmp_path, faulty(options, timeout_s=0.5)) as (line, _, _):
            await state_is(line, FAILING, "cable was pulled" if fault == "raise" else "")
            assert "/opt" not in state(line).sentence
            count = len(rows(line))
            await eventually(lambda: log.read_text().count("open") >= 3)
            await eventually(lambda: len(rows(line)) > count)
            names = [row.name for row in rows(line)]
            assert len(names) == len(set(names))
            assert len(alive(log)) <= 1
        assert not alive(log)

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_a_camera_that_cannot_be_opened_is_told_without_secrets(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("padim_edge_line.sources.camera_process._OPEN_S", 1.0)

    async def main() -> None:
        config = faulty(
            {"open": fault, "password": "hunter2"}, url="rtsp://bob:s3cret@camera/1", timeout_s=0.5, trigger="software"
        )
        async with seeing(tmp_path, config) as (line, _, _):
            await state_is(line, FAILING)
            with pytest.raises(PadimEdgeError, match="gives no frames") as caught:
                await line.trigger("cam", "part 1")
            for text in (state(line).sentence, str(caught.value), repr(caught.value)):
                assert not any(secret in text for secret in ("bob", "s3cret", "hunter2", "camera/1")), text

    asyncio.run(main())


def test_wrong_pixels_are_refused_in_a_sentence() -> None:
    with pytest.raises(PadimEdgeError, match="float32"):
        asyncio.run(check(faulty({"wrong": True})))


@pytest.mark.parametrize("options", [{"period": 0.05}, {"on_demand": True}, {"queue": 0.2}])
def test_a_trigger_gets_a_frame_from_after_it(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"

    async def main() -> None:
        async with seeing(tmp_path, faulty({**options, "log": str(log)}, trigger="software")) as (line, _, _):
            await state_is(line, WORKING)
            taken: list[Arrival] = []
            judge = line.judge

            async def noted(arrival: Arrival, *, wait: bool = True) -> Row:
                taken.append(arrival)
                return await judge(arrival, wait=wait)

            monkeypatch.setattr(line, "judge", noted)
            for number in range(5):
                await asyncio.sleep(0.07)
                before = log.read_text().count("frame")
                asked = time.monotonic()
                row = await line.trigger("cam", f"part {number}")
                assert row.part == f"part {number}"
                pixels = taken[-1].image
                assert isinstance(pixels, np.ndarray)
                # The frame that the camera was at when the trigger came does not count either.
                assert int(pixels[0, 0, 0]) > before
                if "queue" in options:
                    assert time.monotonic() - asked > 0.2
            assert len(rows(line)) == 5
            rest = log.read_text().count("frame")
            if "on_demand" in options:
                assert rest == 5

    asyncio.run(main())


def test_a_trigger_that_gives_up_does_not_disturb_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with seeing(tmp_path, faulty({"period": 0.1}, trigger="software")) as (line, _, _):
            await state_is(line, WORKING)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(line.trigger("cam", "gone"), 0.03)
            row = await line.trigger("cam", "next")
            assert (row.part, [each.part for each in rows(line)]) == ("next", ["next"])

    asyncio.run(main())


def test_triggers_at_the_same_time_get_a_frame_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with seeing(tmp_path, faulty(trigger="software")) as (line, _, _):
            await state_is(line, WORKING)
            found = await asyncio.gather(*(line.trigger("cam", str(number)) for number in range(6)))
            assert {row.part for row in found} == {str(number) for number in range(6)}
            assert len({row.name for row in found}) == 6

    asyncio.run(main())


def test_a_camera_that_judges_by_itself_cannot_be_triggered(tmp_path: Path) -> None:
    async def main() -> None:
        async with seeing(tmp_path, faulty()) as (line, _, _):
            with pytest.raises(PadimEdgeError, match="software"):
                await line.trigger("cam", None)

    asyncio.run(main())
    with pytest.raises(PadimEdgeError, match="expected `free` or `software`"):
        CameraSource(CameraConfig(name="c", trigger="hardware"))


PROGRAM = """
import asyncio, sys
from padim_edge_line.config import CameraConfig
from padim_edge_line.sources.camera_process import CameraProcess

async def main():
    options = {"log": sys.argv[1], "frames": 3, "then": sys.argv[2]}
    process = await CameraProcess.opened(CameraConfig(name="c", camera="faulty_camera:camera", options=options))
    print("open", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "fault",
    [
        "hang",
        pytest.param("deaf", marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children")),
    ],
)
def test_the_process_of_a_camera_dies_with_the_service(tmp_path: Path, fault: str) -> None:
    log = tmp_path / "log"
    service = subprocess.Popen([sys.executable, "-c", PROGRAM, str(log), fault], stdout=subprocess.PIPE)
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == b"open\n"
        asyncio.run(eventually(lambda: log.read_text().count("frame") == 3))
        assert len(alive(log)) == 1
        service.send_signal(signal.SIGKILL)
        asyncio.run(eventually(lambda: not alive(log)))
    finally:
        service.kill()
        service.communicate()
