"""The line: each arrival becomes one durable row with the right model's verdict, whatever happens around it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from lines import config_of, drawn, eventually, pictures, running
from PIL import Image

from padim_edge_artifact import PadimEdgeError
from padim_edge_line import judging
from padim_edge_line.arrival import Arrival
from padim_edge_line.errors import BusyError, LaterError, StoppingError
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.line import Line
from padim_edge_line.loading import STATE
from padim_edge_line.products import MODEL
from padim_edge_line.record import Filters
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.inspection import Inspection


def arrival(number: int, **changes: Any) -> Arrival:
    found = {"source": "test", "name": f"image {number}", "image": drawn(number), "product": "whole", **changes}
    return Arrival(**found)


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn(number)).save(file, "PNG")
    return file.getvalue()


def run(folder: Path, work: Any, **parts: Any) -> None:
    async def inside() -> None:
        async with running(config_of(folder, **parts)) as line:
            await work(line)

    asyncio.run(inside())


def test_verdicts_are_those_of_the_detector(tmp_path: Path) -> None:
    """A file, its bytes from the network, and its pixels get the score that `Detector.inspect` gives."""
    files = pictures(tmp_path / "images", 3)
    detectors = {"whole": Detector.load(golden.WHOLE), "cropped": Detector.load(golden.CROPPED)}

    async def work(line: Line) -> None:
        for product, detector in detectors.items():
            for number, path in enumerate(files):
                expected = detector.inspect(path)
                for image in (path, path.read_bytes(), drawn(number)):
                    distrusted = isinstance(image, bytes)
                    row = await line.judge(arrival(number, image=image, product=product, distrusted=distrusted))
                    assert (row.score, row.p_value, row.verdict) == (
                        expected.score,
                        expected.p_value,
                        expected.verdict,
                    )
                    assert row.threshold == expected.threshold
                    assert [(each.x, each.y, each.width, each.height) for each in row.regions] == [
                        each.box for each in expected.regions[: judging.MOST_REGIONS]
                    ]
                    assert line.record.reader().row(row.seq) == row, "durable when it is told"

    run(tmp_path, work)


def test_an_image_that_is_known_gets_its_first_row(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        first = await line.judge(arrival(1, key=b"k" * 16))
        again = await asyncio.gather(*(line.judge(arrival(2, key=b"k" * 16)) for _ in range(5)))
        assert {row.seq for row in again} == {first.seq}
        twins = await asyncio.gather(*(line.judge(arrival(3, key=b"t" * 16)) for _ in range(5)))
        assert len({row.seq for row in twins}) == 1
        assert line.record.reader().last() == 2

    run(tmp_path, work)


def test_a_caller_that_goes_away_loses_nothing(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        task = asyncio.create_task(line.judge(arrival(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: line.record.reader().last() == 1)
        await eventually(lambda: line.waiting == 0)

    run(tmp_path, work)


def test_too_many_waiting_images_are_refused(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        tasks = [asyncio.create_task(line.judge(arrival(i), wait=False)) for i in range(8)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each for each in done if isinstance(each, BusyError)]
        assert len(refused) == 5
        assert "3 images are waiting already" in str(refused[0])
        assert (await line.judge(arrival(9))).seq == 4
        assert line.waiting == 0

    run(tmp_path, work, judging={"most_waiting": 3})


@pytest.mark.parametrize("image", [b"no image", b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_an_unreadable_image_has_its_row(tmp_path: Path, image: bytes) -> None:
    async def work(line: Line) -> None:
        row = await line.judge(arrival(1, image=image, distrusted=True))
        assert row.verdict == "unreadable"
        assert row.score is None
        assert row.error
        assert (await line.judge(arrival(2))).seq == 2

    run(tmp_path, work)


def test_no_sentence_holds_a_path(tmp_path: Path) -> None:
    secret = tmp_path / "a-secret-folder"
    secret.mkdir()
    (secret / "x.png").write_bytes(b"nothing")

    async def work(line: Line) -> None:
        for image in (secret / "x.png", secret / "none.png"):
            row = await line.judge(arrival(1, image=image, name="x.png"))
            assert row.verdict == "unreadable"
            assert "a-secret-folder" not in json.dumps(row.to_json())

    run(tmp_path, work)


def test_a_change_of_recipe_concerns_later_images_only(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        digests = {name: line.products.get(name).digest for name in line.products.names}
        tasks = []
        for number in range(60):
            if number % 10 == 5:
                await line.choose("cropped" if number % 20 == 5 else "whole")
            tasks.append(asyncio.create_task(line.judge(arrival(number, product=line.products.active))))
            expected = "cropped" if number % 20 >= 5 and number % 20 < 15 else "whole"
            tasks[-1].set_name(expected)
        for task in tasks:
            row = await task
            assert row.product == task.get_name()
            assert row.model == digests[row.product]
        with pytest.raises(PadimEdgeError, match="there is no product 'other', expected one of whole, cropped"):
            await line.choose("other")

    run(tmp_path, work)


def test_the_chosen_product_survives_a_restart(tmp_path: Path) -> None:
    async def first(line: Line) -> None:
        assert line.products.active == "whole"
        await line.choose("cropped")

    async def second(line: Line) -> None:
        assert line.products.active == "cropped"

    run(tmp_path, first)
    run(tmp_path, second)


def test_sinks_read_rows_in_order_and_wait_for_more(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        found: list[int] = []

        async def sink() -> None:
            async for row in line.rows_after(0):
                found.append(row.seq)  # noqa: PERF401 - as they come

        task = asyncio.create_task(sink())
        for start in (0, 30):
            await asyncio.gather(*(line.judge(arrival(start + i)) for i in range(30)))
            await eventually(lambda start=start: len(found) == start + 30)
        assert found == list(range(1, 61))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(tmp_path, work)


def test_listeners_hear_of_rows_marks_and_products(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        heard: list[str] = []

        async def listener() -> None:
            async for event in line.listen():
                json.dumps(event.data)
                heard.append(event.kind)

        task = asyncio.create_task(listener())
        await asyncio.sleep(0)
        row = await line.judge(arrival(1))
        await line.mark(row.seq, "false alarm", "me")
        await line.choose("cropped")
        await eventually(lambda: {"row", "mark", "product"} <= set(heard))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(tmp_path, work)


class Broken:
    """A detector whose device has failed."""

    device = "cpu"
    threads = None

    def __init__(self, detector: Detector) -> None:
        self.metadata = detector.metadata

    def __call__(self, *_: Any, **__: Any) -> Any:
        from padim_edge_artifact import DeviceError

        raise DeviceError("the device 'cpu' failed while it ran")


def test_a_failed_device_is_told_and_its_model_loaded_anew(tmp_path: Path) -> None:
    from dataclasses import replace

    def state(line: Line) -> str:
        return next(part.state for part in line.board.parts() if (part.kind, part.name) == ("model", "whole"))

    async def work(line: Line) -> None:
        whole = line.products.get("whole")
        line.products.put(replace(whole, detector=Broken(whole.detector)))  # type: ignore[arg-type]
        row = await line.judge(arrival(1))
        assert row.verdict == "failed"
        assert "failed while it ran" in (row.error or "")
        assert state(line) == FAILING
        assert not line.board.ready()
        with pytest.raises(LaterError):
            await line.judge(arrival(2, patient=True))
        assert line.record.reader().last() == 1, "an image that can wait has no row yet"
        await eventually(lambda: state(line) == WORKING)
        assert line.board.ready()
        assert (await line.judge(arrival(3))).score is not None

    run(tmp_path, work)


def test_a_promoted_model_takes_over_between_two_images(tmp_path: Path) -> None:
    other = golden.copy(golden.CROPPED, tmp_path)
    setting = json.dumps({"model": str(other)})

    async def work(line: Line) -> None:
        before = line.products.get("whole").digest
        line.record.set(MODEL + "whole", setting).result(10)
        after = line.products.get("cropped").digest
        await eventually(lambda: line.products.get("whole").digest == after)
        row = await line.judge(arrival(1))
        assert row.model == after != before
        await eventually(lambda: line.record.reader().setting(STATE + "whole"))
        state = json.loads(line.record.reader().setting(STATE + "whole") or "")
        assert (state["state"], state["digest"], state["setting"]) == ("promoted", after, setting)

        line.record.set(MODEL + "whole", json.dumps({"model": str(tmp_path / "none.onnx")})).result(10)
        await eventually(lambda: '"failed"' in (line.record.reader().setting(STATE + "whole") or ""))
        assert line.products.get("whole").digest == after, "the model before goes on"
        assert (await line.judge(arrival(2))).score is not None

    run(tmp_path, work)


def test_alarms_are_kept_with_overlay_and_good_ones_now_and_then(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        row = await line.judge(arrival(1))
        assert row.verdict != "good"
        reader = line.record.reader()
        await eventually(lambda: reader.overlay(row.seq))  # drawn after the row is on its way
        image, overlay = reader.image(row.seq), reader.overlay(row.seq)
        assert image is not None
        assert overlay is not None
        with Image.open(image) as file:
            assert np.array_equal(np.asarray(file), drawn(1)), "kept without loss"
        assert overlay.read_bytes().startswith(b"\xff\xd8\xff"), "JPEG"
        picture = line.preview("whole")
        assert picture is not None
        assert (picture.key, picture.content) == (row.key, overlay.read_bytes())
        assert line.preview("cropped") is None
        posted = encoded(2)
        row = await line.judge(arrival(2, image=posted, distrusted=True))
        kept = reader.image(row.seq)
        assert kept is not None
        assert kept.read_bytes() == posted

    run(tmp_path, work)


def test_no_answer_waits_for_a_picture_and_few_pictures_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, begun = threading.Event(), []
    real = judging.small_overlay

    def held(inspection: Inspection) -> bytes:
        begun.append(threading.current_thread().name)
        assert free.wait(60)
        return real(inspection)

    monkeypatch.setattr(judging, "small_overlay", held)

    async def work(line: Line) -> None:
        rows = [await line.judge(arrival(number)) for number in (1, 2)]
        assert all(row.verdict != "good" and row.image for row in rows)
        assert line.preview("whole") is None, "they are answered before they are drawn"
        third = asyncio.ensure_future(line.judge(arrival(3)))
        await eventually(lambda: any(name.startswith("judge") for name in begun))
        assert not third.done(), "a third one waits, so that few images are in memory"
        free.set()
        last = await third
        for row in (*rows, last):
            await eventually(lambda row=row: line.record.reader().overlay(row.seq))
        picture = line.preview("whole")
        assert picture is not None
        assert picture.key == last.key, "a picture that was drawn late takes no newer one's place"

    run(tmp_path, work)


def test_one_of_so_many_good_images_is_wanted() -> None:
    from padim_edge_line.row import Row

    base = {"seq": 0, "time": 0, "source": "", "name": "", "part": None, "product": "", "model": "", "revision": 1}
    rows = [
        Row(**base, verdict="good", key=np.random.default_rng(i).bytes(16))  # type: ignore[arg-type]
        for i in range(4000)
    ]
    assert 10 <= sum(judging.wanted(each, 200) for each in rows) <= 35
    assert not any(judging.wanted(each, 0) for each in rows)
    assert all(judging.wanted(each, 1) for each in rows)


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    async def inside() -> None:
        async with running(config_of(tmp_path)) as line:
            tasks = [asyncio.create_task(line.judge(arrival(i))) for i in range(20)]
            await asyncio.sleep(0)
        rows = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            not isinstance(each, BaseException) or isinstance(each, (StoppingError, PadimEdgeError)) for each in rows
        )
        with pytest.raises(StoppingError):
            await line.judge(arrival(99))

    asyncio.run(inside())


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    async def work(line: Line) -> None:
        row = await line.judge(arrival(1, name="a\udcff\x1b[2J" + "x" * 999, part="\ud800"))
        assert len(row.name) <= 400
        assert line.record.reader().row(row.seq) == row
        assert list(line.record.reader().rows(filters=Filters(part=row.part))) == [row]

    run(tmp_path, work)
