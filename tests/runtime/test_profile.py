"""Time of each stage: counted across threads, told in a table and one sentence, and on stderr only."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from pathlib import Path

import drawn_images
import pytest
from typer.testing import CliRunner, Result

from padim_edge_runtime.cli import app
from padim_edge_runtime.profile import STAGES, Clock, Profile, bottleneck, table

NONE = dict.fromkeys(STAGES, 0.0)

IDEAL = Profile(
    images=100,
    wall=2.0,
    device="cpu",
    workers=2,
    cores=2,
    processor=3.9,
    busy={**NONE, "decode": 1.4, "resize": 0.4, "comparison": 0.1, "model": 1.9, "regions": 0.1, "output": 0.1},
    computing={**NONE, "decode": 1.4, "resize": 0.4, "comparison": 0.1, "model": 1.9, "regions": 0.1, "output": 0.1},
)
"""Both cores computed all the time."""


def changed(*, busy: dict[str, float], computing: dict[str, float], **others: float | str) -> Profile:
    return dataclasses.replace(
        IDEAL,
        **others,
        busy={**IDEAL.busy, **busy},
        computing={**IDEAL.computing, **computing},  # type: ignore[arg-type]
    )


def test_stages_of_several_threads_are_added_up() -> None:
    clock = Clock()

    def work() -> None:
        for _ in range(50):
            with clock.stage("decode"):
                time.sleep(0.001)
            with clock.stage("resize"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = clock.profile(50, "cpu")
    assert found.busy["decode"] >= 4 * 50 * 0.001
    assert found.computing["decode"] < found.busy["decode"], "sleeping is not computing"
    assert found.busy["resize"] < found.busy["decode"]
    assert found.busy["model"] == 0
    assert found.wall < found.busy["decode"], "they overlapped"
    assert found.parallel > 1
    assert found.rate == pytest.approx(50 / found.wall)


def test_a_stage_that_fails_counts_too() -> None:
    clock = Clock()

    def fail() -> None:
        with clock.stage("decode"):
            time.sleep(0.01)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert clock.profile(1, "cpu").busy["decode"] >= 0.01


def test_the_table_holds_every_stage_and_adds_up() -> None:
    lines = table(IDEAL)
    text = "\n".join(lines)
    assert "100 images in 2.00 s: 50.0 images/s; 2 threads" in lines[0]
    for stage, name in STAGES.items():
        (line,) = (line for line in lines if re.match(rf"  {name} ", line))
        seconds, each, share = line.split()[-4:-1] if line.endswith("%") else line.split()[-3:]
        assert float(seconds) == pytest.approx(IDEAL.busy[stage], abs=1e-3)
        assert float(each) == pytest.approx(10 * IDEAL.busy[stage], abs=1e-2)
        assert float(share) == pytest.approx(100 * IDEAL.busy[stage] / 4.0, abs=0.1)
    assert re.search(r"all of them +4\.000 +40\.00 +100\.0 %", text)
    assert re.search(r"threads waiting +0\.100 ", text)
    assert "in parallel: 2.00 " in text
    assert "98 % of 2 cores" in text
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (IDEAL, "the processor, which was in full use; model takes most of the time (48 %)"),
        (changed(device="cuda", processor=1.0, busy={}, computing={}), "the device; the model ran on cuda for 95 %"),
        (
            changed(device="cuda", busy={"decode": 3.0, "model": 0.4}, computing={"decode": 3.0, "model": 0.1}),
            "the processor, which was in full use; read and decode takes most",
        ),
        (changed(processor=1.0, busy={"output": 1.5}, computing={}), "the output; whatever reads it"),
        (changed(processor=1.2, busy={"decode": 2.0}, computing={"decode": 0.2}), "the files; decoding stood still"),
        (
            changed(
                processor=1.5,
                busy={"decode": 2.8, "resize": 0.8, "comparison": 0.2, "regions": 0.2, "model": 3.8},
                computing={},
            ),
            "other programs on this machine, which had the processor 50 % of the time; model takes most",
        ),
        (changed(processor=1.5, busy={}, computing={}), "none that stands out; model takes most"),
        (changed(processor=1.5, images=7, busy={}, computing={}), "none that so few images would show"),
    ],
)
def test_the_bottleneck_is_named_in_one_sentence(profile: Profile, expected: str) -> None:
    assert bottleneck(profile).startswith(expected)


@pytest.mark.parametrize("seconds", [0.0, 1e-12])
def test_a_run_over_nothing_is_told_without_dividing_by_it(seconds: float) -> None:
    profile = dataclasses.replace(IDEAL, images=0, wall=seconds, busy=NONE, computing=NONE)
    assert "0 images in 0.00 s" in table(profile)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    for i in range(9):
        drawn_images.good(i).save(tmp_path / "parts" / f"{i}.png")
    (tmp_path / "parts" / "broken.png").write_bytes(b"")
    return tmp_path / "parts"


def infer(golden: Path, folder: Path, device: str, *arguments: str) -> Result:
    result = CliRunner().invoke(app, ["infer", str(golden), str(folder), "--device", device, *arguments])
    assert result.exit_code == 1, result.output  # one is broken
    return result


def test_the_profile_goes_to_stderr_and_leaves_the_lines_alone(
    golden: Path, folder: Path, device: str, tmp_path: Path
) -> None:
    plain = infer(golden, folder, device, "--json")
    profiled = infer(golden, folder, device, "--json", "--profile", "--heatmaps", str(tmp_path / "heat"))
    lines = [[json.loads(line) for line in each.stdout.splitlines()] for each in (plain, profiled)]
    assert [{**line, "milliseconds": 0} for line in lines[0]] == [{**line, "milliseconds": 0} for line in lines[1]]
    assert len(lines[0]) == 10
    assert "stage" not in plain.stderr
    assert re.search(r"10 images in [\d.]+ s: [\d.]+ images/s; \d+ threads", profiled.stderr)
    assert "bottleneck: " in profiled.stderr
    for name in STAGES.values():
        (line,) = (line for line in profiled.stderr.splitlines() if line.startswith(f"  {name} "))
        assert float(line.removeprefix(f"  {name} ").split()[0]) >= 0
    (overlay,) = (line for line in profiled.stderr.splitlines() if line.startswith("  overlay "))
    assert float(overlay.split()[1]) > 0


def test_every_run_ends_with_its_images_a_second(golden: Path, folder: Path, device: str) -> None:
    last = infer(golden, folder, device).stderr.splitlines()[-1]
    assert re.search(rf"; on {device}, [\d.]+ images/s, [\d.]+ ms each in the model$", last)


def test_a_run_without_a_readable_image_has_a_profile_too(golden: Path, folder: Path, device: str) -> None:
    stderr = infer(golden, folder / "broken.png", device, "--profile").stderr
    assert "1 images in " in stderr
    assert "bottleneck: none that so few images would show" in stderr
