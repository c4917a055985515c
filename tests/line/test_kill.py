"""A watching process that is killed at random moments: each image has exactly one row in the end."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import drawn_images
import golden
import pytest
from line.watch_process import Watch, last, until_killed

from padim_edge_line.record import Reader
from padim_edge_line.record.checking import check


def names(folder: Path) -> Counter[str]:
    reader = Reader(folder)
    try:
        assert not check(reader).broken
        return Counter(row.name for row in reader.rows())
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("judged", "files", "kills"),
    [
        ("move", 100, 2),
        pytest.param("keep", 1000, 20, marks=pytest.mark.slow),
        pytest.param("move", 1000, 20, marks=pytest.mark.slow),
        pytest.param("delete", 1000, 20, marks=pytest.mark.slow),
    ],
)
def test_each_image_has_one_row_whenever_the_process_is_killed(
    tmp_path: Path, judged: str, files: int, kills: int
) -> None:
    source, images, line = tmp_path / "made.png", tmp_path / "in", tmp_path / "line"
    drawn_images.good(0).save(source)
    (images / "sub").mkdir(parents=True)
    expected = {f"sub/{number:05}.png" if number % 5 == 0 else f"{number:05}.png" for number in range(files)}
    for name in sorted(expected):
        shutil.copy(source, images / name)
    options = ["--judged", judged, *(["--move-to", str(tmp_path / "out")] if judged == "move" else [])]
    pick = random.Random(files)
    for _ in range(kills):
        with Watch(images, golden.WHOLE, line, options) as watch:
            until_killed(watch, last(line) + pick.randint(1, files // (kills + 1)), pick)
    with Watch(images, golden.WHOLE, line, options) as watch:
        watch.until(files)
        if judged != "keep":
            watch.until(files)
            while any(images.rglob("*.png")):
                assert watch.process.poll() is None
        watch.stop()
    found = names(line)
    assert set(found) == expected
    assert set(found.values()) == {1}
    if judged == "move":
        assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")} == expected
