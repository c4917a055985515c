"""Drift on a running line: it is learned from good images, shown on the board, told once, and outlives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_line import FITTED, exported, line_config
from lines import eventually, running
from PIL import Image
from small_models import weave

from padim_edge_line.arrival import Arrival
from padim_edge_line.drift import Drift
from padim_edge_line.health import FAILING, STARTING, WORKING, Health
from padim_edge_line.line import Line

BASELINE = 40
IMAGES = weave(FITTED + 30)[FITTED:]

pytestmark = pytest.mark.slow  # a model is exported


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("monitor", "watching"):
        monkeypatch.setattr(f"padim_edge_line.drift.{module}.IMAGES", BASELINE)


def taken(image: Image.Image, number: int, gain: float = 1.0) -> np.ndarray:
    """The image with a flicker of the lamp that is another one for each number."""
    flicker = 0.01 * np.random.default_rng(number).standard_normal()
    return np.rint(gain * (1 + flicker) * np.asarray(image.convert("RGB"))).clip(0, 255).astype(np.uint8)


async def judge(line: Line, numbers: Sequence[int], gain: float = 1.0) -> None:
    for number in numbers:
        pixels = taken(IMAGES[number % len(IMAGES)], number, gain)
        await line.judge(Arrival(source="test", name=str(number), image=pixels, product="part"))


def state(line: Line) -> Health:
    (found,) = [part for part in line.board.parts() if part.kind == "drift"]
    return found


def watched(line: Line) -> Drift:
    drift = line.drift or Drift(line)
    line.drift = drift
    drift.model(line.products.get("part"))
    return drift


def test_it_learns_tells_once_and_outlives_a_restart(model: Path, tmp_path: Path) -> None:
    config = line_config(tmp_path, model)

    async def first() -> None:
        async with running(config) as line:
            watched(line)
            assert state(line).state == STARTING
            await judge(line, range(2 * BASELINE))
            await eventually(lambda: state(line).state == WORKING)
            assert state(line).counts == {"learned": BASELINE}

    async def second() -> list[Any]:
        async with running(config) as line:
            drift, told = watched(line), []
            assert state(line).state == WORKING

            async def listen() -> None:
                nonlocal told
                async for event in line.listen():
                    told += [event.data] if event.kind == "drift" else []

            task = asyncio.create_task(listen())
            await judge(line, range(1000, 1060), 0.97)
            await eventually(lambda: told)
            task.cancel()
            assert (state(line).state, state(line).sentence) == (FAILING, told[0]["sentence"])
            assert len(drift.changes("part")) == 1
            drift.restart("part")
            assert (state(line).state, drift.changes("part")) == (STARTING, ())
            return told

    asyncio.run(first())
    told = asyncio.run(second())
    assert [(each["product"], each["kind"], each["over"]) for each in told] == [("part", "light", False)]
    assert "the light has become darker" in told[0]["sentence"]


def test_a_state_of_another_model_or_a_torn_one_begins_a_new_baseline(model: Path, tmp_path: Path) -> None:
    config = line_config(tmp_path, model)

    async def inside() -> None:
        async with running(config) as line:
            for content in (
                "no JSON",
                "{}",
                '{"model": "other", "grid": [2, 2], "first": [], "baseline": null, "lasting": []}',
            ):
                await asyncio.wrap_future(line.record.set("drift:part", content))
                watched(line)
                assert state(line).counts == {"learned": 0}

    asyncio.run(inside())


def test_a_missed_defect_leaves_the_baseline(model: Path, tmp_path: Path) -> None:
    config = line_config(tmp_path, model)

    async def inside() -> None:
        async with running(config) as line:
            drift = watched(line)
            await judge(line, range(5))
            await eventually(lambda: state(line).counts["learned"] == 5)
            row = line.record.reader().row(3)
            assert row is not None
            drift.marked("part", row.time, "missed")
            drift.marked("other", row.time, "missed")
            await judge(line, [5])
            await eventually(lambda: state(line).counts["learned"] == 5)

    asyncio.run(inside())
