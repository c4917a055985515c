"""Machinery of `python -m benchmarks.timing`; no method is timed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import plots, redraw, report, timing
from benchmarks.images import DRAWN, Source, dataset, probe_image
from benchmarks.rivals import Missing, anomalib, isolated, isolated_environ, page, reason
from benchmarks.rivals.page import FLOOR, OURS, Result, Row
from benchmarks.rivals.table import METHODS, made
from benchmarks.rivals.turns import SLOW, Turn, Worker, measure, summarise

pytestmark = pytest.mark.slow

WORKER = [sys.executable, "-m", "benchmarks.timing_worker"]
WHOLE = {"resize": [32, 32], "crop": [24, 16], "interpolation": "bicubic"}


class Clock:
    """Neighbours whose shares are known beforehand, then none."""

    def __init__(self, shares: list[float]) -> None:
        self.shares = shares

    def share(self) -> float:
        return self.shares.pop(0) if self.shares else 0.0


class Stub:
    """A worker that writes down when it was asked, and takes the time that it says it takes."""

    def __init__(self, name: str, seconds: float, log: list[tuple[str, int]]) -> None:
        self.name, self.seconds, self.log, self.count = name, seconds, log, 0

    def ask(self, do: str, **arguments: float) -> dict[str, float]:
        if do == "warm_up":
            return {"seconds": self.seconds}
        assert do == "turn"
        assert arguments["rest"] > 0
        self.log.append((self.name, int(arguments["lead"])))
        self.count += 1
        return {"frame": float(self.count), "image": self.count + 0.5}


def summary(median: float) -> timing.Round:
    turns = [Turn(median * factor, median * factor + 5) for factor in (0.9, 1, 1, 1.2)]
    return summarise(turns)


def row(name: str, median: float, *, images: int = 209, shipped: float = 138.0) -> Row:
    method = METHODS[name]
    precision = "bf16" if name == "anomalib-openvino" else ""
    return Row(name, method.label, method.kind, images, summary(median), 45.0, 180.0, shipped, precision, ("A note.",))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", np.zeros((50, 40, 3), np.uint8))
    return tmp_path / "image.npy"


def test_worker_answers_line_by_line_until_the_input_ends(image: Path) -> None:
    with Worker(WORKER, os.environ) as worker:
        opened = worker.ask(
            "open",
            engine="idle",
            folder=str(image.parent),
            image=str(image),
            preprocessing=WHOLE,
            threads=1,
            options={},
        )
        assert opened["bytes"] == 0
        assert opened["versions"]["numpy"] == np.__version__
        worker.ask("warm_up", calls=3, seconds=1)
        turn = Turn(**worker.ask("turn", rest=0.0, lead=1))
        assert 0 <= turn.frame < turn.image  # the second one resizes
        assert worker.ask("processor")["seconds"] > 0
        memory = worker.ask("memory")
        if sys.platform == "linux":
            assert memory["private"] < 20
            assert 0 <= memory["peak"] < 40
    assert worker._process.returncode == 0


def test_a_worker_says_why_it_failed_and_lives_on(image: Path) -> None:
    with Worker(WORKER, os.environ) as worker:
        with pytest.raises(Missing, match="it failed"):
            worker.ask(
                "open",
                engine="bare",
                folder=str(image.parent),
                image=str(image),
                preprocessing=WHOLE,
                threads=1,
                options={},
            )
        assert worker.ask("processor")["seconds"] > 0


def test_a_dead_worker_says_its_last_words() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('Error: it is over')"]
    with Worker(command, os.environ) as worker, pytest.raises(Missing, match=r"ended .*it is over"):
        worker.ask("processor")


def test_the_worker_needs_neither_torch_nor_onnxruntime_before_an_engine_does() -> None:
    code = (
        "import sys, benchmarks.timing_worker, padim_edge_runtime.image_files; "
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime', 'padim_edge'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fast_methods_share_rounds_and_slow_ones_come_up_evenly_among_them() -> None:
    log: list[tuple[str, int]] = []
    workers = {name: Stub(name, seconds, log) for name, seconds in (("a", 0.2), ("b", 0.1), ("slow", 2 * SLOW))}
    measured = measure(workers, rounds=12, lead=2, patience=60, seconds_each=4 * 4 * SLOW, neighbours=lambda: Clock([]))
    assert {name: len(turns) for name, turns in measured.turns.items()} == {"a": 12, "b": 12, "slow": 3}
    assert measured.rounds == measured.used == 15
    assert {lead for name, lead in log if name == "slow"} == {0}
    assert {lead for name, lead in log if name != "slow"} == {2}
    names = [name for name, _ in log]
    gaps = np.diff([i for i, name in enumerate(names) if name == "slow"])
    assert (gaps >= 7).all()  # three or more rounds of the two others between
    rounds = [tuple(pair) for pair in zip(*[iter(name for name in names if name != "slow")] * 2, strict=True)]
    assert {frozenset(pair) for pair in rounds} == {frozenset("ab")}  # each round has everybody once
    assert set(rounds) == {("a", "b"), ("b", "a")}  # in an order that changes


def test_rounds_of_few_fast_methods_are_long_enough_to_see_the_neighbours() -> None:
    workers = {"a": Stub("a", 0.01, [])}
    measured = measure(workers, rounds=20, lead=2, patience=60, seconds_each=9, neighbours=lambda: Clock([]))
    assert len(measured.turns["a"]) >= 20
    assert measured.rounds < 4


def test_noisy_rounds_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.quiet.time.sleep", lambda _: None)
    shares = [0.0, 0.5, 0.0, 0.0, 0.0]  # the fourth is the wait for quiet after the second
    clock = Clock(shares)
    measured = measure(
        {"a": Stub("a", 0.3, [])}, rounds=3, lead=1, patience=60, seconds_each=9, neighbours=lambda: clock
    )
    assert (measured.rounds, measured.used, measured.others) == (4, 3, 0.0)
    assert [turn.frame for turn in measured.turns["a"]] == [1, 3, 4]


def test_without_quiet_the_quietest_rounds_are_taken() -> None:
    clock = Clock([0.9, 0.2, 0.5, 0.1])
    measured = measure(
        {"a": Stub("a", 0.3, [])}, rounds=4, lead=1, patience=0, seconds_each=9, neighbours=lambda: clock
    )
    assert measured.used == measured.rounds == 4
    assert measured.others == pytest.approx(0.425)


def test_summary() -> None:
    found = summarise([Turn(float(i), 10.0 + i) for i in range(11)])
    assert (found.calls, found.median, found.p10, found.p90) == (11, 5, 1, 9)
    assert (found.image_median, found.image_p10, found.image_p90) == (15, 11, 19)


def test_targets_are_ratios_of_what_was_asked_for() -> None:
    chosen = ["anomalib-onnx", OURS, "SPADE-WR50", FLOOR]
    targets = {target.what: target for target in timing.targets_of([row("anomalib-onnx", 15), row(OURS, 7.5)], chosen)}
    assert targets.keys() == {f"anomalib-onnx / {OURS}", f"SPADE-WR50 / {OURS}", f"{OURS} / {FLOOR}"}
    assert targets[f"anomalib-onnx / {OURS}"].found == 2
    assert targets[f"anomalib-onnx / {OURS}"].reached
    assert targets[f"SPADE-WR50 / {OURS}"].found is None
    assert not targets[f"{OURS} / {FLOOR}"].reached


def test_page_and_figures(tmp_path: Path) -> None:
    methods = [row(FLOOR, 5.7, shipped=11), row(OURS, 7.3), row("anomalib-openvino", 11), row("SPADE-R18", 800)]
    grown = [row(name, 5 + i, images=n) for name in (OURS, "SPADE-R18") for i, n in enumerate((25, 209))]
    quiet = {"rounds": 4, "used": 3, "others_share": 0.01}
    environment = report.Environment("a cpu", 2, 4.0, "Linux", 2, {"numpy": "2"}, "today", "c0ffee", 0.1)
    settings = {
        "command": "python -m benchmarks.timing --rounds 3",
        "source": Source(None, "bottle", 209, None).describe(),
        "left_out": {"anomalib-onnx on 209 images": "uv is not installed"},
        "by_method": quiet,
        "growth": quiet,
    }
    page.write(
        Result(environment, settings, methods, grown, [report.Target("a / b", 2.0, None)]), tmp_path / "timing.json"
    )
    timing.write_pages(page.read(tmp_path / "timing.json"), tmp_path)
    text = (tmp_path / "timing.md").read_text()
    assert "python -m benchmarks.timing --rounds 3\n" in text
    assert "fitted on 209 good images of built-in sample, bottle" in text
    assert "3 of 4 rounds used; other processes took 1.0 % of the processor time in them.\n\n- bare-backbone: A" in text
    assert "| anomalib-openvino (bf16) | 11.00 | 10.23 - 12.54 |" in text
    assert "- anomalib-onnx on 209 images: uv is not installed." in text
    assert "| a / b | at least 2.00 | undefined | not reached |" in text
    assert "- SPADE-R18: A note." in text
    written = json.loads((tmp_path / "timing.json").read_text())
    assert len(written["results"]) == len(methods) + len(grown)
    assert {each["part"] for each in written["results"]} == {"by_method", "growth"}
    page.write(page.read(tmp_path / "timing.json"), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "timing.json").read_bytes()
    for name in ("timing", "growth"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        drawing = (tmp_path / f"{name}.svg").read_text()
        assert drawing.rstrip().endswith("</svg>")
        assert plots.OURS.lower() in drawing


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    first, second = (redraw.redraw(redraw.RESULTS, folder) for folder in folders)
    assert len(first) == 11
    assert [file.relative_to(folders[0]) for file in first] == [file.relative_to(folders[1]) for file in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_tables_without_a_base_have_no_ratios() -> None:
    (line,) = page.by_method([row("VAE", 30)])
    assert line[5:7] == ("-", "-")
    assert len(line) == len(page.COLUMNS)
    (line,) = page.growth([row("VAE", 30)])
    assert len(line) == len(page.GROWTH_COLUMNS)


def test_without_uv_the_reason_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.rivals.shutil.which", lambda _: None)
    with pytest.raises(Missing, match="uv is not installed"):
        isolated(("openvino",), "-V")
    with pytest.raises(Missing, match="uv is not installed"):
        anomalib(tmp_path, tmp_path)


def test_a_rival_that_fails_is_left_out_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: Failed to fetch: `https://packages.example/simple/x/`' >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr("benchmarks.rivals.shutil.which", lambda _: str(uv))
    with pytest.raises(Missing, match="Failed to fetch: `an address") as caught:
        anomalib(tmp_path, tmp_path)
    assert "example" not in str(caught.value)


def test_a_method_that_cannot_be_fitted_says_why(tmp_path: Path) -> None:
    source = Source(tmp_path / "nowhere", "bottle", 5, None)
    with pytest.raises(Missing, match="there is no folder nowhere"):
        made(METHODS["anomalib-onnx"], source, tmp_path, os.environ)


def test_reasons_name_no_folder_and_no_address() -> None:
    text = (
        "Traceback\n  File x\nsome.module.BadError: cannot read /home/me/data/a.onnx from https://host.example/x\n  \n"
    )
    assert reason(text) == "some.module.BadError: cannot read a.onnx from an address"
    assert reason("Missing: no such thing yet.\n") == "no such thing yet"
    assert reason("") == "it said nothing"


def test_an_isolated_environment_does_not_find_ours() -> None:
    kept = isolated_environ({"PYTHONPATH": "x", "VIRTUAL_ENV": "y", "PATH": "z"})
    assert kept == {"PATH": "z"}


def test_the_sample_is_stretched_to_the_number_asked_for() -> None:
    source = Source(None, "bottle", 3, None)
    found = dataset(source)
    assert len(found.good) == 3
    assert source.made_up == 0
    assert Source(None, "bottle", DRAWN + 5, None).made_up == 5
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source
    assert probe_image(source).shape == (900, 900, 3)
