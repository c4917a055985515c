"""A watched folder: each image has one row, complete files only, and nothing is lost when things go wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from line.lines import config_of, eventually, pictures, running

from padim_edge_line.config import FolderConfig
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.line import Line
from padim_edge_line.row import Row
from padim_edge_line.sources.folder import FolderSource


@asynccontextmanager
async def watching(folder: Path, **options: Any) -> AsyncIterator[Line]:
    """A line that watches `folder / "in"`."""
    (folder / "in").mkdir(exist_ok=True)
    async with running(config_of(folder)) as line, watched(line, folder, **options):
        yield line


@asynccontextmanager
async def watched(line: Line, folder: Path, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    source = FolderSource(FolderConfig(name="folder", path=folder / "in", **options))
    task = asyncio.create_task(source.run(line))
    try:
        yield task
    finally:
        done = task.done()
        task.cancel()
        found = (await asyncio.gather(task, return_exceptions=True))[0]
        assert not done, found


def rows(line: Line) -> list[Row]:
    return list(line.record.reader().rows())


def names(line: Line) -> list[str]:
    return [row.name for row in rows(line)]


async def state_is(line: Line, state: str, words: str = "") -> None:
    def found() -> bool:
        parts = [part for part in line.board.parts() if part.kind == "source"]
        return any(part.state == state and words in part.sentence for part in parts)

    await eventually(found)


async def settled(line: Line) -> None:
    """Wait until nothing is left to do."""
    await asyncio.sleep(0.3)
    await eventually(lambda: line.waiting == 0)


def test_what_is_there_and_what_comes_is_judged_in_natural_order(tmp_path: Path) -> None:
    async def main() -> None:
        images = pictures(tmp_path / "made", 12)
        folder = tmp_path / "in"
        (folder / "sub").mkdir(parents=True)
        for number, image in zip((10, 9, 2, 1), images, strict=False):
            shutil.copy(image, folder / f"img{number}.png")
        shutil.copy(images[4], folder / "sub" / "img0.png")
        (folder / "note.txt").write_text("no image")
        (folder / ".hidden.png").write_bytes(b"")
        async with watching(tmp_path) as line:
            await eventually(lambda: len(rows(line)) == 5)
            assert names(line) == ["img1.png", "img2.png", "img9.png", "img10.png", "sub/img0.png"]
            shutil.copy(images[5], folder / "new.png")
            (folder / "deep" / "er").mkdir(parents=True)
            shutil.copy(images[6], folder / "deep" / "er" / "first.png")
            images[7].replace(folder / "renamed.png")
            await eventually(lambda: len(rows(line)) == 8)
            await settled(line)
            assert set(names(line)[5:]) == {"new.png", "deep/er/first.png", "renamed.png"}
            assert {row.product for row in rows(line)} == {"whole"}
            await state_is(line, WORKING)

    asyncio.run(main())


def test_a_file_is_judged_when_it_is_complete(tmp_path: Path) -> None:
    async def main() -> None:
        content = pictures(tmp_path / "made", 1)[0].read_bytes()
        async with watching(tmp_path, settle_s=0.3) as line:
            with (tmp_path / "in" / "slow.png").open("wb") as file:
                for start in range(0, len(content), len(content) // 5 + 1):
                    file.write(content[start : start + len(content) // 5 + 1])
                    file.flush()
                    await asyncio.sleep(0.1)
                    assert not rows(line)
            await eventually(lambda: rows(line))
            await settled(line)
            (row,) = rows(line)
            assert row.score is not None

    asyncio.run(main())


def test_a_changed_file_is_a_new_image_and_an_unreadable_one_has_one_row(tmp_path: Path) -> None:
    async def main() -> None:
        images = pictures(tmp_path / "made", 2)
        target = tmp_path / "in" / "image.png"
        async with watching(tmp_path, settle_s=0.1) as line:
            shutil.copy(images[0], target)
            await eventually(lambda: len(rows(line)) == 1)
            shutil.copy(images[1], target)
            await eventually(lambda: len(rows(line)) == 2)
            os.utime(target, ns=(0, target.stat().st_mtime_ns))  # read, not changed
            (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
            await eventually(lambda: len(rows(line)) == 3)
            await settled(line)
            assert [row.verdict for row in rows(line)][2:] == ["unreadable"]
        async with watching(tmp_path) as line:
            await state_is(line, WORKING)
            await settled(line)
            assert len(rows(line)) == 3

    asyncio.run(main())


@pytest.mark.parametrize("judged", ["move", "delete"])
def test_judged_files_go_and_those_of_an_earlier_run_too(tmp_path: Path, judged: str) -> None:
    async def main() -> None:
        options = {"judged": judged, "move_to": tmp_path / "out" if judged == "move" else None}
        pictures(tmp_path / "in", 3)
        async with watching(tmp_path) as line:  # keeps them, as if it had been killed before they were moved
            await eventually(lambda: len(rows(line)) == 3)
        async with watching(tmp_path, **options) as line:
            pictures(tmp_path / "in" / "sub", 2)
            await eventually(lambda: not list((tmp_path / "in").rglob("*.png")))
            assert len(rows(line)) == 5
        left = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/*.png"))
        expected = ["00000.png", "00001.png", "00002.png", "sub/00000.png", "sub/00001.png"]
        assert left == (expected if judged == "move" else [])

    asyncio.run(main())


def test_a_file_that_cannot_be_moved_is_told_and_not_judged_again(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "out").write_text("in the way")
        async with watching(tmp_path, judged="move", move_to=tmp_path / "out") as line:
            pictures(tmp_path / "in", 2)
            await state_is(line, FAILING, "cannot be moved")
            await eventually(lambda: len(rows(line)) == 2)
            await settled(line)
            assert len(rows(line)) == 2
            assert not any(str(tmp_path) in part.sentence for part in line.board.parts())

    asyncio.run(main())


@pytest.mark.parametrize("poll", [False, True])
def test_a_folder_that_vanishes_is_told_and_comes_back(tmp_path: Path, poll: bool) -> None:
    async def main() -> None:
        async with watching(tmp_path, poll=poll) as line:
            await state_is(line, WORKING)
            (tmp_path / "in").rename(tmp_path / "away")
            await state_is(line, FAILING, "cannot be read")
            pictures(tmp_path / "away", 2)
            (tmp_path / "away").rename(tmp_path / "in")
            await eventually(lambda: len(rows(line)) == 2)
            await state_is(line, WORKING)
            shutil.rmtree(tmp_path / "in")
            pictures(tmp_path / "in", 1, first=7)
            await eventually(lambda: len(rows(line)) == 3)

    asyncio.run(main())


def test_the_product_is_the_one_of_the_moment_or_of_the_source(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "in").mkdir()
        async with running(config_of(tmp_path)) as line:
            await line.choose("cropped")
            async with watched(line, tmp_path):
                pictures(tmp_path / "in", 1)
                await eventually(lambda: len(rows(line)) == 1)
            async with watched(line, tmp_path, product="whole"):
                pictures(tmp_path / "in", 1, first=1)
                await eventually(lambda: len(rows(line)) == 2)
            assert [row.product for row in rows(line)] == ["cropped", "whole"]

    asyncio.run(main())


def test_many_files_at_once_have_one_row_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with watching(tmp_path) as line:
            await asyncio.to_thread(pictures, tmp_path / "in", 120)
            await eventually(lambda: len(rows(line)) >= 120)
            await settled(line)
            assert sorted(names(line)) == [f"{number:05}.png" for number in range(120)]

    asyncio.run(main())
